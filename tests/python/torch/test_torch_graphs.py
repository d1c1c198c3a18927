"""Operators, compiled and exported graphs, tensors without values."""

import copy
import io

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch_support import randn, roundings, same

import isonorm
import isonorm.torch as it

ops = torch.ops.isonorm
EPS = 1e-5
X, W, B = randn(3, 5, 8), randn(8, seed=1), randn(8, seed=2)
COS = randn(9, 3, seed=3)
ROPE = (COS, COS, None, 1, 1, 2)
NO_ROPE = (None, None, None, 0, 0, 0)


def leaf(tensor):
    return tensor.clone().requires_grad_()


# name: arguments; those of operators with derivatives require gradients
CALLS = {
    "rms_norm": lambda t: [((t(X), t(W), t(B)), {"eps": EPS}), ((t(X),), {"eps": EPS, "contract": "llama"})],
    "forward": lambda t: [
        ((t(X), t(W), None, EPS, "torch", True), {}),
        ((t(X), t(W), t(B), EPS, "layer_norm", True, True, t(X), None, *NO_ROPE, 2, 0, torch.bfloat16), {}),
        ((t(X), t(W), None, EPS, "mamba2", False, False, None, t(X)), {}),
        ((t(X), t(W), t(B), EPS, "torch", True, False, None, None, *ROPE), {}),
    ],
    "backward": lambda t: [
        ((t(X), t(X), t(W), None, 3, EPS, "torch"), {}),
        ((t(X), None, t(W), None, 7, EPS, "torch", None, t(B), None, t(X), t(X), None, *NO_ROPE, 1, 0, torch.float32), {}),
    ],
    "double_backward": lambda t: [((t(X), t(X), t(W), None, t(X), None, 7, EPS, "torch"), {})],
    "qk_norm": lambda t: [((t(X), t(X[:, :2]), t(W), t(W), EPS, "torch", COS, COS, None, 1, 0, 2), {})],
    "rms": lambda t: [((t(X),), {})],
    "rms_backward": lambda t: [((t(X), t(X[..., 0])), {})],
    "rms_penalty": lambda t: [((t(X), 0.5, True, False), {}), ((t(X), 0.5, True, True), {})],
}
PLAIN = {
    "_rms_norm": [(X, W, None, EPS, "torch")],
    "_rms_norm_rstd": [(X, W, B, EPS, "torch")],
    "_rms_norm_backward": [(X, X, W, B, None, 7, EPS, "torch"), (X, X, W, None, None, 1, EPS, "torch")],
    "quantized": [(X, W, B, EPS, "torch", True, False, X, None, *NO_ROPE, 1, 0, torch.int8, None, 2, 1)],
    "qk_norm_backward": [(X, X[:, :2], X, X[:, :2], W, W, 3, EPS, "torch", COS, COS, None, 1, 0, 2)],
}


@pytest.mark.parametrize("name", CALLS)
def test_opcheck(name):
    for args, kwargs in CALLS[name](leaf):
        opcheck(getattr(ops, name).default, args, kwargs)
    if hasattr(ops, "_" + name) and name != "rms_norm":
        for args, kwargs in CALLS[name](lambda t: t):
            opcheck(getattr(ops, "_" + name).default, args, kwargs)


@pytest.mark.parametrize("name", PLAIN)
def test_opcheck_without_gradients(name):
    for args in PLAIN[name]:
        opcheck(getattr(ops, name).default, args)


class Count(TorchDispatchMode):
    """The operators of isonorm that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "isonorm":
            self.names.append(func._opname)
        return func(*args, **(kwargs or {}))


def graphs(backend):
    """A backend that also counts the calls of our operators in the graphs that it gets."""
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    counted = []

    def count(graph, inputs):
        counted.extend(n.target._opname for n in graph.graph.nodes if getattr(n.target, "namespace", "") == "isonorm")
        return make_boxed_func(graph)

    return counted, aot_autograd(fw_compiler=count)


WG = leaf(W)
TABLES = randn(64, 4, seed=4), randn(64, 4, seed=5)
COMPILED = {
    "plain": lambda x: (it.rms_norm(x, WG, eps=EPS),),
    "layer_norm": lambda x: (it.layer_norm(x, WG, B, eps=EPS),),
    "residual": lambda x: tuple(it.rms_norm(x, WG, eps=EPS, residual=x)),
    "gate": lambda x: (it.rms_norm(x, WG, gate=x, eps=EPS, contract="qwen3_next_gated"),),
    "rope": lambda x: (it.rms_norm(x.unsqueeze(2), WG, eps=EPS, rope=it.Rope(*TABLES, position_axis=1)),),
    "qk": lambda x: it.qk_norm(x.unsqueeze(2), x.unsqueeze(2), WG, WG, eps=EPS, rope=it.Rope(*TABLES, position_axis=1)),
    "axes": lambda x: tuple(
        it.rms_norm(x.unflatten(-1, (2, 4)), WG.view(2, 4), normalized_shape=(2, 4), eps=EPS, return_rstd=True)
    ),
    "custom": lambda x: (it.rms_norm(x, WG, eps=EPS, contract=isonorm.contracts.gemma),),
    "groups": lambda x: tuple(it.rms_norm(x, WG, eps=EPS, groups=2, return_rstd=True)),
    "rms": lambda x: (it.rms(x) * WG[0], it.rms_penalty(x, 0.3)),
}


@pytest.mark.parametrize("case", COMPILED)
def test_compile(case):
    function = COMPILED[case]
    counted, backend = graphs("aot_eager")
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=backend)
    for shape in ((3, 5, 8), (4, 7, 8)):
        x = randn(*shape, grad=True)
        results, expected = compiled(x), function(x)
        roots = [i for i, t in enumerate(expected) if t.requires_grad]
        assert [t.requires_grad for t in results] == [t.requires_grad for t in expected]
        assert all(same(a, b) for a, b in zip(results, expected))
        got = torch.autograd.grad([results[i].sum() for i in roots], (x, WG))
        eager = torch.autograd.grad([expected[i].sum() for i in roots], (x, WG))
        assert same(got[0], eager[0]) and same(got[1], eager[1])
    assert sum(name in ("forward", "rms_norm", "qk_norm", "rms") for name in counted) == 1
    assert sum(name.endswith("backward") for name in counted) == 1
    with torch.no_grad():
        assert all(same(a, b) for a, b in zip(compiled(x), expected))


def test_inductor():
    torch._dynamo.reset()

    def block(x):
        y, total = it.rms_norm(x.sin(), WG, eps=EPS, residual=x)
        return it.rms_norm(y, WG, eps=EPS), total

    compiled = torch.compile(block, fullgraph=True, dynamic=True)
    for rows in (3, 6):
        x = randn(rows, 8, grad=True)
        with Count() as count:
            plain = block(x)
        assert count.names == ["_forward", "_rms_norm_rstd"]
        got = compiled(x)
        # Inductor has a sine of its own, so that the rows differ; two norms follow it.
        gradients = (torch.autograd.grad(y[0].square().sum(), (x, WG)) for y in (got, plain))
        for own, other in [*zip(got, plain), *zip(*gradients)]:
            assert (own - other).abs().max() <= roundings(8, 2, 2.0**-23) * other.abs().max()
    isonorm.rms(X.numpy())
    before = isonorm.last_kernel()
    compiled(x)
    assert isonorm.last_kernel() != before  # and not a decomposition


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(W.clone())

    def forward(self, x):
        y, total = it.rms_norm(x, self.weight, eps=EPS, residual=x)
        return torch.ops.isonorm.rms_norm(y, self.weight, eps=EPS) + total


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict):
    block = Block()
    program = torch.export.export(block, (randn(3, 8),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=strict)
    names = [str(n.target) for n in program.graph.nodes if "isonorm" in str(n.target)]
    assert names == ["isonorm.forward.default", "isonorm.rms_norm.default"]
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    again = torch.export.load(file).module()
    for rows in (3, 11):
        x = randn(rows, 8, seed=rows)
        assert same(again(x), block(x)) and same(program.run_decompositions().module()(x), block(x))


def test_without_values():
    for device in ("meta", "fake"):
        with FakeTensorMode() if device == "fake" else torch.device("meta"):
            x, w = torch.empty(4, 3, 16, dtype=torch.bfloat16, requires_grad=True), torch.empty(16, requires_grad=True)
            result = it.rms_norm(x, w, eps=EPS, residual=x.detach(), dtype=torch.float32, groups=2, return_rstd=True)
            assert [tuple(t.shape) for t in result] == [(4, 3, 16), (4, 3, 16), (4, 3, 2)]
            assert [t.dtype for t in result] == [torch.float32, torch.bfloat16, torch.float32]
            dx, dw = torch.autograd.grad(result.y.sum(), (x, w))
            assert (dx.dtype, dx.shape, dw.dtype, dw.shape) == (x.dtype, x.shape, w.dtype, w.shape)
            assert it.rms(x).shape == (4, 3) and it.qk_norm(x, x, w, w, eps=EPS)[1].shape == x.shape
            with torch.no_grad():
                y, scale = it.rms_norm(x, w, eps=EPS, quantize=isonorm.Quantization("int8"))
            assert (y.dtype, scale.shape) == (torch.int8, (4, 3))
            with pytest.raises(RuntimeError, match="weight has shape"):
                it.rms_norm(x, torch.empty(15), eps=EPS)
    with pytest.raises(RuntimeError, match="weight is on meta, but x is on cpu|Cannot access|device"):
        it.rms_norm(X, torch.empty(8, device="meta"), eps=EPS)


def test_autocast_changes_nothing():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert same(it.rms_norm(X, W, eps=EPS), it.rms_norm(X, W, eps=EPS))
        assert it.rms_norm(X, W, eps=EPS).dtype == torch.float32
        assert it.rms_norm(X.bfloat16(), W, eps=EPS).dtype == torch.bfloat16


def test_copies_and_names():
    contract = copy.deepcopy(isonorm.contracts.gemma)
    assert same(it.rms_norm(X, W, eps=EPS, contract=contract), it.rms_norm(X, W, eps=EPS, contract="gemma"))
    assert str(ops.rms_norm.default._schema) == (
        'isonorm::rms_norm(Tensor x, Tensor? weight=None, Tensor? bias=None, *, float eps, str contract="torch") -> Tensor'
    )
