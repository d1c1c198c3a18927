"""Derivatives: first ones by the kernels, second ones by the kernel that has them, all others by the formulas of `_formula`.

Each function takes the arguments of the operator of the same purpose, in its order, so that one pair of setup_context and
backward serves three ways: `torch.library.register_autograd` (compiled graphs), `torch.func` and forward mode (the functions
themselves), and eager mode, where the classic form with ctx in forward costs a third.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence

import torch
from torch import Tensor
from torch.autograd import Function

from isonorm import contracts
from isonorm.torch import _direct, _formula
from isonorm.torch._formula import Options, Row, wide
from isonorm.torch._library import ops

NEEDS_X, NEEDS_WEIGHT, NEEDS_BIAS, NEEDS_GATE = 1, 2, 4, 8
NEEDS_DY = 4  # of double_backward

_forward = ops._forward.default
_backward = ops._backward.default
_plain_rstd = ops._rms_norm_rstd.default
_plain_backward = ops._rms_norm_backward.default


def eager(function: type[Function]) -> Any:
    """The classic form of a function."""

    def forward(ctx: Any, *args: Any) -> Any:
        output = function.forward(*args)
        function.setup_context(ctx, args, output)
        return output

    forms = {"forward": staticmethod(forward), "backward": staticmethod(function.backward)}
    classic: Any = type(function.__name__, (Function,), forms)
    return classic.apply


def _options(numbers: Sequence[int], eps: float, contract: str) -> Options:
    style, position_dim, position_offset, groups, window = numbers
    return Options(style, position_dim, position_offset, groups, window, eps, contract)


def _to(gradient: Optional[Tensor], like: Any) -> Optional[Tensor]:
    """A gradient in the type of what it is the gradient of, a tensor or a dtype; None where there is none."""
    dtype = like.dtype if isinstance(like, Tensor) else like
    return gradient.to(dtype) if gradient is not None and dtype is not None else None


def _as_many(gradients: tuple[Any, ...], ctx: Any) -> tuple[Any, ...]:
    """One for each input: operators do not see the inputs that were left out."""
    count = len(ctx.needs_input_grad)
    return gradients[:count] + (None,) * (count - len(gradients))


class Norm(Function):
    """y, residual_out, mean and rstd."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> Any:
        return _forward(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, weight, bias, eps, contract, _, _, residual, gate, cos, sin, positions, *numbers, dtype = inputs
        _, total, mean, rstd = output
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[t for t in (mean, rstd) if t is not None])
        ctx.options = _options(numbers, eps, contract)
        ctx.x_dtype, ctx.y_dtype = x.dtype, dtype or x.dtype
        ctx.residual_dtype = None if residual is None else residual.dtype
        ctx.save_for_forward(x, weight, bias, residual, gate, cos, sin, positions)
        if residual is not None and contracts.from_text(contract).sum_rounding == "stored":
            x = residual = None  # the sum is all that gradients need
        else:
            total = None
        ctx.save_for_backward(x, weight, bias, residual, total, gate, cos, sin, positions, mean, rstd)

    @staticmethod
    def backward(ctx: Any, dy: Optional[Tensor], dtotal: Optional[Tensor] = None, *_: Any) -> Any:
        return Norm.gradients(ctx, dy, dtotal, Gradients.apply if torch.is_grad_enabled() else _backward)

    @staticmethod
    def gradients(ctx: Any, dy: Optional[Tensor], dtotal: Optional[Tensor], operator: Callable[..., Any]) -> Any:
        x, weight, bias, residual, total, gate, cos, sin, positions, mean, rstd = ctx.saved_tensors
        *numbers, eps, contract = ctx.options
        need = {i for i, needed in enumerate(ctx.needs_input_grad) if needed}
        if dy is None:  # only residual_out went on
            dx, dweight, dbias, dgate = _to(dtotal, ctx.x_dtype), None, None, None
        else:
            bits = {0: NEEDS_X, 7: NEEDS_X, 1: NEEDS_WEIGHT, 2: NEEDS_BIAS, 8: NEEDS_GATE}
            needs = sum({bits[i] for i in need & bits.keys()})  # x and residual have one gradient
            dx, dweight, dbias, dgate = operator(
                dy, x, weight, rstd, needs, eps, contract, mean, bias, residual, total, dtotal, gate, cos, sin, positions,
                *numbers, ctx.x_dtype,
            )  # fmt: skip
        of_x, of_residual = dx if 0 in need else None, _to(dx, ctx.residual_dtype)
        return _as_many((of_x, dweight, dbias, None, None, None, None, of_residual, dgate), ctx)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        x, weight, bias, residual, gate, cos, sin, positions = ctx.saved_tensors
        dx, dweight, dbias, _, _, _, _, dresidual, dgate = tangents[:9]
        v, dv = _sum(x, residual), _sum(dx, dresidual)
        row, moved = Row(v, weight, bias, gate), Row(dv, dweight, dbias, dgate)
        dy = _formula.jvp(row, moved, (cos, sin, positions), ctx.options)
        dtotal = None if residual is None else torch.zeros_like(residual) if dv is None else dv.to(residual.dtype)
        return dy.to(ctx.y_dtype), dtotal, None, None


class Gradients(Function):
    """dx, dweight, dbias and dgate."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> Any:
        return _backward(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        dy, x, weight, rstd, _, eps, contract, _, bias, residual, total, dresidual, gate, *rest = inputs
        cos, sin, positions, *numbers, _ = rest
        ctx.set_materialize_grads(False)
        ctx.options = _options(numbers, eps, contract)
        saved = (dy, x, weight, bias, residual, total, dresidual, gate, cos, sin, positions, rstd)
        ctx.save_for_forward(*saved)
        ctx.save_for_backward(*saved)

    @staticmethod
    def _row(saved: tuple[Any, ...]) -> Row:
        _, x, weight, bias, residual, total, _, gate = saved[:8]
        return Row(_sum(x, residual) if total is None else total, weight, bias, gate)

    @staticmethod
    def backward(ctx: Any, ddx: Any, ddweight: Any, ddbias: Any, ddgate: Any) -> Any:
        saved = ctx.saved_tensors
        dy, x, _, _, residual, total, dresidual, gate, cos, sin, positions, rstd = saved
        o, row = ctx.options, Gradients._row(saved)
        contract = contracts.from_text(o.contract)
        kernel = (
            not torch.is_grad_enabled()
            and (contract.statistic, contract.eps_place, contract.gate_place) == ("rms", "inside", "none")
            and cos is None
            and not o.window
        )
        ddy = dv = dweight = dbias = dgate = None
        if not kernel:
            if any(c is not None for c in (ddx, ddweight, ddbias, ddgate)):
                ddy, rest = _formula.double_backward(dy, row, (cos, sin, positions), o, [ddx, ddweight, ddbias, ddgate])
                dv, dweight, dbias, dgate = rest
        else:
            if ddx is not None or ddweight is not None:
                needs = NEEDS_X | ctx.needs_input_grad[2] * NEEDS_WEIGHT | NEEDS_DY
                dv, dweight, ddy = ops.double_backward.default(
                    dy, row.v, row.weight, rstd, ddx, ddweight, needs, o.eps, o.contract, o.groups
                )
            if ddbias is not None:
                ddbias = ddbias.reshape(-1).expand_as(dy).to(dy.dtype)
                ddy = ddbias if ddy is None else ddy + ddbias
        of_sum = _to(dv, x), _to(dv, residual), _to(dv, total)
        gradients = (ddy, of_sum[0], dweight, None, None, None, None, None, dbias, *of_sum[1:], _to(ddx, dresidual), dgate)
        return _as_many(gradients, ctx)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        saved = ctx.saved_tensors
        cos, sin, positions = saved[8:11]
        row = Gradients._row(saved)
        ddy, dx, dweight, _, _, _, _, _, dbias, dresidual_in, dtotal, ddresidual, dgate = tangents[:13]
        moved = Gradients._row((None, dx, dweight, dbias, dresidual_in, dtotal, None, dgate))
        dx, dweight, dbias, dgate = _formula.backward_jvp(saved[0], ddy, row, moved, (cos, sin, positions), ctx.options)
        if ddresidual is not None:
            dx = dx + ddresidual
        return dx, dweight, dbias, dgate


def _sum(x: Optional[Tensor], residual: Optional[Tensor]) -> Any:
    """x + residual in the compute type, of those that are there."""
    if x is None or residual is None:
        return residual if x is None else x
    to = wide(x.dtype)
    return x.to(to) + residual.to(to)


class QkNorm(Function):
    """q and k."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> Any:
        return ops._qk_norm.default(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        q, k, q_weight, k_weight, ctx.eps, ctx.contract, cos, sin, positions, *ctx.numbers = inputs
        saved = (q, k, q_weight, k_weight, cos, sin, positions)
        ctx.save_for_forward(*saved)
        ctx.save_for_backward(*saved)

    @staticmethod
    def backward(ctx: Any, dq: Tensor, dk: Tensor) -> Any:
        q, k, q_weight, k_weight, *tables = ctx.saved_tensors
        need = ctx.needs_input_grad
        needs = NEEDS_X | (need[2] or need[3]) * NEEDS_WEIGHT
        rest = needs, ctx.eps, ctx.contract
        turned = *tables, *ctx.numbers
        if torch.is_grad_enabled():
            own = [
                Gradients.apply(dx, x, weight, None, *rest, *(None,) * 6, *turned, 1, 0, x.dtype)
                for dx, x, weight in ((dq, q, q_weight), (dk, k, k_weight))
            ]
            gradients = own[0][0], own[1][0], own[0][1], own[1][1]
        else:
            gradients = ops.qk_norm_backward.default(dq, dk, q, k, q_weight, k_weight, *rest, *turned)
        return _as_many(gradients, ctx)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        q, k, q_weight, k_weight, *tables = ctx.saved_tensors
        o = _options((*ctx.numbers, 1, 0), ctx.eps, ctx.contract)
        return tuple(
            _formula.jvp(Row(x, weight, None, None), Row(dx, dweight, None, None), tuple(tables), o).to(x.dtype)
            for x, weight, dx, dweight in ((q, q_weight, tangents[0], tangents[2]), (k, k_weight, tangents[1], tangents[3]))
        )


class Rms(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Any:
        return ops._rms.default(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_forward(*inputs)
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, drms: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return (RmsBackward.apply if torch.is_grad_enabled() else ops._rms_backward.default)(x, drms)

    @staticmethod
    def jvp(ctx: Any, dx: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        to = wide(x.dtype)
        return (_rms_gradient(x.to(to), torch.ones((), dtype=to)) * dx).sum(-1)


def _rms_gradient(x: Tensor, drms: Tensor) -> Tensor:
    """drms * x / (cols * rms); 0 for a row of zeros."""
    own = x.to(drms.dtype)
    square = own.square().mean(-1, keepdim=True)
    zero = square == 0
    scale = torch.where(zero, 0.0, torch.rsqrt(torch.where(zero, 1.0, square)))
    return (own * (drms.unsqueeze(-1) * scale / x.shape[-1])).to(x.dtype)


class RmsBackward(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, drms: Tensor) -> Any:
        return ops._rms_backward.default(x, drms)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_forward(*inputs)
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> Any:
        return _formula.vjp(_rms_gradient, *ctx.saved_tensors)[1](ddx)

    @staticmethod
    def jvp(ctx: Any, dx: Optional[Tensor], ddrms: Optional[Tensor]) -> Any:
        primals = list(ctx.saved_tensors)
        tangents = [torch.zeros_like(p) if t is None else t for p, t in zip(primals, (dx, ddrms))]
        return _formula.linearise(_rms_gradient, primals, tangents)


class RmsPenalty(Function):
    """The penalty, and what its gradient is multiplied by."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> Any:
        return ops._rms_penalty.default(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, ctx.lambda_, _, _ = inputs
        if output[1] is not None:
            ctx.mark_non_differentiable(output[1])
        ctx.save_for_forward(x)
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, dpenalty: Tensor, _: Any = None) -> Any:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradient = x.to(dpenalty.dtype) * (2 * ctx.lambda_ / x.shape[-1])
        else:
            gradient = ops._rms_penalty.default(x, ctx.lambda_, False, True)[1]
        return (gradient * dpenalty.unsqueeze(-1)).to(x.dtype), None, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: Any) -> Any:
        (x,) = ctx.saved_tensors
        return (x.to(wide(x.dtype)) * dx).mean(-1) * (2 * ctx.lambda_), None


class SecondGradients(Function):
    """dx, dweight and ddy of double_backward; what comes after them is the formula's."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> Any:
        return ops.double_backward.default(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        dy, x, weight, _, ddx, ddweight, ctx.needs, eps, contract, groups = inputs
        ctx.options = Options(0, 0, 0, groups, 0, eps, contract)
        ctx.save_for_forward(dy, x, weight, ddx, ddweight)
        ctx.save_for_backward(dy, x, weight, ddx, ddweight)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        given = tuple(c for c, need in zip(cotangents, (1, 2, 4)) if ctx.needs & need)
        values, fill, function = _formula.second_gradients(ctx.saved_tensors, ctx.needs, ctx.options)
        dy, x, weight, ddx, ddweight = fill(_formula.vjp(function, *values)[1](given))
        return _as_many((dy, x, weight, None, ddx, ddweight, None, None, None, None), ctx)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        saved = ctx.saved_tensors
        values, _, function = _formula.second_gradients(saved, ctx.needs, ctx.options)
        moved = (*tangents[:3], *tangents[4:6])
        own = [torch.zeros_like(v) if t is None else t for v, t in zip(saved, moved) if v is not None]
        derivative = iter(_formula.linearise(function, values, own))
        return tuple(next(derivative) if ctx.needs & need else None for need in (1, 2, 4))


FUNCTIONS: dict[str, Any] = {
    "double_backward": SecondGradients,
    "forward": Norm,
    "backward": Gradients,
    "qk_norm": QkNorm,
    "rms": Rms,
    "rms_backward": RmsBackward,
    "rms_penalty": RmsPenalty,
}


class Plain(Function):
    """y of x, weight and bias alone, in the classic form: the shortest way through autograd.

    computed: [y], if it was computed already; None: computed here, which is not for LayerNorm, as its mean is not kept."""

    @staticmethod
    def forward(ctx: Any, computed: Any, x: Tensor, weight: Any, bias: Any, eps: float, contract: str) -> Any:
        # The statistic of a few rows is computed again.
        y, rstd = _plain_rstd(x, weight, bias, eps, contract) if computed is None else (*computed, None)
        ctx.save_for_backward(x, weight, bias, rstd)
        ctx.options = eps, contract
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        _, need_x, need_weight, need_bias, _, _ = ctx.needs_input_grad
        x, weight, bias, rstd = ctx.saved_tensors
        eps, contract = ctx.options
        gradients: Any = None
        ordinary = rstd is None and not _direct.compiling() and not torch.is_grad_enabled()
        if ordinary and _direct.untransformed() and _direct.unwatched():
            gradients = _direct.backward(dy, x, weight, bias, need_x, need_weight, need_bias, eps, contract)
        if gradients is None:
            needs = need_x * NEEDS_X + need_weight * NEEDS_WEIGHT + need_bias * NEEDS_BIAS
            gradients = plain_gradients(dy, x, weight, bias, rstd, needs, eps, contract)
        return None, *gradients, None, None


def plain_gradients(dy: Tensor, x: Tensor, weight: Any, bias: Any, rstd: Any, needs: int, eps: float, contract: str) -> Any:
    """Those of x, weight and bias."""
    if torch.is_grad_enabled():
        return Gradients.apply(dy, x, weight, rstd, needs, eps, contract, None, bias, *(None,) * 7, 0, 0, 0, 1, 0, x.dtype)[:3]
    return _plain_backward(dy, x, weight, bias, rstd, needs, eps, contract)
