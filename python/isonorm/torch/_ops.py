"""What torch has to know of the operators beside their kernels: shapes (fake tensors), batches (vmap) and gradients."""

from __future__ import annotations

from typing import Any, Callable, Optional

import torch
from torch import Tensor
from torch.autograd import forward_ad

from isonorm import contracts
from isonorm.torch import _autograd
from isonorm.torch._autograd import NEEDS_BIAS, NEEDS_DY, NEEDS_GATE, NEEDS_WEIGHT, NEEDS_X
from isonorm.torch._formula import wide
from isonorm.torch._library import ops


# ------------------------------------------------------------------------------------------------------------- fake tensors


_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def _check(x: Tensor, cols: dict[str, Optional[Tensor]], rows: dict[str, Optional[Tensor]]) -> None:
    """What a kernel checks first, for tensors without values."""
    torch._check(x.dim() >= 1, lambda: "x.ndim is 0, but must be from 1 to 7 (up to 6 leading dimensions).")
    if x.device.type not in ("cpu", "meta"):
        raise RuntimeError(f"x is on {x.device}, but isonorm computes on the CPU")
    for name, tensor in (("x", x), *cols.items(), *rows.items()):
        if tensor is None:
            continue
        if tensor.device != x.device:
            raise RuntimeError(f"{name} is on {tensor.device}, but x is on {x.device}")
        if tensor.dtype not in _FLOATS:
            raise RuntimeError(f"{name} has dtype {tensor.dtype}, but has to be float32, bfloat16, float16 or float64")
        if (tensor.dtype is torch.float64) != (x.dtype is torch.float64):
            raise RuntimeError(f"{name} is {tensor.dtype}, but x is {x.dtype}: where one is float64, all have to be")
    for name, tensor in (*cols.items(), *rows.items()):
        if tensor is None:
            continue
        shape = tuple(tensor.shape)

        def sentence(name: str = name, shape: Any = shape) -> str:
            return f"{name} has shape {shape}, but x has {tuple(x.shape)}"

        if name in cols:
            torch._check(tensor.numel() == x.shape[-1], sentence)
            continue
        torch._check(tensor.dim() == x.dim(), sentence)
        for own, other in zip(shape, x.shape):
            torch._check(own == other, sentence)


def _like(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.new_empty(x.shape, dtype=dtype)


def _per_row(x: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    return x.new_empty((*x.shape[:-1], count) if count else x.shape[:-1], dtype=dtype)


def _vector(like: Optional[Tensor], wanted: int) -> Optional[Tensor]:
    return like.new_empty(like.shape) if like is not None and wanted else None


def _fake_rms_norm(x: Tensor, weight: Any = None, bias: Any = None, *, eps: float, contract: str = "torch") -> Tensor:
    _check(x, {"weight": weight, "bias": bias}, {})
    return _like(x, x.dtype)


def _fake_plain(x: Tensor, weight: Any, bias: Any, eps: float, contract: str) -> Tensor:
    return _fake_rms_norm(x, weight, bias, eps=eps, contract=contract)


def _fake_plain_rstd(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _fake_plain(x, *rest), _per_row(x, 0, wide(x.dtype))


def _fake_plain_backward(
    dy: Tensor, x: Tensor, weight: Any, bias: Any, rstd: Any, needs: int, eps: float, contract: str
) -> tuple[Any, ...]:
    return _fake_backward(dy, x, weight, rstd, needs, eps, contract, None, bias)[:3]


def _fake_forward(
    x: Tensor, weight: Any, bias: Any, eps: float, contract: str, want_rstd: bool, want_mean: bool = False,
    residual: Any = None, gate: Any = None, cos: Any = None, sin: Any = None, positions: Any = None, style: int = 0,
    position_dim: int = 0, position_offset: int = 0, groups: int = 1, window: int = 0, dtype: Optional[torch.dtype] = None,
) -> tuple[Any, ...]:  # fmt: skip
    _check(x, {"weight": weight, "bias": bias}, {"residual": residual, "gate": gate})
    count = groups if groups > 1 else 0
    return (
        _like(x, dtype or x.dtype),
        _like(x, residual.dtype) if residual is not None else None,
        _per_row(x, count, wide(x.dtype)) if want_mean else None,
        _per_row(x, count, wide(x.dtype)) if want_rstd else None,
    )


def _fake_quantized(*args: Any) -> tuple[Any, ...]:
    def computed(scale: Any = None, kind: int = 0, rounded_to: int = 0, group_cols: int = 0, *rest: float) -> Any:
        count = args[0].shape[-1] // group_cols if group_cols > 0 else 0
        return _per_row(args[0], count, torch.float32 if kind == 2 else torch.uint8) if scale is None else None

    y, residual_out, mean, rstd = _fake_forward(*args[:18])
    return y, residual_out, computed(*args[18:]), mean, rstd


def _fake_backward(
    dy: Tensor, x: Any, weight: Any, rstd: Any, needs: int, eps: float, contract: str, mean: Any = None, bias: Any = None,
    residual: Any = None, residual_out: Any = None, dresidual: Any = None, gate: Any = None, cos: Any = None, sin: Any = None,
    positions: Any = None, style: int = 0, position_dim: int = 0, position_offset: int = 0, groups: int = 1, window: int = 0,
    x_dtype: Optional[torch.dtype] = None,
) -> tuple[Any, ...]:  # fmt: skip
    x_dtype = x_dtype or (dy if x is None else x).dtype
    rows = {"x": x, "residual": residual, "residual_out": residual_out, "dresidual": dresidual, "gate": gate}
    _check(dy, {"weight": weight, "bias": bias}, rows)
    return (
        _like(dy, x_dtype) if needs & NEEDS_X else None,
        _vector(weight, needs & NEEDS_WEIGHT),
        _vector(bias, needs & NEEDS_BIAS),
        _like(dy, gate.dtype) if needs & NEEDS_GATE and gate is not None else None,
    )


def _fake_double_backward(
    dy: Tensor, x: Tensor, weight: Any, rstd: Any, ddx: Any, ddweight: Any, needs: int, eps: float, contract: str,
    groups: int = 1,
) -> tuple[Any, ...]:  # fmt: skip
    _check(x, {"weight": weight, "ddweight": ddweight}, {"dy": dy, "ddx": ddx})
    return (
        _like(x, x.dtype) if needs & NEEDS_X else None,
        _vector(weight, needs & NEEDS_WEIGHT),
        _like(x, dy.dtype) if needs & NEEDS_DY else None,
    )


def _fake_qk_norm(q: Tensor, k: Tensor, q_weight: Any, k_weight: Any, *rest: Any) -> tuple[Tensor, Tensor]:
    _check(q, {"q_weight": q_weight}, {})
    _check(k, {"k_weight": k_weight}, {})
    return _like(q, q.dtype), _like(k, k.dtype)


def _fake_qk_norm_backward(
    dq: Tensor, dk: Tensor, q: Tensor, k: Tensor, q_weight: Any, k_weight: Any, needs: int, *rest: Any
) -> tuple[Any, ...]:
    _check(q, {"q_weight": q_weight}, {"dq": dq})
    _check(k, {"k_weight": k_weight}, {"dk": dk})
    wanted = needs & NEEDS_WEIGHT
    return _like(q, q.dtype), _like(k, k.dtype), _vector(q_weight, wanted), _vector(k_weight, wanted)


def _fake_rms(x: Tensor) -> Tensor:
    _check(x, {}, {})
    return _per_row(x, 0, wide(x.dtype))


def _fake_rms_penalty(x: Tensor, lambda_: float, want_penalty: bool, want_gradient: bool) -> tuple[Any, Any]:
    _check(x, {}, {})
    to = wide(x.dtype)
    return _per_row(x, 0, to) if want_penalty else None, _like(x, to) if want_gradient else None


# -------------------------------------------------------------------------------------------------------------------- vmap


def _batched(
    op: Any,
    rows: tuple[int, ...],
    position_dim: Optional[int] = None,
    sums: Callable[..., Any] = lambda *args: False,
) -> Callable[..., Any]:
    """A rule for vmap: one call, where the batch is a first dimension of every tensor that has rows; where a weight has a
    batch of its own, or `sums` says that a sum over rows is wanted for each of them, a call for each item.

    rows: the arguments that have rows. position_dim: where that argument is, behind cos, sin, positions and style."""
    if position_dim is not None:
        rows += (position_dim - 2,)

    def rule(info: Any, in_dims: tuple[Optional[int], ...], *args: Any, **options: Any) -> tuple[Any, Any]:
        batch = [i for i, dim in enumerate(in_dims) if dim is not None]
        values = list(args)
        if position_dim is not None:  # torch leaves out what equals its default
            values += [argument.default_value for argument in op._schema.arguments[len(values) :]]
        if set(batch) <= set(rows) and not sums(*args):
            for i in rows:
                if isinstance(values[i], Tensor):
                    own, dim = values[i], in_dims[i]
                    values[i] = own.movedim(dim, 0) if dim is not None else own.expand(info.batch_size, *own.shape)
            if position_dim is not None and values[position_dim - 2] is None:
                values[position_dim] += 1
            out = op(*values, **options)
            if isinstance(out, Tensor):
                return out, 0
            return out, tuple(0 if o is not None else None for o in out)
        results = []
        for item in range(info.batch_size):
            for i in batch:
                values[i] = args[i].select(in_dims[i], item)
            results.append(op(*values, **options))
        if not results:
            raise RuntimeError("vmap over an empty batch of weights has no result")
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        columns = [None if column[0] is None else torch.stack(column) for column in zip(*results)]
        return tuple(columns), tuple(0 if c is not None else None for c in columns)

    return rule


# ------------------------------------------------------------------------------------------------------------ registration


# Without this torch looks at every tensor of a call before a kernel that has no formula.
_library = torch.library.Library("isonorm", "IMPL")  # type: ignore[no-untyped-call]


def _register(name: str, fake: Callable[..., Any], rows: tuple[int, ...], **options: Any) -> None:
    op = getattr(ops, name).default
    torch.library.register_fake(op, fake)
    torch.library.register_vmap(op, _batched(op, rows, **options))
    if name.startswith("_"):
        _library.impl(name, torch.library.fallthrough_kernel, "AutogradCPU")  # type: ignore[no-untyped-call]


_register("rms_norm", _fake_rms_norm, (0,))
_register("_rms_norm", _fake_plain, (0,))
_register("_rms_norm_rstd", _fake_plain_rstd, (0,))
_register("_rms_norm_backward", _fake_plain_backward, (0, 1, 4), sums=lambda *args: args[5] & (NEEDS_WEIGHT | NEEDS_BIAS))
for _prefix in ("", "_"):
    _register(_prefix + "forward", _fake_forward, (0, 7, 8), position_dim=13)
    _register(
        _prefix + "backward", _fake_backward, (0, 1, 3, 7, 9, 10, 11, 12), position_dim=17,
        sums=lambda *args: args[4] & (NEEDS_WEIGHT | NEEDS_BIAS),
    )  # fmt: skip
    _register(_prefix + "qk_norm", _fake_qk_norm, (0, 1), position_dim=10)
    _register(_prefix + "rms", _fake_rms, (0,))
    _register(_prefix + "rms_backward", lambda x, drms: _like(x, x.dtype), (0, 1))
    _register(_prefix + "rms_penalty", _fake_rms_penalty, (0,))
_register("quantized", _fake_quantized, (0, 7, 8), position_dim=13)
_register("double_backward", _fake_double_backward, (0, 1, 3, 4), sums=lambda *args: args[6] & NEEDS_WEIGHT)
_register("qk_norm_backward", _fake_qk_norm_backward, (0, 1, 2, 3), position_dim=13, sums=lambda *args: args[6] & NEEDS_WEIGHT)


def _register_autograd(name: str, function: Any, whole: Callable[..., Any]) -> None:
    """Gradients of an operator, and forward mode, which torch's registration leaves out: it would take tangents for zeros.

    function: has backward and setup_context. whole: of the operator's arguments, by a Function that has a jvp."""
    op = getattr(ops, name).default
    torch.library.register_autograd(op, function.backward, setup_context=function.setup_context)
    for key in ("AutogradCPU", "AutogradMeta"):
        reverse = torch.library.get_kernel(op, key).call_boxed

        def kernel(keyset: Any, *args: Any, _reverse: Any = reverse, **options: Any) -> Any:
            forward_mode = forward_ad._current_level >= 0 and any(_has_tangent(a) for a in args)
            if torch._C._are_functorch_transforms_active() and (forward_mode or any_requires_grad(*args)):
                raise NotImplementedError(
                    f"torch.func does not differentiate torch.ops.isonorm.{name}, nor a graph that holds it: call the functions "
                    "of isonorm.torch, not compiled"
                )
            if forward_mode:
                return whole(*args, **options)
            return _reverse(keyset, *args, **options)

        _library.impl(name, kernel, key, with_keyset=True)  # type: ignore[no-untyped-call]


any_requires_grad: Callable[..., bool] = torch._C._any_requires_grad


def _has_tangent(value: Any) -> bool:
    return isinstance(value, Tensor) and forward_ad.unpack_dual(value).tangent is not None


def _filled(name: str, function: Any) -> Callable[..., Any]:
    """A Function of all arguments: torch leaves out those that equal their defaults."""
    defaults = [argument.default_value for argument in getattr(ops, name).default._schema.arguments]
    return lambda *args: function.apply(*args, *defaults[len(args) :])


def _rms_norm(x: Tensor, weight: Any = None, bias: Any = None, *, eps: float, contract: str = "torch") -> Tensor:
    layer = contracts.from_text(contract).statistic == "layer"
    y: Tensor = _filled("forward", _autograd.Norm)(x, weight, bias, eps, contract, True, layer)[0]
    return y


class _Operator:
    """Of the operator rms_norm; the statistic is computed again."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], keyword_only_inputs: dict[str, Any], output: Tensor) -> None:
        ctx.options = keyword_only_inputs["eps"], keyword_only_inputs["contract"]
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        need = ctx.needs_input_grad
        needs = sum(bit for bit, needed in zip((NEEDS_X, NEEDS_WEIGHT, NEEDS_BIAS), need) if needed)
        x, weight, bias = ctx.saved_tensors
        eps, contract = ctx.options
        return _autograd.plain_gradients(dy, x, weight, bias, None, needs, eps, contract)[: len(need)]


for _name, _function in _autograd.FUNCTIONS.items():
    _register_autograd(_name, _function, _filled(_name, _function))
_register_autograd("rms_norm", _Operator, _rms_norm)
