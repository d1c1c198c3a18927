"""The norm as operators of torch, for what the kernels have no derivative of: second and third derivatives of LayerNorm, gates,
windows and rotations, and forward mode. The formulas are those of `include/isonorm/isonorm.h`, without the roundings to
storage, in float32 (float64 for float64)."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

import torch
from torch import Tensor

from isonorm import contracts

HALF = 1


class Options(NamedTuple):
    """What a norm is told beside tensors, in the order of the operators."""

    style: int
    position_dim: int
    position_offset: int
    groups: int
    window: int
    eps: float
    contract: str


class Row(NamedTuple):
    """The tensors of a norm that have derivatives; v is x, or x + residual."""

    v: Tensor
    weight: Optional[Tensor]
    bias: Optional[Tensor]
    gate: Optional[Tensor]


Tables = tuple[Optional[Tensor], Optional[Tensor], Optional[Tensor]]  # cos, sin, positions


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type that a norm of such data is computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def forward(row: Row, tables: Tables, o: Options) -> Tensor:
    """y, in the compute type."""
    contract = contracts.from_text(o.contract)
    to = wide(row.v.dtype)
    h = row.v.to(to)
    gate = None
    if row.gate is not None:
        gate = row.gate.to(to)
        gate = gate.sigmoid() if contract.gate_function == "sigmoid" else torch.nn.functional.silu(gate)
    if gate is not None and contract.gate_place == "before":
        h = h * gate
    if o.groups > 1:
        h = h.unflatten(-1, (o.groups, -1))  # type: ignore[no-untyped-call]
    if contract.statistic == "layer":
        h = h - h.mean(-1, keepdim=True)
    square = (h[..., : o.window] if o.window else h).square().mean(-1, keepdim=True)
    y = h * (torch.rsqrt(square + o.eps) if contract.eps_place == "inside" else 1 / (square.sqrt() + o.eps))
    if row.weight is not None:
        y = y * (_per_column(row.weight, to, o) + contract.weight_offset)
    if row.bias is not None:
        y = y + _per_column(row.bias, to, o)
    if tables[0] is not None:
        y = _rotate(y, row.v.dim(), tables, o)
    if o.groups > 1:
        y = y.flatten(-2)
    return y * gate if gate is not None and contract.gate_place == "after" else y


def _per_column(vector: Tensor, to: torch.dtype, o: Options) -> Tensor:
    vector = vector.to(to).reshape(-1)
    return vector.reshape(o.groups, -1) if o.groups > 1 else vector


def _rotate(y: Tensor, dims: int, tables: Tables, o: Options) -> Tensor:
    cos, sin, positions = tables
    assert cos is not None and sin is not None
    half = cos.shape[-1]
    rows = []
    for table in (cos, sin):
        if positions is not None:
            angles = table[positions]
            missing = y.dim() - 1 - positions.dim()
            angles = angles.reshape(*positions.shape, *(1,) * missing, half)
        else:
            angles = table.narrow(0, o.position_offset, y.shape[o.position_dim])
            angles = angles.reshape(-1, *(1,) * (y.dim() - 2 - o.position_dim), half)
        rows.append(angles.to(y.dtype))
    turned, rest = y[..., : 2 * half], y[..., 2 * half :]
    a, b = turned.chunk(2, -1) if o.style == HALF else (turned[..., 0::2], turned[..., 1::2])
    pair = (a * rows[0] - b * rows[1], b * rows[0] + a * rows[1])
    turned = torch.cat(pair, -1) if o.style == HALF else torch.stack(pair, -1).flatten(-2)
    return torch.cat((turned, rest), -1)


def vjp(function: Callable[..., Any], *primals: Tensor) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """torch.func.vjp, which imports torch._dynamo: outside transforms the same by autograd alone. Nests, too."""
    if torch._C._are_functorch_transforms_active():
        return torch.func.vjp(function, *primals)  # type: ignore[return-value]
    primals = tuple(map(torch._C._functorch.unwrap_if_dead, primals))  # a transform may have ended since they were saved
    whole = torch.is_grad_enabled()  # what comes of this can be differentiated again
    with torch.enable_grad():
        own = [p.view_as(p) if whole and p.requires_grad else p.detach().requires_grad_() for p in primals]
        outputs = function(*own)

    def pull(cotangents: Any) -> tuple[Tensor, ...]:
        pairs = [(outputs, cotangents)] if isinstance(outputs, Tensor) else zip(outputs, cotangents)
        reached = [(o, c) for o, c in pairs if o.requires_grad]  # the others are constant
        gradients: Any = (None,) * len(own)
        if reached:
            again = torch.is_grad_enabled()
            roots, given = zip(*reached)
            gradients = torch.autograd.grad(roots, own, given, retain_graph=True, create_graph=again, allow_unused=True)
        return tuple(torch.zeros_like(p) if g is None else g for p, g in zip(own, gradients))

    return outputs, pull


def _present(*values: Optional[Tensor]) -> tuple[list[Tensor], Callable[[Any], Any]]:
    """The tensors among values, and what puts others into their places."""
    there = [value is not None for value in values]

    def fill(others: Any) -> Any:
        remaining = iter(others)
        return [next(remaining) if present else None for present in there]

    return [value for value in values if value is not None], fill


def backward(dy: Tensor, row: Row, tables: Tables, o: Options) -> list[Optional[Tensor]]:
    """The gradients of `forward` with respect to v, weight, bias and gate, in their types."""
    values, fill = _present(*row)
    y, pull = vjp(lambda *own: forward(Row(*fill(own)), tables, o), *values)
    gradients: list[Optional[Tensor]] = fill(pull(dy.to(y.dtype)))
    return gradients


def double_backward(
    dy: Tensor, row: Row, tables: Tables, o: Options, cotangents: list[Optional[Tensor]]
) -> tuple[Tensor, list[Optional[Tensor]]]:
    """The gradients of `backward`, given the cotangents of its results: for dy, and for v, weight, bias and gate."""
    values, fill = _present(*row)

    def first(dy: Tensor, *own: Tensor) -> tuple[Tensor, ...]:
        gradients = backward(dy, Row(*fill(own)), tables, o)
        return tuple(g for g, c in zip(gradients, cotangents) if g is not None and c is not None)

    outputs, pull = vjp(first, dy, *values)
    given = [c for c, value in zip(cotangents, row) if c is not None and value is not None]
    ddy, *rest = pull(tuple(c.to(output.dtype) for c, output in zip(given, outputs)))
    return ddy, fill(rest)


def second_gradients(
    tensors: tuple[Optional[Tensor], ...], needs: int, o: Options
) -> tuple[list[Tensor], Callable[[Any], Any], Callable[..., tuple[Tensor, ...]]]:
    """Of dy, x, weight, ddx and ddweight: those that are there, what puts others into their places, and the function of them
    that gives those of dx, dweight and ddy whose bits, 1, 2 and 4, are in needs."""
    values, fill = _present(*tensors)

    def function(*own: Tensor) -> tuple[Tensor, ...]:
        dy, x, weight, ddx, ddweight = fill(own)
        ddy, rest = double_backward(dy, Row(x, weight, None, None), (None, None, None), o, [ddx, ddweight, None, None])
        return tuple(g for g, need in ((rest[0], 1), (rest[1], 2), (ddy, 4)) if needs & need and g is not None)

    return values, fill, function


def linearise(function: Callable[..., Any], primals: list[Tensor], tangents: list[Tensor]) -> Any:
    """The derivative of a function along tangents, by reverse mode alone: its gradients are linear in their cotangents, and the
    gradients of those are the derivative. Nests with every transform, and needs no forward mode of the operators within."""
    outputs, pull = vjp(function, *primals)
    single = isinstance(outputs, Tensor)
    zeros = [torch.zeros_like(o) for o in ((outputs,) if single else outputs)]
    _, pull_again = vjp(lambda *c: pull(c[0] if single else c), *zeros)
    moved = pull_again(tuple(t.to(p.dtype) for t, p in zip(tangents, primals)))
    return moved[0] if single else moved


def jvp(row: Row, tangents: Row, tables: Tables, o: Options) -> Tensor:
    """The derivative of y along the tangents; those that are None count as zeros."""
    values, fill = _present(*row)
    own = [torch.zeros_like(v) if t is None else t for v, t in zip(row, tangents) if v is not None]
    y: Tensor = linearise(lambda *moved: forward(Row(*fill(moved)), tables, o), values, own)
    return y


def backward_jvp(
    dy: Tensor, ddy: Optional[Tensor], row: Row, tangents: Row, tables: Tables, o: Options
) -> list[Optional[Tensor]]:
    """The derivative of `backward` along the tangents of dy and of the row."""
    values, fill = _present(*row)
    own = [torch.zeros_like(v) if t is None else t for v, t in zip(row, tangents) if v is not None]

    def gradients(dy: Tensor, *moved: Tensor) -> tuple[Tensor, ...]:
        return tuple(g for g in backward(dy, Row(*fill(moved)), tables, o) if g is not None)

    first = torch.zeros_like(dy) if ddy is None else ddy
    derivative: list[Optional[Tensor]] = fill(linearise(gradients, [dy, *values], [first, *own]))
    return derivative
