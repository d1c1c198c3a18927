"""Gradients of patched modules against those of the formula in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import pytest
import torch
from norms import CASES, COLS, Case, random_rows
from torch import Tensor, nn
from torch.nn import functional as F

U = 2.0**-24


def _norm(x: Tensor, eps: float, groups: int = 1) -> Tensor:
    rows = x.unflatten(-1, (groups, -1))
    return (rows * torch.rsqrt(rows.square().mean(-1, keepdim=True) + eps)).flatten(-2)


def _has_offset(case: Case) -> bool:
    return case.name in ("GemmaRMSNorm", "Qwen4ExpTextRMSNorm", "MuseSparkTextCenteredRMSNorm")


def _formula(case: Case, module: Any) -> Callable[..., Tensor]:
    """What the class computes without any rounding, of (x, weight, gate)."""
    eps = getattr(module, "variance_epsilon", None)
    eps = module.eps if eps is None else eps
    eps = torch.finfo(torch.float32).eps if eps is None else eps
    function = torch.sigmoid if getattr(module, "activation", "") == "sigmoid" else F.silu
    name = case.name

    def formula(x: Tensor, weight: Optional[Tensor], gate: Optional[Tensor]) -> Tensor:
        groups = {"MambaRMSNormGated": 2}.get(name, getattr(module, "n_groups", 1))
        if getattr(module, "group_size", None) and name.startswith("Qwen4"):
            groups = COLS // module.group_size
        if name == "MuseSparkTextInputScaledRMSNorm":
            assert weight is not None
            return _norm(x * (1 + weight), eps)
        if _has_offset(case):
            assert weight is not None
            weight = 1 + weight
        before = name == "MambaRMSNormGated" or name.startswith("Falcon") and not module.norm_before_gate
        if gate is not None and before:
            x = x * F.silu(gate)
        y = _norm(x, eps, groups)
        y = y if weight is None else y * weight
        return y if gate is None or before else y * function(gate)

    return formula


@pytest.mark.parametrize("case", [case for case in CASES if not case.layer_norm], ids=str)
def test_gradients_in_float32(case: Case) -> None:
    """dx, dweight and dgate in float32 against autograd of the formula in float64.

    dx = rstd (g - c mean(g c)) with c = x rstd: at most 12 + 7 roundings on the way to c and rstd (test_patch_exactness.py),
    twice in c mean(g c), 12 more in its sum; a gate adds its 16 to each factor. That is less than 128 in all, of the sum of the
    terms' magnitudes: the largest of a row stands for it. A weight's gradient is a sum over the rows, of terms with 19 of these
    roundings, by fewer additions than there are rows, 12.
    """
    _, module = case.pair()
    formula = _formula(case, module)
    x = random_rows(torch.float32, rows=6)
    inputs = [tensor.requires_grad_() for tensor in case.inputs(x)]
    weight = getattr(module, "weight", None)
    dy = torch.randn(x.shape, generator=torch.Generator().manual_seed(9))
    wanted = [*inputs, weight] if isinstance(weight, nn.Parameter) else inputs
    got = torch.autograd.grad(module(*inputs), wanted, dy)

    doubles = [tensor.detach().double().requires_grad_() for tensor in wanted]
    gate = doubles[1] if case.gate else None
    of_weight = doubles[-1] if isinstance(weight, nn.Parameter) else None
    expected = torch.autograd.grad(formula(doubles[0], of_weight, gate), doubles, dy.double())

    offset = float(_has_offset(case))
    for leaf, mine, true in zip(wanted, got, expected):
        assert mine.dtype == torch.float32 and mine.shape == leaf.shape
        error = (mine.double() - true).abs()
        if leaf is weight and case.name == "MuseSparkTextInputScaledRMSNorm":
            largest = true.abs().max() * 12
        elif leaf is weight:  # the sum of the magnitudes of its terms, dy times what the weight multiplies
            ones = torch.full_like(doubles[-1], 1.0 - offset)
            largest = (dy.double() * formula(doubles[0], ones, gate)).detach().abs().reshape(-1, COLS).sum(0)
        else:
            largest = true.abs().amax(-1, keepdim=True)
        assert bool((error <= 128 * U * largest).all()), float((error / largest).max() / U)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_in_sixteen_bits(case: Case, dtype: torch.dtype) -> None:
    """Types and shapes are those of the leaves, and the values those of the module itself but for roundings.

    Both sides round their results once, to dtype; the module itself rounds on the way too, at most 8 times a chain of values,
    and adds the rows of a weight's gradient in dtype where it is a sum of products: 20 rows.
    """
    plain, patched = case.pair(torch.float32 if case.name == "EsmFold2LayerNorm" else dtype)
    gradients = []
    for module in (plain, patched):
        inputs = [tensor.requires_grad_() for tensor in case.inputs(random_rows(dtype, rows=10))]
        y = module(*inputs)
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(9)).to(y.dtype)
        gradients.append(torch.autograd.grad(y, [*inputs, *module.parameters()], dy))
    u = torch.finfo(dtype).eps / 2
    for expected, got in zip(*gradients):
        assert got.dtype == expected.dtype and got.shape == expected.shape
        rows = 20 if got.dim() == 1 else 1
        difference, size = (got.double() - expected.double()).abs(), expected.double().abs().max()
        assert bool((difference <= (10 + rows) * u * size).all()), float(difference.max() / size / u)


def test_second_derivative() -> None:
    """A gradient penalty through a patched module."""
    _, module = CASES[0].pair()
    x = random_rows(torch.float32, rows=3).requires_grad_()
    (dx,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
    dx.square().sum().backward()
    true = x.detach().double().requires_grad_()
    weight = module.weight.detach().double()
    (wanted,) = torch.autograd.grad((_norm(true, 1e-6) * weight).square().sum(), true, create_graph=True)
    wanted.square().sum().backward()
    assert x.grad is not None and true.grad is not None
    error, largest = (x.grad.double() - true.grad).abs(), true.grad.abs().amax(-1, keepdim=True)
    assert bool((error <= 1024 * U * largest).all()), float((error / largest).max() / U)


def test_transforms_of_functions() -> None:
    """torch.func through a patched module, as through the module itself."""
    plain, patched = CASES[0].pair()
    x = random_rows(torch.float32, rows=3)
    for transform in (torch.func.grad, lambda f: torch.func.vmap(torch.func.grad(f))):
        got = transform(lambda x: patched(x).square().sum())(x)
        expected = transform(lambda x: plain(x).square().sum())(x)
        assert bool(((got - expected).abs() <= 256 * U * expected.abs().amax(-1, keepdim=True)).all())
    got_y, got_tangent = torch.func.jvp(plain, (x,), (torch.ones_like(x),))
    y, tangent = torch.func.jvp(patched, (x,), (torch.ones_like(x),))
    assert y.shape == got_y.shape
    assert bool(((tangent - got_tangent).abs() <= 256 * U * tangent.abs().amax(-1, keepdim=True)).all())
