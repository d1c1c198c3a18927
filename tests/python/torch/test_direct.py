"""The short way of a few rows gives the bits of the operators, and is not taken where anybody has to see an operator."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch_support import randn, same

import isonorm.torch as it
from isonorm.torch import _autograd, _direct

ops = torch.ops.isonorm
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
CONTRACTS = ("torch", "llama", "gemma", "t5", "layer_norm")
SHAPES = [(1,), (7,), (1, 130), (3, 5, 31), (1, 1, 1, 1, 1, 2, 9), (1, 4097), (8, 4096), (1, 1 << 15)]


def arguments(shape, dtype, bias=True):
    return (
        randn(*shape, dtype=dtype),
        randn(shape[-1], dtype=dtype, seed=1),
        randn(shape[-1], dtype=dtype, seed=2) if bias else None,
    )


@pytest.fixture
def taken(monkeypatch):
    """Counts the calls that took the short way: forward, backward."""
    counts = [0, 0]

    def counted(i, function):
        def call(*args):
            result = function(*args)
            counts[i] += result is not None
            return result

        return call

    monkeypatch.setattr(it.functional, "direct", counted(0, _direct.forward))
    monkeypatch.setattr(_direct, "backward", counted(1, _direct.backward))
    return counts


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_bits_of_the_operators(shape, contract):
    for dtype, bias in itertools.product(FLOATS, (False, True)):
        x, weight, bias = arguments(shape, dtype, bias)
        y = _direct.forward(x, weight, bias, 1e-6, contract)
        assert y is not None and same(y, ops._rms_norm(x, weight, bias, 1e-6, contract))
        dy = randn(*shape, dtype=dtype, seed=3)
        gradients = _direct.backward(dy, x, weight, bias, True, True, True, 1e-6, contract)
        for own, other in zip(gradients, ops._rms_norm_backward(dy, x, weight, bias, None, 7, 1e-6, contract)):
            assert other is own is None or same(own, other)


@pytest.mark.parametrize("wanted", list(itertools.product((False, True), repeat=3))[1:], ids=str)
def test_only_the_gradients_that_are_wanted(wanted):
    x, weight, bias = arguments((2, 33), torch.float32)
    gradients = _direct.backward(x, x, weight, bias, *wanted, 1e-6, "torch")
    assert tuple(g is not None for g in gradients) == wanted


@pytest.mark.parametrize("contract", CONTRACTS)
def test_functions_and_modules_take_it(taken, contract):
    x, weight, bias = (t.requires_grad_() for t in arguments((2, 64), torch.float32))
    with torch.no_grad():
        it.rms_norm(x, weight, bias, eps=1e-6, contract=contract)
    assert taken == [1, 0]
    it.rms_norm(x, weight, bias, eps=1e-6, contract=contract).square().sum().backward()
    assert taken == [2, 1]
    module = it.LayerNorm(64) if contract == "layer_norm" else it.RMSNorm(64, contract=contract)
    module(x).square().sum().backward()
    assert taken == [3, 2]


def test_gradients_are_those_of_long_rows_way(taken):
    """More values than the short way takes, of which the first rows are a call of their own."""
    x = randn(40, 1000)
    rows = [x.clone().requires_grad_(), x[:3].clone().requires_grad_()]
    for x in rows:
        it.rms_norm(x, eps=1e-6).square().sum().backward()
    assert taken == [1, 1]
    assert same(rows[0].grad[:3], rows[1].grad)


def odd_tensors():
    x = randn(4, 6)
    yield "negated", torch._neg_view(x)
    yield "transposed", randn(6, 4).t()
    yield "one value's stride", x.as_strided((1, 6), (1, 1))
    yield "strided", randn(4, 12)[:, ::2]
    yield "expanded", randn(1, 6).expand(4, 6)
    yield "empty", x[:0]
    yield "scalar", torch.tensor(1.0)
    yield "many dimensions", randn(*(1,) * 7, 6)
    yield "long", randn(1, (1 << 15) + 1)
    yield "integers", torch.ones(4, 6, dtype=torch.int64)
    yield "complex", torch.ones(4, 6, dtype=torch.complex64)
    yield "meta", x.to("meta")
    yield "sparse", x.to_sparse()
    yield "mkldnn", x.to_mkldnn()
    yield "zero tensor", torch._efficientzerotensor(4, 6)
    yield "functional", torch._to_functional_tensor(x)
    yield "subclass", x.as_subclass(type("Own", (torch.Tensor,), {}))
    yield "array", x.numpy()
    yield "None", None


@pytest.mark.parametrize("name,tensor", list(odd_tensors()), ids=lambda p: p if isinstance(p, str) else "")
def test_what_is_not_ordinary_is_left_to_the_operators(name, tensor):
    ordinary = randn(4, 6)
    assert _direct.forward(ordinary, None, None, 1e-6, "torch") is not None
    assert _direct.forward(tensor, None, None, 1e-6, "torch") is None
    assert _direct.backward(tensor, ordinary, None, None, True, False, False, 1e-6, "torch") is None
    assert _direct.backward(ordinary, tensor, None, None, True, False, False, 1e-6, "torch") is None
    if tensor is not None:  # as a weight None is an ordinary one
        assert _direct.forward(ordinary, tensor, None, 1e-6, "torch") is None
        assert _direct.forward(ordinary, None, tensor, 1e-6, "torch") is None


@pytest.mark.parametrize(
    "eps,contract", [(-1.0, "torch"), (float("nan"), "torch"), (1e-6, "frob"), (1e-6, "mamba2"), (1e-6, ""), (1e-6, "torch\0")]
)
def test_errors_are_those_of_the_operators(eps, contract):
    x = randn(2, 6)
    assert _direct.forward(x, None, None, eps, contract) is None
    assert _direct.backward(x, x, None, None, True, False, False, eps, contract) is None
    with pytest.raises((RuntimeError, ValueError), match="eps|contract|gate"):
        it.rms_norm(x, eps=eps, contract=contract)


def test_wrong_shapes_write_nothing():
    x = randn(2, 6)
    assert _direct.forward(x, randn(5), None, 1e-6, "torch") is None
    assert _direct.backward(x, randn(2, 5), None, None, True, False, False, 1e-6, "torch") is None
    with pytest.raises(RuntimeError, match="weight"):
        it.rms_norm(x, randn(5), eps=1e-6)


class Seen(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def test_modes_see_operators(taken):
    x = randn(2, 6, grad=True)
    with Seen() as seen:
        it.rms_norm(x, eps=1e-6).square().sum().backward()
    assert [name for name in seen.names if "isonorm" in name] == ["isonorm::_rms_norm_rstd", "isonorm::_rms_norm_backward"]
    assert taken == [0, 0]


def test_a_backward_under_a_mode_is_seen():
    x = randn(2, 6, grad=True)
    y = it.rms_norm(x, eps=1e-6).square().sum()
    with Seen() as seen:
        y.backward()
    assert "isonorm::_rms_norm_backward" in seen.names


def test_function_modes_see_operators(taken):
    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            names.append(str(func))
            return func(*args, **(kwargs or {}))

    names = []
    with Mode():
        it.rms_norm(randn(2, 6), eps=1e-6)
    assert any("isonorm" in name for name in names) and taken == [0, 0]


def test_the_profiler_sees_operators():
    x = randn(2, 6)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        it.rms_norm(x, eps=1e-6)
    assert "isonorm::_rms_norm" in {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("make", [lambda: it.RMSNorm(6, eps=1e-6), lambda: it.LayerNorm(6)])
def test_a_trace_has_the_operator(make, grad):
    module = make()
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(module, randn(2, 6))  # which traces twice, and compares
        other = randn(2, 6, seed=5)
        assert same(traced(other), module(other))
        assert "isonorm::" in str(traced.graph)


def test_compiled_autograd():
    x = randn(2, 6, grad=True)
    expected = torch.autograd.grad(it.rms_norm(x, eps=1e-6).sin().sum(), x)[0]
    y = it.rms_norm(x, eps=1e-6).sin().sum()
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager", fullgraph=True)):
        y.backward()
    assert same(x.grad, expected)


def test_batched_gradients():
    x = randn(2, 6, grad=True)
    y = it.rms_norm(x, eps=1e-6)
    seeds = randn(5, 2, 6, seed=9)
    (batched,) = torch.autograd.grad(y, x, seeds, is_grads_batched=True, retain_graph=True)
    for seed, own in zip(seeds, batched):
        assert same(torch.autograd.grad(y, x, seed, retain_graph=True)[0], own)


def test_a_wrapper_that_left_its_transform():
    kept = []

    def keeps(x):
        kept.append(x)
        return x.sum()

    torch.func.grad(keeps)(randn(2, 6))
    assert same(it.rms_norm(kept[0], eps=1e-6), it.rms_norm(randn(2, 6), eps=1e-6))


def test_second_derivatives_and_what_is_saved():
    x = randn(2, 6, dtype=torch.float64, grad=True)
    (dx,) = torch.autograd.grad(it.rms_norm(x, eps=1e-6).square().sum(), x, create_graph=True)
    assert torch.autograd.gradgradcheck(lambda t: it.rms_norm(t, eps=1e-6), x) and dx.requires_grad
    own = randn(2, 6, grad=True) * 1
    y = it.rms_norm(own, eps=1e-6)
    own.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_types_of_results():
    x = torch.nn.Parameter(randn(2, 6))
    y = it.rms_norm(x, torch.nn.Parameter(randn(6)), eps=1e-6)
    assert type(y) is torch.Tensor and y.grad_fn is not None and y.is_contiguous()
    y.detach().resize_(1)  # results own their memory
    with torch.inference_mode():
        assert it.rms_norm(x.detach(), eps=1e-6).is_inference()
    assert _autograd.Plain.__name__ in type(it.rms_norm(x, eps=1e-6).grad_fn).__name__
