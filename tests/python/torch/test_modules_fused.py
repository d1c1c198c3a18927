"""Modules that torch.nn does not have: the values of isonorm's functions, results by name, and what constructors refuse."""

from __future__ import annotations

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest
import torch
from module_support import FLOATS, array, same, tensor

import isonorm
from isonorm import torch as it

F32_EPS = torch.finfo(torch.float32).eps
EIGHT_BIT = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2, "int8": torch.int8}
MODULES = {
    "fused": (lambda: it.FusedAddRMSNorm(8), 2),
    "gated": (lambda: it.GatedRMSNorm(8), 2),
    "mamba2": (lambda: it.GatedRMSNorm(8, contract="mamba2", groups=2), 2),
    "grouped": (lambda: it.GroupedRMSNorm(8, 4), 1),
    "partial": (lambda: it.PartialRMSNorm(8, 0.5, bias=True), 1),
    "qk": (lambda: it.QKNormRope(8), 2),
    "quantized": (lambda: it.QuantizedRMSNorm(8, "int8"), 1),
}


def randomise(module):
    with torch.no_grad():
        for p in module.parameters():
            p.normal_()
    return module


def randn(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(7,), (3, 5)])
def test_fused_add(dtype, shape):
    module = randomise(it.FusedAddRMSNorm(shape, dtype=dtype))
    x, residual = randn(4, *shape, dtype=dtype), randn(4, *shape, dtype=torch.float32, seed=1)
    kept = x.clone(), residual.clone()
    y, total = module(x, residual)
    axes = tuple(range(-len(shape), 0))
    expected = isonorm.rms_norm(array(x), array(module.weight), eps=F32_EPS, residual=array(residual), axis=axes)
    assert same(y, tensor(expected.y)) and same(total, tensor(expected.residual_out))
    assert same(x, kept[0]) and same(residual, kept[1])
    assert same(total, x + residual)
    assert {y.data_ptr(), total.data_ptr()}.isdisjoint({x.data_ptr(), residual.data_ptr()})


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("contract, groups", [(None, 1), ("mamba2", 1), ("mamba2", 3), ("qwen3_next_gated", 1)])
def test_gated(dtype, contract, groups):
    module = randomise(it.GatedRMSNorm(9, groups=groups, dtype=dtype, **({"contract": contract} if contract else {})))
    x, gate = randn(4, 9, dtype=dtype), randn(4, 9, dtype=dtype, seed=1)
    named = contract or "qwen3_next_gated"
    expected = isonorm.rms_norm(array(x), array(module.weight), eps=1e-6, contract=named, gate=array(gate), groups=groups)
    assert same(module(x, gate), tensor(expected))
    assert not same(module(x, gate), module(x, gate + 1))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape, groups", [((12,), 3), ((3, 4), 2), ((12,), 1), ((12,), 12)])
def test_grouped(dtype, shape, groups):
    module = randomise(it.GroupedRMSNorm(shape, groups, 1e-3, dtype=dtype))
    x = randn(2, 5, *shape, dtype=dtype)
    expected = it.rms_norm(x.reshape(2, 5, groups, -1), eps=1e-3, dtype=torch.float32).reshape(2, 5, *shape)
    assert same(module(x), (expected * module.weight.float()).to(dtype))


@pytest.mark.parametrize("dtype", [*FLOATS, torch.float64])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("p, window", [(0.0625, 2), (0.5, 16), (1.0, 32), (0.99, 31)])
def test_partial(dtype, bias, p, window):
    module = randomise(it.PartialRMSNorm(32, p, bias=bias, dtype=dtype))
    x = randn(6, 32, dtype=dtype)
    assert module.window == window and list(module.state_dict()) == (["weight", "bias"] if bias else ["weight"])
    given = array(module.bias) if bias else None
    expected = isonorm.rms_norm(array(x), array(module.weight), given, eps=1e-8, contract="paper", window=window)
    assert same(module(x), tensor(expected))
    other = x.clone()
    other[:, window:] *= 2
    assert same(module(other)[:, :window], module(x)[:, :window])


@pytest.mark.parametrize("style", ["half", "interleaved"])
@pytest.mark.parametrize("position_axis, positions", [(1, False), (2, False), (1, True)])
def test_qk_norm_rope(style, position_axis, positions):
    module = randomise(it.QKNormRope(8, position_axis=position_axis, style=style))
    q, k = randn(2, 5, 4, 8), randn(2, 5, 2, 8, seed=1)
    if position_axis == 2:
        q, k = q.transpose(1, 2), k.transpose(1, 2)
    angles = torch.outer(torch.arange(9.0), torch.tensor([1.0, 0.5, 0.25, 0.125]))
    cos, sin = angles.cos(), angles.sin()
    where = torch.tensor([[3, 1, 4, 1, 5], [8, 0, 2, 6, 7]]) if positions else None
    got = module(q, k, cos, sin, where, position_offset=0 if positions else 3)
    rope = isonorm.Rope(
        array(cos), array(sin), where.numpy() if positions else None, position_axis, 0 if positions else 3, style
    )
    for y, x, weight in zip(got, (q, k), (module.q_weight, module.k_weight)):
        expected = isonorm.rms_norm(array(x), array(weight), eps=1e-6, contract="llama", rope=rope)
        assert same(y, tensor(np.ascontiguousarray(expected)))
    plain = module(q, k)
    assert same(plain[0], it.rms_norm(q, module.q_weight, eps=1e-6, contract="llama"))
    assert not same(plain[0], got[0]) and list(module.state_dict()) == ["q_weight", "k_weight"]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", EIGHT_BIT)
@pytest.mark.parametrize("scale", ["dynamic", "power_of_two", 0.125])
@pytest.mark.parametrize("residual", [False, True])
def test_quantized(dtype, name, scale, residual):
    quantization = isonorm.Quantization(name, scale=scale, group_cols=32 if scale == "power_of_two" else 0)
    module = randomise(it.QuantizedRMSNorm(64, quantization, dtype=dtype))
    x, r = randn(3, 64, dtype=dtype), randn(3, 64, dtype=dtype, seed=1) if residual else None
    got = module(x, r)
    expected = isonorm.rms_norm(
        array(x), array(module.weight), eps=F32_EPS, quantize=quantization, residual=array(r) if residual else None
    )
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert len(got) == 2 + residual and got[0].dtype == EIGHT_BIT[name] and not module.weight.requires_grad
    assert np.array_equal(got[0].view(torch.int8).numpy(), expected[0].view(np.int8))
    if residual:
        assert same(got[1], x + r)
    if isinstance(scale, str):
        assert np.array_equal(got[-1].view(torch.uint8).numpy(), expected[-1].view(np.uint8))
    else:
        assert got[-1].tolist() == [0.125] and got[-1].dtype == torch.float32
    assert expected[0].dtype == (np.int8 if name == "int8" else np.dtype(getattr(ml_dtypes, name)))


def test_quantized_takes_a_name_and_no_gradient():
    module = it.QuantizedRMSNorm(8, "int8")
    assert module.quantize == isonorm.Quantization("int8")
    x = randn(2, 8).requires_grad_()
    with pytest.raises(RuntimeError, match="x requires a gradient, which quantised results do not have"):
        module(x)
    with pytest.raises(RuntimeError, match="residual requires a gradient"):
        module(x.detach(), x)
    with torch.no_grad():
        assert same(module(x)[0], module(x.detach())[0])
    module.load_state_dict(randomise(torch.nn.RMSNorm(8)).state_dict(), strict=True)


@pytest.mark.parametrize("name", MODULES)
def test_module_behaviours(name):
    make, tensors = MODULES[name]
    module = randomise(make())
    args = [randn(2, 3, 8, seed=i) for i in range(tensors)]

    def flat(result):
        return result if isinstance(result, tuple) else (result,)

    def equal(a, b):
        return len(flat(a)) == len(flat(b)) and all(same(p, q) for p, q in zip(flat(a), flat(b)))

    expected = module(*args)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert equal(other(*args), expected) and repr(other) == repr(module)
    fresh = make()
    fresh.load_state_dict(module.state_dict(), strict=True)
    assert equal(fresh(*args), expected)
    half = copy.deepcopy(module).bfloat16()
    assert all(p.dtype == torch.bfloat16 for p in half.parameters())
    assert flat(half(*(a.bfloat16() for a in args)))[0].dtype in (torch.bfloat16, torch.int8)
    meta = copy.deepcopy(module).to("meta")
    results = flat(meta(*(a.to("meta") for a in args)))
    assert [(r.shape, r.dtype) for r in results] == [(r.shape, r.dtype) for r in flat(expected)]
    meta.to_empty(device="cpu").reset_parameters()
    assert equal(meta(*args), make()(*args))
    with pytest.raises(RuntimeError, match="torch.jit.script does not compile"):
        torch.jit.script(module)
    for a in args:
        assert all(r.data_ptr() != a.data_ptr() for r in flat(expected))
    given = {"grouped": (4,), "quantized": ("int8",), "partial": (0.5,)}.get(name, ())
    options = {"contract": "mamba2", "groups": 2} if name == "mamba2" else {}
    without = type(module)(8, *given, elementwise_affine=False, **options)
    assert not list(without.parameters()) and equal(without(*args), make()(*args))


def test_bad_constructors_name_the_value():
    for make, text in (
        (lambda: it.GroupedRMSNorm(8, 3), r"groups is 3, but has to divide the 8 values of normalized_shape \(8,\)"),
        (lambda: it.GroupedRMSNorm(8, 0), "groups is 0"),
        (lambda: it.GatedRMSNorm(8, groups=5), "groups is 5"),
        (lambda: it.GatedRMSNorm(8, contract="llama"), "contract 'llama' has no gate"),
        (lambda: it.FusedAddRMSNorm(8, contract="mamba2"), "contract 'mamba2' has a gate: use GatedRMSNorm"),
        (lambda: it.PartialRMSNorm(8, 0.01), "p is 0.01, but has to be at most 1 and to leave one value or more of 8"),
        (lambda: it.PartialRMSNorm(8, 1.5), "p is 1.5"),
        (lambda: it.PartialRMSNorm(8, float("nan")), "p is nan"),
        (lambda: it.QuantizedRMSNorm(8, "int4"), "dtype is 'int4'"),
        (lambda: it.QKNormRope(8, style="full"), "style is 'full'"),
        (lambda: it.QKNormRope(0), "^head_dim is 0, but has to be 1 or more$"),
        (lambda: it.QKNormRope(8)(randn(1, 2, 1, 8), randn(1, 2, 1, 8), cos=randn(2, 4)), "sin is None"),
    ):
        with pytest.raises(ValueError, match=text):
            make()
