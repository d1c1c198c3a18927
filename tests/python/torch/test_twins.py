"""The twins of Hugging Face's classes: constructors, attributes, types and values."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle

import pytest
import torch
from module_support import FLOATS, HALVES, array, power_rows, same, tensor, ulps
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

import isonorm
import isonorm.torch

TWINS = [
    (isonorm.torch.LlamaRMSNorm, LlamaRMSNorm),
    (isonorm.torch.T5RMSNorm, T5LayerNorm),
    (isonorm.torch.GemmaRMSNorm, GemmaRMSNorm),
]
ALL = (*FLOATS, torch.float64)


def eps_name(module):
    return "eps" if isinstance(module, (isonorm.torch.GemmaRMSNorm, GemmaRMSNorm)) else "variance_epsilon"


def pair(ours, theirs, cols, eps=1e-6, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    a, b = ours(cols, eps).to(dtype), theirs(cols, eps).to(dtype)
    with torch.no_grad():
        a.weight.normal_()
        b.load_state_dict(a.state_dict(), strict=True)
    return a, b


@pytest.mark.parametrize("ours, theirs", TWINS)
def test_constructor_state_and_repr(ours, theirs):
    a, b = ours(7), theirs(7)
    left, right = inspect.signature(ours).parameters, inspect.signature(theirs).parameters
    assert [(p.name, p.default, p.kind) for p in left.values()] == [(p.name, p.default, p.kind) for p in right.values()]
    assert a.extra_repr() == b.extra_repr()
    assert repr(a).replace(ours.__name__, theirs.__name__) == repr(b)
    assert list(a.state_dict()) == list(b.state_dict()) and same(a.weight, b.weight)
    name = eps_name(b)
    assert getattr(a, name) == getattr(b, name) and name in vars(a)
    before = set(vars(b)) - {"_forward_hooks"}
    assert before - set(vars(a)) == set()
    with torch.no_grad():
        a.weight.fill_(3)
    a.reset_parameters()
    assert same(a.weight, b.weight)
    for module in (a, b):
        setattr(module, name, 0.25)
    assert a.extra_repr() == b.extra_repr()


@pytest.mark.parametrize("ours, theirs", TWINS)
@pytest.mark.parametrize("x_dtype, dtype", list(itertools.product(ALL, ALL)))
def test_types_are_hugging_faces(ours, theirs, x_dtype, dtype):
    a, b = pair(ours, theirs, 24, 0.0, dtype)
    with torch.no_grad():
        a.weight.copy_(torch.arange(-8, 16) / 8)  # exact, 1 + weight too, so that types are all that could differ
        b.weight.copy_(a.weight)
    x = power_rows(10, 24).reshape(2, 5, 24).to(x_dtype)
    left, right = a(x), b(x)
    assert same(left, right)
    assert a(x[:0]).shape == (0, 5, 24) and a(x[:0]).dtype == right.dtype


@pytest.mark.parametrize("ours, theirs", TWINS)
@pytest.mark.parametrize("x_dtype, dtype", list(itertools.product(FLOATS, FLOATS)))
def test_values_are_those_of_the_contract(ours, theirs, x_dtype, dtype):
    a, _ = pair(ours, theirs, 24, dtype=dtype)
    x = torch.randn(5, 24).to(x_dtype)
    y = a(x)
    numpy_type = array(torch.empty(1, dtype=y.dtype)).dtype
    assert same(y, tensor(isonorm.rms_norm(array(x), array(a.weight), eps=1e-6, contract=a.contract, dtype=numpy_type)))
    with torch.no_grad():
        assert same(a(x), y) and same(a(x[2]), y[2])


@pytest.mark.parametrize("ours, theirs", TWINS)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("cols", [8, 60, 513])
def test_hugging_faces_bits_where_all_is_exact(ours, theirs, dtype, cols):
    a, b = pair(ours, theirs, cols, 0.0, dtype, seed=cols)
    x = power_rows(12, cols, seed=cols)
    for scale in (2.0**-6, 1.0, 2.0**5):
        assert same(a((x * scale).to(dtype)), b((x * scale).to(dtype)))


@pytest.mark.parametrize("ours, theirs", TWINS)
@pytest.mark.parametrize("dtype", HALVES)
def test_random_values_are_within_two_units_of_the_last_place(ours, theirs, dtype):
    a, b = pair(ours, theirs, 1024, dtype=dtype)
    x = torch.randn(512, 1024).to(dtype)
    distance = ulps(a(x), b(x))
    if ours is isonorm.torch.GemmaRMSNorm:
        assert distance.max() <= 1
    else:
        assert distance.max() <= 2 and (distance > 1).float().mean() < 0.002


@pytest.mark.parametrize("dtype", HALVES)
def test_contracts_differ_on_random_values(dtype):
    torch.manual_seed(0)
    x, weight = torch.randn(64, 256).to(dtype), torch.randn(256)
    results = []
    for cls in (isonorm.torch.LlamaRMSNorm, isonorm.torch.T5RMSNorm, isonorm.torch.GemmaRMSNorm):
        module = cls(256)
        with torch.no_grad():
            module.weight.copy_(weight - 1 if cls is isonorm.torch.GemmaRMSNorm else weight)
        results.append(module(x).to(dtype))
    assert not any(torch.equal(p, q) for p, q in itertools.combinations(results[:2], 2))
    assert not torch.equal(results[0], results[2])
    halves = []
    for cls in (isonorm.torch.LlamaRMSNorm, isonorm.torch.RMSNorm):
        module = cls(256, 1e-6).to(dtype)
        with torch.no_grad():
            module.weight.copy_(weight)
        halves.append(module(x))
    assert 0 < (halves[0] != halves[1]).float().mean() < 0.5 and ulps(*halves).max() <= 2


@pytest.mark.parametrize("ours, theirs", TWINS)
def test_writable_attributes_take_effect(ours, theirs):
    a, b = pair(ours, theirs, 16)
    x = torch.randn(3, 16) * 1e-3
    before = a(x)
    for module in (a, b):
        setattr(module, eps_name(module), 0.5)
    assert same(a(x), pair(ours, theirs, 16, 0.5)[0](x)) and not same(a(x), before)
    rows = power_rows(3, 16)
    for module in (a, b):
        setattr(module, eps_name(module), 48.0)  # 16 + 48 is a power of four
        module.weight = torch.nn.Parameter(torch.arange(16) / 8)
    assert same(a(rows), b(rows))


@pytest.mark.parametrize("ours, theirs", TWINS)
@pytest.mark.parametrize("x_dtype, dtype", list(itertools.product(FLOATS, FLOATS[:2])))
def test_autocast_gives_hugging_faces_types(ours, theirs, x_dtype, dtype):
    a, b = pair(ours, theirs, 16, dtype=dtype)
    x = torch.randn(3, 16).to(x_dtype)
    with torch.autocast("cpu", torch.bfloat16):
        assert a(x).dtype == b(x).dtype


@pytest.mark.parametrize("ours, theirs", TWINS)
def test_gradients_copies_and_pickles(ours, theirs):
    a, _ = pair(ours, theirs, 12)
    x, dy = torch.randn(4, 12, requires_grad=True), torch.randn(4, 12)
    got = torch.autograd.grad(a(x), (x, a.weight), dy)
    expected = isonorm.rms_norm_backward(array(dy), array(x), array(a.weight), eps=1e-6, contract=a.contract)
    assert all(same(p, tensor(q)) for p, q in zip(got, expected))
    for copied in (copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert same(copied(x), a(x)) and repr(copied) == repr(a)
    double = copy.deepcopy(a).double()
    x = torch.randn(2, 12, dtype=torch.float64, requires_grad=True)
    function = lambda x, w: torch.func.functional_call(double, {"weight": w}, (x,))  # noqa: E731
    assert torch.autograd.gradcheck(function, (x, double.weight))
    assert torch.autograd.gradgradcheck(function, (x, double.weight))
    mixed = a(torch.randn(2, 12, dtype=torch.float64))
    mixed.sum().backward()
    assert mixed.dtype == torch.float64 and a.weight.grad.dtype == torch.float32
