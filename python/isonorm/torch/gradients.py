"""RMSNorm and LayerNorm of tensors of torch: gradients as functions. `isonorm.torch` has their names."""

from __future__ import annotations

from typing import Any, Iterable, Optional, Union

import torch
from torch import Tensor

from isonorm._arrays import names_of
from isonorm.contracts import ContractLike
from isonorm.torch._autograd import NEEDS_DY
from isonorm.torch._call import BACKWARD, DOUBLE_BACKWARD, Frame, explain, matched, result, takes_mean, text_of
from isonorm.torch.functional import _NO_ROPE, Rope, Shape

Names = Union[str, Iterable[str]]


def _bits(needs: Optional[Names], given: dict[str, tuple[int, bool]], name: str) -> int:
    """needs as the operators take it; given: the bit of each gradient, and whether its tensor is there."""
    if needs is None:
        return sum(bit for bit, there in given.values() if there)
    bits = 0
    for need in names_of(needs, {}):
        if need not in given:
            raise ValueError(f"needs has {need!r}, but the gradients of {name} are {', '.join(map(repr, given))}")
        bit, there = given[need]
        if not there:
            raise ValueError(f"needs has {need!r}, but there is no {need[1:]}")
        bits |= bit
    return bits


def rms_norm_backward(
    dy: Tensor,
    x: Tensor,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    *,
    eps: float,
    contract: ContractLike = "torch",
    residual: Optional[Tensor] = None,
    residual_out: Optional[Tensor] = None,
    dresidual: Optional[Tensor] = None,
    gate: Optional[Tensor] = None,
    groups: int = 1,
    window: Optional[int] = None,
    rope: Optional[Rope] = None,
    normalized_shape: Optional[Shape] = None,
    mean: Optional[Tensor] = None,
    rstd: Optional[Tensor] = None,
    needs: Optional[Names] = None,
) -> Any:
    """The gradients of `rms_norm` (and of `layer_norm`, with its contract) with respect to x, weight, bias and gate.

        >>> import torch, isonorm.torch
        >>> x = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
        >>> dx, dweight = isonorm.torch.rms_norm_backward(torch.ones_like(x), x, torch.ones(2, dtype=torch.float64), eps=0)
        >>> dweight
        tensor([0.8485, 1.1314], dtype=torch.float64)

    With ``g = dy * (weight + weight_offset)`` and ``c = x * rstd``: ``dx = rstd * (g - c * mean(g * c))``, ``dweight`` the sum
    over rows of ``dy * c``, and ``dbias`` that of ``dy``. Sums over rows have one order, whatever the number of threads.
    Differentiable.

    dy: like x, type of its own. x, weight, bias, residual, gate, groups, window, rope, normalized_shape, eps, contract: as in
        forward.
    residual_out: as forward returned it, instead of residual. dresidual: the gradient that reached residual_out by other ways;
        dx includes it and is the gradient of residual, too.
    mean, rstd: as forward returned them; None: computed again, to the same bits. For LayerNorm both or neither.
    needs: which gradients, of "dx", "dweight", "dbias", "dgate"; None: those of all that is given.

    Returns the only gradient, or a named tuple of dx, dweight, dbias, dgate: those there are, in the types of x, weight, bias,
    gate (dweight and dbias in those that weight and bias were converted to). Raises as rms_norm does, and ValueError for
    gradients in needs that there are not.
    """
    try:
        inputs = (x, weight, bias, gate)
        names = ("dx", "dweight", "dbias", "dgate")
        given = {name: (1 << i, value is not None) for i, (name, value) in enumerate(zip(names, inputs))}
        bits = _bits(needs, given, "rms_norm")
        if weight is not None:
            weight = matched(weight, x, "weight")
        if bias is not None:
            bias = matched(bias, x, "bias")
        frame = None
        rows: tuple[Any, ...] = (dy, x, residual, residual_out, dresidual, gate)
        if normalized_shape is not None:
            frame = Frame(x, normalized_shape)
            rows = tuple(map(frame.rows, rows))
            weight, bias = frame.vector(weight, "weight"), frame.vector(bias, "bias")
        dy, x, residual, residual_out, dresidual, gate = rows
        x_dtype = x.dtype
        turned = _NO_ROPE if rope is None else rope._arguments(x.dim())
        gradients = BACKWARD(
            dy, None if residual_out is not None else x, weight, rstd, bits, eps, text_of(contract), mean, bias, residual,
            residual_out, dresidual, gate, *turned, groups, 0 if window is None else window, x_dtype,
        )  # fmt: skip
        if frame is not None:
            gradients = map(frame.restored, gradients)
        return result("Gradients", *gradients)
    except Exception as error:
        explain(
            error,
            {"dy": dy, "x": x},
            {"weight": weight, "bias": bias, "residual": residual, "residual_out": residual_out, "dresidual": dresidual,
             "gate": gate, "mean": mean, "rstd": rstd},
            {"eps": eps},
            {"groups": groups, "window": 0 if window is None else window},
            rope=(rope, Rope),
        )  # fmt: skip


def layer_norm_backward(
    dy: Tensor,
    x: Tensor,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    *,
    eps: float,
    contract: ContractLike = "layer_norm",
    **options: Any,
) -> Any:
    """The gradients of `layer_norm`: arguments, results and errors are those of `rms_norm_backward`, but for window.

        >>> import torch, isonorm.torch
        >>> x, weight = torch.randn(3, 8), torch.ones(8)
        >>> y, mean, rstd = isonorm.torch.layer_norm(x, weight, eps=1e-5, return_mean=True, return_rstd=True)
        >>> dx, dweight = isonorm.torch.layer_norm_backward(y, x, weight, eps=1e-5, mean=mean, rstd=rstd)
        >>> dx.shape, dweight.shape
        (torch.Size([3, 8]), torch.Size([8]))

    mean, rstd: [...], both or neither; they may also be those of torch, rounded to bfloat16 or float16 (beside an x of float64
        they are float64). eps is then looked at only for rows whose rstd is not from 2^-48 to 2^47 or whose mean is not below
        2^96.
    Raises ValueError for a contract without a mean.
    """
    text = text_of(contract)
    if not takes_mean(text):
        raise ValueError(f"contract {contract!r} has no mean: use rms_norm_backward")
    return rms_norm_backward(dy, x, weight, bias, eps=eps, contract=text, **options)


def double_backward(
    dy: Tensor,
    x: Tensor,
    weight: Optional[Tensor] = None,
    *,
    ddx: Optional[Tensor] = None,
    ddweight: Optional[Tensor] = None,
    eps: float,
    contract: ContractLike = "torch",
    groups: int = 1,
    rstd: Optional[Tensor] = None,
    needs: Optional[Names] = None,
) -> Any:
    """The gradients of `rms_norm_backward`, for losses that hold gradients themselves (gradient penalties).

        >>> import torch, isonorm.torch
        >>> x, dy = torch.randn(3, 8), torch.randn(3, 8)
        >>> dx, ddy = isonorm.torch.double_backward(dy, x, ddx=torch.ones(3, 8), eps=1e-6)
        >>> dx.shape, ddy.shape
        (torch.Size([3, 8]), torch.Size([3, 8]))

    dy, x: [..., cols]; weight: [cols]; the other arguments: as in rms_norm_backward. ddx (like x) and ddweight (like weight):
    the cotangents of dx and dweight; one of them may be None, which counts as zeros. Returns the gradients of ``sum(ddx * dx) + sum(ddweight * dweight)`` as a named tuple of dx, dweight, ddy: those
    there are, with respect to x, weight and dy. needs: a subset of these names. For the plain RMS norm only: no LayerNorm, no
    eps outside, no gate; ``torch.autograd.grad(..., create_graph=True)`` has second derivatives of every norm. The formulas
    stand in isonorm.h and are derived in docs/numerics.md. Gradients of the results are computed by operators of torch.
    Raises as rms_norm_backward does.
    """
    try:
        given = {"dx": (1, True), "dweight": (2, weight is not None), "ddy": (NEEDS_DY, True)}
        bits = _bits(needs, given, "rms_norm_backward")
        if weight is not None:
            weight = matched(weight, x, "weight")
        if ddweight is not None:
            ddweight = matched(ddweight, x, "ddweight")
        gradients = DOUBLE_BACKWARD(dy, x, weight, rstd, ddx, ddweight, bits, eps, text_of(contract), groups)
        return result("SecondGradients", *gradients)
    except Exception as error:
        tensors = {"weight": weight, "ddx": ddx, "ddweight": ddweight, "rstd": rstd}
        explain(error, {"dy": dy, "x": x}, tensors, {"eps": eps}, {"groups": groups})
