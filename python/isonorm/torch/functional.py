"""RMSNorm and LayerNorm of tensors of torch: functions. `isonorm.torch` has their names."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Iterable, Optional, Union

import torch
from torch import Tensor

from isonorm._arrays import integer
from isonorm.contracts import ContractLike
from isonorm.norm import _STYLES, Quantization
from isonorm.torch._call import (
    FORWARD, QK_NORM, RMS, RMS_PENALTY, Frame, any_gradient, explain, grad_enabled, matched, plain, result,
    record, takes_mean, text_of,
)  # fmt: skip
from isonorm.torch._direct import compiling, forward as direct, tracing, untransformed, unwatched
from isonorm.torch._library import ops

Shape = Union[int, Iterable[int]]

_ONE = 1  # as the default of groups: whatever else is given, even an array, is another object

_plain = ops._rms_norm.default
_compiled = ops.rms_norm.default


@dataclasses.dataclass(frozen=True, eq=False)
class Rope:
    """Rotation (RoPE, Su et al. 2021) of what leaves the norm, in the same call; see `isonorm/rope.h`.

        >>> import torch, isonorm.torch
        >>> angles = torch.outer(torch.arange(5.0), torch.tensor([1.0, 0.1]))
        >>> rope = isonorm.torch.Rope(angles.cos(), angles.sin(), position_axis=0)
        >>> isonorm.torch.rms_norm(torch.ones(5, 2, 4), eps=1e-6, rope=rope).shape  # tokens, heads, head_dim
        torch.Size([5, 2, 4])

    cos, sin: [table positions, R / 2], float32 or x's type, without a gradient; R is at most head_dim. Of a table that
        has every value twice, as Hugging Face makes it, pass the first half of each row: ``cos[:, : cos.shape[1] // 2]``.
    positions: int32 or int64, rows of the tables, one for each index of the first leading dimensions of x. None:
        position_offset + the index along dimension `position_axis` of x.
    style: "half" turns i and i + R / 2 (Llama, Qwen3, Gemma in Hugging Face's code), "interleaved" 2 i and 2 i + 1 (GPT-J).

    The call that gets it raises ValueError for another style or a position_axis that is no leading axis of x, RuntimeError for
    tables of other shapes or that require a gradient, and for positions that they do not have.
    """

    cos: Tensor
    sin: Tensor
    positions: Optional[Tensor] = None
    position_axis: int = 0
    position_offset: int = 0
    style: str = "half"

    def _arguments(self, ndim: int) -> tuple[Any, ...]:
        """As the operators take it: tensors, then numbers."""
        if not isinstance(self.style, str) or self.style not in _STYLES:
            raise ValueError(f"style is {self.style!r}, but has to be 'half' or 'interleaved'")
        axis = self.position_axis
        for name, number in (("position_axis", axis), ("position_offset", self.position_offset)):
            if not isinstance(number, int):  # torch.compile cannot enter what is compiled
                integer(number, name)
        for name, tensor in (("rope.cos", self.cos), ("rope.sin", self.sin), ("rope.positions", self.positions)):
            if not isinstance(tensor, Tensor) and not (tensor is None and name == "rope.positions"):
                raise TypeError(f"{name} is a {type(tensor).__name__}, but has to be a torch.Tensor")
        if self.positions is None and (axis == -1 or not -ndim <= axis < ndim - 1):
            raise ValueError(f"position_axis is {axis}, but has to be a leading axis of x, which has {ndim} dimensions")
        if grad_enabled() and (self.cos.requires_grad or self.sin.requires_grad):
            raise RuntimeError("rope.cos and rope.sin must not require a gradient, which isonorm does not compute: detach them")
        axis = 0 if self.positions is not None else axis % ndim
        return self.cos, self.sin, self.positions, _STYLES[self.style], axis, self.position_offset


_NO_ROPE = (None, None, None, 0, 0, 0)


def _wants_gradient(x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor]) -> bool:
    return grad_enabled() and (
        x.requires_grad or (weight is not None and weight.requires_grad) or (bias is not None and bias.requires_grad)
    )


def rms_norm(
    x: Tensor,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    *,
    eps: float,
    contract: ContractLike = "torch",
    residual: Optional[Tensor] = None,
    gate: Optional[Tensor] = None,
    groups: int = 1,
    window: Optional[int] = None,
    rope: Optional[Rope] = None,
    quantize: Optional[Quantization] = None,
    normalized_shape: Optional[Shape] = None,
    dtype: Optional[torch.dtype] = None,
    return_rstd: bool = False,
    return_mean: bool = False,
) -> Any:
    """Normalises rows: ``y = round(x * rstd) * (weight + weight_offset) + bias`` with ``rstd = 1 / sqrt(mean(x^2) + eps)``.

    Not in the order of `torch.nn.functional.rms_norm`, whose second argument is normalized_shape: here it is the weight.

        >>> import torch, isonorm.torch
        >>> x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
        >>> isonorm.torch.rms_norm(x, torch.tensor([1.0, 1.0, 1.0, 2.0]), eps=1e-6)
        tensor([[0.3651, 0.7303, 1.0954, 2.9212]])

    Zhang and Sennrich 2019; docs/numerics.md says where each contract rounds. The same bits on every CPU, for every number of
    threads (`torch.set_num_threads`), and for a row alone as in its batch. Differentiable in x, weight, bias, residual and
    gate, any number of times.

    x: [..., cols] of float32, bfloat16, float16 or float64 on the CPU (or meta), with any strides; copied only if its last
        dimension has another stride than 1 or 0, or if it has more than 7 dimensions and is not contiguous.
    weight, bias: [cols], with normalized_shape of that shape; None: ones and zeros. Types may differ among float32, bfloat16
        and float16. Of float64 beside another x they are rounded to float32 first, to nearest even, and beside an x of float64
        they become float64; their gradients have their own types. Autocast changes nothing.
    eps: there is no default. Finite, not negative; rounded to the compute type, float32 (float64 for float64).
    contract: a name or an isonorm.Contract: what is rounded where.
    residual: like x. The row that is normalised is x + residual, which is a second result, `residual_out`, of residual's type.
    gate: like x; for contracts with a gate_place, such as "mamba2" and "qwen3_next_gated".
    groups: groups of neighbouring columns that are normalised by themselves; rstd gets a last dimension of them.
    window: the first values of a group that the statistic sees (pRMSNorm); None: all.
    rope: rotates the result. quantize: makes it int8 or an 8-bit float; `scale` is a further result where it is computed. That
        has no gradient: an error where one is asked for.
    normalized_shape: the last sizes of x, over which one statistic is taken; None: the last one.
    dtype: of y; None: x's.
    return_rstd, return_mean (LayerNorm): add them to the results, [...], in float32 (float64 for float64). Gradients do not
        flow through them.

    Returns y, compact and row-major, or a named tuple of y, residual_out, scale, mean, rstd: those there are.
    Raises RuntimeError and, for arguments of another type than these, TypeError; the sentence names the argument.
    """
    try:
        plain_call = (
            residual is None
            and gate is None
            and rope is None
            and quantize is None
            and groups is _ONE
            and window is None
            and normalized_shape is None
            and dtype is None
            and not return_rstd
            and not return_mean
        )
        if plain_call and type(contract) is str and not compiling() and untransformed() and unwatched():
            y = direct(x, weight, bias, eps, contract)
            if y is not None:
                return record([y], x, weight, bias, eps, contract) if _wants_gradient(x, weight, bias) else y
        text = text_of(contract)
        if weight is not None and weight.dtype is not x.dtype:
            weight = matched(weight, x, "weight")
        if bias is not None and bias.dtype is not x.dtype:
            bias = matched(bias, x, "bias")
        if plain_call:
            grad = _wants_gradient(x, weight, bias)
            if compiling():
                if not grad:
                    return _compiled(x, weight, bias, eps=eps, contract=text)
            elif tracing():  # the same operator whether or not a gradient is wanted: torch compares two traces
                return _compiled(x, weight, bias, eps=eps, contract=text)
            elif untransformed():
                if not grad:
                    return _plain(x, weight, bias, eps, text)
                if not takes_mean(text):
                    return plain(None, x, weight, bias, eps, text)
            return FORWARD(
                x, weight, bias, eps, text, True, takes_mean(text), None, None, *_NO_ROPE, 1, 0, None
            )[0]  # fmt: skip
        return general(
            x, weight, bias, eps, text, residual, gate, groups, window, rope, quantize, normalized_shape, dtype, return_rstd,
            return_mean,
        )  # fmt: skip
    except Exception as error:
        explain(
            error,
            {"x": x},
            {"weight": weight, "bias": bias, "residual": residual, "gate": gate},
            {"eps": eps},
            {"groups": groups, "window": 0 if window is None else window},
            rope=(rope, Rope),
            quantize=(quantize, Quantization),
            dtype=(dtype, torch.dtype),
            return_rstd=(return_rstd, bool),
            return_mean=(return_mean, bool),
        )


def general(
    x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor], eps: float, contract: str, residual: Optional[Tensor],
    gate: Optional[Tensor], groups: int, window: Optional[int], rope: Optional[Rope], quantize: Optional[Quantization],
    normalized_shape: Optional[Shape], dtype: Optional[torch.dtype], return_rstd: bool, return_mean: bool,
    forward: Callable[..., Any] = FORWARD,
) -> Any:  # fmt: skip
    frame = None
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError("dtype is no torch.dtype")  # an int would be one to the operators
    if normalized_shape is not None:
        frame = Frame(x, normalized_shape)
        x, residual, gate = frame.rows(x), frame.rows(residual), frame.rows(gate)
        weight, bias = frame.vector(weight, "weight"), frame.vector(bias, "bias")
    tensors = (x, weight, bias, residual, gate)
    window = 0 if window is None else window
    turned = _NO_ROPE if rope is None else rope._arguments(x.dim())
    wanted = (return_rstd, return_mean)
    if quantize is None:
        if any_gradient(tensors):
            wanted = (True, return_mean or takes_mean(contract))
        y, total, mean, rstd = forward(
            x, weight, bias, eps, contract, *wanted, residual, gate, *turned, groups, window, dtype
        )  # fmt: skip
        scale = None
    else:
        if any_gradient(tensors):
            raise RuntimeError(f"quantize gives {quantize.dtype}, which has no gradient: call it under torch.no_grad()")
        given = getattr(torch, quantize.dtype)
        if dtype is not None and dtype != given:
            raise RuntimeError(f"dtype is {dtype}, but quantize gives {given}")
        kind, rounded_to, *numbers = quantize._tuple()
        static = None if isinstance(quantize.scale, str) else x.new_full((1,), quantize.scale, dtype=torch.float32)
        y, total, scale, mean, rstd = ops.quantized.default(
            x, weight, bias, eps, contract, *wanted, residual, gate, *turned, groups, window, given,
            static, kind, ("", "bfloat16", "float16").index(rounded_to), *numbers,
        )  # fmt: skip
        if scale is not None and scale.dtype == torch.uint8:
            scale = scale.view(torch.float8_e8m0fnu)
    if frame is not None:
        y, total = frame.restored(y), frame.restored(total)
    return result("Norm", y, total, scale, mean if return_mean else None, rstd if return_rstd else None)


def layer_norm(
    x: Tensor,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    *,
    eps: float,
    contract: ContractLike = "layer_norm",
    **options: Any,
) -> Any:
    """LayerNorm: ``y = (x - mean) * rstd * weight + bias`` with ``rstd = 1 / sqrt(var + eps)`` (Ba, Kiros and Hinton 2016).

    Not in the order of `torch.nn.functional.layer_norm`: the second argument is the weight.

        >>> import torch, isonorm.torch
        >>> isonorm.torch.layer_norm(torch.tensor([[1.0, 3.0]]), eps=0)
        tensor([[-1.,  1.]])

    Arguments, results and errors are those of `rms_norm`, but for window, which a mean excludes. Raises ValueError for a
    contract without a mean.
    """
    text = text_of(contract)
    if not takes_mean(text):
        raise ValueError(f"contract {contract!r} has no mean: use rms_norm")
    return rms_norm(x, weight, bias, eps=eps, contract=text, **options)


def qk_norm(
    q: Tensor,
    k: Tensor,
    q_weight: Optional[Tensor] = None,
    k_weight: Optional[Tensor] = None,
    *,
    eps: float,
    contract: ContractLike = "torch",
    rope: Optional[Rope] = None,
) -> tuple[Tensor, Tensor]:
    """Normalises the heads of q and k, and with `rope` rotates them, in one call, as Qwen3 has it. Differentiable in all four.

        >>> import torch, isonorm.torch
        >>> q, k = isonorm.torch.qk_norm(torch.ones(5, 4, 8), torch.ones(5, 2, 8), eps=1e-6)
        >>> q.shape, k.shape
        (torch.Size([5, 4, 8]), torch.Size([5, 2, 8]))

    q: [..., tokens, heads, head_dim], k: the same with heads of its own; views of one packed tensor will do. Of [batch, heads,
    tokens, head_dim] pass ``q.transpose(1, 2)``. q_weight, k_weight: [head_dim]. eps, contract, rope: as in rms_norm. Returns
    (q, k). Raises as rms_norm does.
    """
    try:
        if q_weight is not None:
            q_weight = matched(q_weight, q, "q_weight")
        if k_weight is not None:
            k_weight = matched(k_weight, k, "k_weight")
        turned = _NO_ROPE if rope is None else rope._arguments(q.dim())
        return QK_NORM(q, k, q_weight, k_weight, eps, text_of(contract), *turned)  # type: ignore[no-any-return]
    except Exception as error:
        weights = {"q_weight": q_weight, "k_weight": k_weight}
        explain(error, {"q": q, "k": k}, weights, {"eps": eps}, rope=(rope, Rope))


def rms(x: Tensor) -> Tensor:
    """``sqrt(mean(x^2))`` over the last dimension; no row overflows or vanishes on the way. Differentiable.

        >>> import torch, isonorm.torch
        >>> isonorm.torch.rms(torch.tensor([[3e38, 3e38], [1e-30, 1e-30]]))
        tensor([3.0000e+38, 1.0000e-30])

    x: [..., cols], float32, bfloat16, float16 or float64. Returns [...] in float32 (float64 for float64). The gradient is
    ``drms * x / (cols * rms)``, and 0 for a row of zeros. RuntimeError for rows of width 0.
    """
    try:
        return RMS(x)  # type: ignore[no-any-return]
    except Exception as error:
        explain(error, {"x": x})


def rms_penalty(x: Tensor, lambda_: float) -> Tensor:
    """The penalty ``lambda * rms(x)^2`` of every row, which means the same at every width. Differentiable.

        >>> import torch, isonorm.torch
        >>> x = torch.tensor([[2.0, 2.0]], requires_grad=True)
        >>> isonorm.torch.rms_penalty(x, 0.5).sum().backward()
        >>> x.grad
        tensor([[1., 1.]])

    x: as in rms. Returns [...] in float32 (float64 for float64). The gradient is ``2 * lambda / cols * x``. Raises as rms does.
    """
    try:
        return RMS_PENALTY(x, lambda_, True, False)[0]  # type: ignore[no-any-return]
    except Exception as error:
        explain(error, {"x": x}, numbers={"lambda_": lambda_})
