"""Derivatives of every order and mode, in f64 against finite differences."""

import inspect
import subprocess
import sys

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch_support import randn, same

import isonorm
import isonorm.torch as it
from isonorm.torch import _formula

F64 = torch.float64
COS, SIN = randn(7, 3, dtype=F64, seed=20), randn(7, 3, dtype=F64, seed=21)
POSITIONS = torch.tensor([[1, 2, 3, 0, 5], [1, 2, 3, 4, 6], [5, 4, 3, 2, 1]])


def leaf(*shape, seed=0):
    return randn(*shape, dtype=F64, seed=seed, grad=True)


def x_w_b():
    return leaf(3, 5, 8), leaf(8, seed=1), leaf(8, seed=2)


CASES = {
    "rms_norm": (lambda x, w, b: it.rms_norm(x, w, b, eps=1e-5), x_w_b),
    "rms_norm of x": (lambda x: it.rms_norm(x, eps=1e-5, contract="microgpt"), lambda: (leaf(3, 8),)),
    "gemma": (lambda x, w: it.rms_norm(x, w, eps=1e-5, contract="gemma"), lambda: x_w_b()[:2]),
    "layer_norm": (lambda x, w, b: it.layer_norm(x, w, b, eps=1e-5), x_w_b),
    "groups": (lambda x, w, b: it.rms_norm(x, w, b, eps=1e-5, groups=2), x_w_b),
    "window, eps outside": (lambda x, w, b: it.rms_norm(x, w, b, eps=1e-5, contract="paper", window=3), x_w_b),
    "residual": (lambda x, w, b, r: it.rms_norm(x, w, b, eps=1e-5, residual=r), lambda: (*x_w_b(), leaf(3, 5, 8, seed=3))),
    "layer_norm, residual": (
        lambda x, w, b, r: it.layer_norm(x, w, b, eps=1e-5, residual=r, groups=2),
        lambda: (*x_w_b(), leaf(3, 5, 8, seed=3)),
    ),
    "several axes": (
        lambda x, w: it.rms_norm(x, w, eps=1e-5, normalized_shape=(5, 8)),
        lambda: (leaf(3, 5, 8), leaf(5, 8, seed=1)),
    ),
    "rope": (
        lambda x, w: it.rms_norm(x, w, eps=1e-5, rope=it.Rope(COS, SIN, position_axis=1, position_offset=2)),
        lambda: x_w_b()[:2],
    ),
    "rope, positions": (
        lambda x, w: it.rms_norm(x, w, eps=1e-5, rope=it.Rope(COS, SIN, POSITIONS, style="interleaved")),
        lambda: x_w_b()[:2],
    ),
    "qk_norm": (
        lambda q, k, qw, kw: it.qk_norm(q, k, qw, kw, eps=1e-5, rope=it.Rope(COS, SIN)),
        lambda: (leaf(3, 5, 8), leaf(3, 2, 8, seed=1), leaf(8, seed=2), leaf(8, seed=3)),
    ),
    "rms": (it.rms, lambda: (leaf(3, 8),)),
    "rms_penalty": (lambda x: it.rms_penalty(x, 0.3), lambda: (leaf(3, 8),)),
    "rms_norm_backward": (
        lambda dy, x, w: tuple(it.rms_norm_backward(dy, x, w, eps=1e-5)),
        lambda: (leaf(3, 8, seed=4), leaf(3, 8), leaf(8, seed=1)),
    ),
    "layer_norm_backward": (
        lambda dy, x, w, b: tuple(it.layer_norm_backward(dy, x, w, b, eps=1e-5, needs=("dx", "dweight"))),
        lambda: (leaf(3, 8, seed=4), leaf(3, 8), leaf(8, seed=1), leaf(8, seed=2)),
    ),
    "double_backward": (
        lambda dy, x, w, ddx, ddw: tuple(it.double_backward(dy, x, w, ddx=ddx, ddweight=ddw, eps=1e-2, groups=2)),
        lambda: (leaf(2, 8, seed=4), leaf(2, 8), leaf(8, seed=1), leaf(2, 8, seed=5), leaf(8, seed=6)),
    ),
    "the operator": (lambda x, w, b: torch.ops.isonorm.rms_norm(x, w, b, eps=1e-5), x_w_b),
}


def test_every_function_is_here():
    functions = {name for name in it.__all__ if inspect.isfunction(getattr(it, name))}
    assert functions - {"enable", "disable", "enabled", "watch"} <= {name.split(",")[0] for name in CASES}


@pytest.mark.parametrize("case", CASES)
def test_first(case):
    function, inputs = CASES[case]
    modes = {"check_forward_ad": True, "check_batched_grad": case != "the operator"}
    assert gradcheck(function, inputs(), fast_mode=True, **modes)


@pytest.mark.parametrize("case", CASES)
def test_second(case):
    function, inputs = CASES[case]
    modes = {} if case == "the operator" else {"check_fwd_over_rev": True, "check_batched_grad": True}
    assert gradgradcheck(function, inputs(), fast_mode=True, **modes)


def test_third():
    x, w = leaf(2, 8), leaf(8, seed=1)

    def second(x, w):
        (g,) = torch.autograd.grad(it.rms_norm(x, w, eps=1e-5).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(g.pow(2).sum(), (x, w), create_graph=True)

    assert gradcheck(second, (x, w))
    assert gradcheck(
        lambda dy, x, w, ddx: tuple(it.double_backward(dy, x, w, ddx=ddx, eps=1e-5)),
        (leaf(2, 8, seed=2), x, w, leaf(2, 8, seed=3)),
    )


@pytest.mark.parametrize("contract", ["mamba2", "qwen3_next_gated"])
def test_gates(contract):
    """No gate has f64: its formula is checked there, and in f32 the second derivatives are the formula's, bit for bit."""
    options = _formula.Options(0, 0, 0, 2, 0, 1e-5, contract)
    tables = (None, None, None)

    def formula(x, w, b, g):
        return _formula.forward(_formula.Row(x, w, b, g), tables, options)

    assert gradgradcheck(formula, (leaf(3, 8), leaf(8, seed=1), leaf(8, seed=2), leaf(3, 8, seed=3)), fast_mode=True)
    x, w, b, g = leaves = [randn(*s, seed=i, grad=True) for i, s in enumerate(((3, 8), (8,), (8,), (3, 8)))]
    y = it.rms_norm(x, w, b, gate=g, groups=2, eps=1e-5, contract=contract)
    dy = randn(3, 8, seed=5, grad=True)
    first = torch.autograd.grad(y, leaves, dy, create_graph=True)
    got = torch.autograd.grad(sum(t.sum() for t in first), (dy, *leaves), allow_unused=True)
    reference = torch.autograd.grad(formula(x, w, b, g), leaves, dy, create_graph=True)
    expected = torch.autograd.grad(sum(t.sum() for t in reference), (dy, *leaves), allow_unused=True)
    for one, other in zip(got, expected):
        assert same(one, torch.zeros_like(one) if other is None else other)


def test_transforms():
    x, w = randn(4, 3, 16, seed=0), randn(16, seed=1)

    def norm(x, w):
        return it.rms_norm(x, w, eps=1e-5)

    leaves = [x.clone().requires_grad_(), w.clone().requires_grad_()]
    dx, dw = torch.autograd.grad(norm(*leaves).sum(), leaves)
    got = torch.func.grad(lambda x, w: norm(x, w).sum(), argnums=(0, 1))(x, w)
    assert same(got[0], dx) and same(got[1], dw)
    assert same(torch.func.vmap(norm, (1, None), 1)(x, w), norm(x, w))
    each = torch.func.vmap(torch.func.grad(lambda x, w: norm(x, w).sum(), argnums=(0, 1)), (0, None))(x, w)
    assert same(each[0], dx)
    for item, own in zip(x, each[1]):
        assert same(own, torch.func.grad(lambda w: norm(item, w).sum())(w))
    weights = randn(4, 16, seed=2)
    assert same(torch.func.vmap(norm)(x, weights), torch.stack([norm(*pair) for pair in zip(x, weights)]))
    for positions, offset in ((None, 0), (None, 2), (torch.tensor([4, 0, 8]), 0)):
        rope = it.Rope(randn(9, 8, seed=3), randn(9, 8, seed=4), positions, position_offset=offset)
        turned = torch.func.vmap(lambda x: it.rms_norm(x, w, eps=1e-5, rope=rope))(x)
        assert same(turned, torch.stack([it.rms_norm(item, w, eps=1e-5, rope=rope) for item in x]))
    quantized = torch.func.vmap(lambda x: it.rms_norm(x, w, eps=1e-5, quantize=isonorm.Quantization("int8")))(x)
    assert all(same(a, b) for a, b in zip(quantized, it.rms_norm(x, w, eps=1e-5, quantize=isonorm.Quantization("int8"))))
    assert same(torch.func.vmap(torch.ops.isonorm.rms_norm.default, (0, None))(x, w, eps=1e-5), norm(x, w))


def test_checkpoint_and_saved_tensors():
    from torch.utils.checkpoint import checkpoint

    x, w = randn(5, 16, grad=True), randn(16, seed=1, grad=True)
    direct = torch.autograd.grad(it.rms_norm(x, w, eps=1e-5).sum(), (x, w))
    again = torch.autograd.grad(checkpoint(lambda x: it.rms_norm(x, w, eps=1e-5), x, use_reentrant=False).sum(), (x, w))
    assert all(same(a, b) for a, b in zip(direct, again))
    for options in ({}, {"groups": 2}, {"residual": randn(5, 16, seed=2)}):
        for changed in (0, 1):
            leaves = x.detach().clone().requires_grad_(), w.detach().clone().requires_grad_()
            own = leaves[0] * 1, leaves[1] * 1
            result = it.rms_norm(*own, eps=1e-5, **options)
            y = result.y if options.get("residual") is not None else result
            (result.residual_out if changed == 0 and "residual" in options else own[changed]).add_(1)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                y.sum().backward()


def test_only_what_is_needed():
    x, w = randn(5, 16), randn(16, seed=1)
    assert not it.rms_norm(x, w, eps=1e-5).requires_grad
    r = randn(5, 16, seed=2, grad=True)
    y, total = it.rms_norm(x, w, eps=1e-5, residual=r)
    (g,) = torch.autograd.grad(total.sum(), r)
    assert torch.equal(g, torch.ones(5, 16))
    y, mean, rstd = it.layer_norm(r, eps=1e-5, return_mean=True, return_rstd=True)
    assert y.requires_grad and not mean.requires_grad and not rstd.requires_grad


def test_no_compiler_is_imported():
    """TensorFlow before triton kills the process: nothing here may import one, in eager mode."""
    code = """
import sys, torch, isonorm.torch as it
x, w = torch.randn(3, 8, requires_grad=True), torch.randn(8, requires_grad=True)
for norm in (it.rms_norm, it.layer_norm):
    (g,) = torch.autograd.grad(norm(x, w, eps=1e-5, residual=x).y.sum(), x, create_graph=True)
    g.square().sum().backward()
loaded = [m for m in sys.modules if m.split(".")[0] == "triton" or m.startswith(("torch._dynamo", "torch._inductor"))]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
