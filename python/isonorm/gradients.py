"""RMSNorm and LayerNorm of NumPy arrays: gradients, first and second."""

from __future__ import annotations

from typing import Any, Iterable, Optional

import numpy as np

from isonorm import _native
from isonorm._arrays import Axis, Frame, check_array, check_is, compute_dtype, names_of, parameter, result, thread_count
from isonorm.contracts import ContractLike, packed, resolve
from isonorm.norm import Rope

_ACCUMULATE = 1


def rms_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: Optional[np.ndarray] = None,
    bias: Optional[np.ndarray] = None,
    *,
    eps: float,
    contract: ContractLike = "torch",
    residual: Optional[np.ndarray] = None,
    residual_out: Optional[np.ndarray] = None,
    dresidual: Optional[np.ndarray] = None,
    gate: Optional[np.ndarray] = None,
    groups: int = 1,
    window: Optional[int] = None,
    rope: Optional[Rope] = None,
    axis: Axis = -1,
    mean: Optional[np.ndarray] = None,
    rstd: Optional[np.ndarray] = None,
    needs: Optional[Iterable[str]] = None,
    out: Optional[np.ndarray] = None,
    accumulate: Optional[dict[str, np.ndarray]] = None,
    threads: Optional[int] = None,
) -> Any:
    """The gradients of `rms_norm` (and of `layer_norm`, with its contract) with respect to x, weight, bias and gate.

        >>> import numpy as np, isonorm
        >>> x, w = np.array([[3.0, 4.0]]), np.ones(2)
        >>> dx, dweight = isonorm.rms_norm_backward(np.ones((1, 2)), x, w, eps=0)
        >>> dweight
        array([0.84852814, 1.13137085])

    With ``g = dy * (weight + weight_offset)`` and ``c = x * rstd``: ``dx = rstd * (g - c * mean(g * c))``, ``dweight`` the sum
    over rows of ``dy * c``, and ``dbias`` that of ``dy``. Sums over rows have one order, whatever the number of threads.

    dy: like x, type of its own. x, weight, bias, residual, gate, groups, window, rope, axis, eps, contract: as in forward.
    residual_out: as forward wrote it, instead of residual. dresidual: the gradient that reached residual_out by other ways; dx
        includes it and is the gradient of residual, too.
    mean, rstd: as forward returned them; None: computed again, to the same bits.
    needs: which gradients, of "dx", "dweight", "dbias", "dgate"; None: those of all that is given.
    out: an array for dx, like x; may be dy or x.
    accumulate: {"dweight": array, "dbias": array} to which the sums are added; these are then the results.

    Returns the only gradient, or a named tuple of dx, dweight, dbias, dgate: those there are. dx has x's type, dgate gate's,
    and dweight and dbias those of weight and bias (float32 where these were float64 beside another x).
    Raises as rms_norm does, and ValueError for gradients in needs or accumulate that there are not.
    """
    check_array(x, "x")
    check_array(dy, "dy")
    frame = Frame(x, axis)
    weight_vector = frame.vector(parameter(weight, "weight", x), "weight")
    bias_vector = frame.vector(parameter(bias, "bias", x), "bias")
    possible = {"dx": True, "dweight": weight is not None, "dbias": bias is not None, "dgate": gate is not None}
    wanted = names_of(needs, possible)
    for name in wanted:
        if name not in possible:
            raise ValueError(f"needs has {name!r}, but the gradients are 'dx', 'dweight', 'dbias' and 'dgate'")
    check_is(rope, Rope, "rope")
    check_is(accumulate, dict, "accumulate")
    accumulate = accumulate or {}
    for name in accumulate:
        if name not in ("dweight", "dbias") or name not in wanted:
            raise ValueError(
                f"accumulate has {name!r}, but only 'dweight' and 'dbias' are sums, and only where they are needed"
            )
    if accumulate and len(accumulate) < len(wanted & {"dweight", "dbias"}):
        raise ValueError("accumulate has to hold each of 'dweight' and 'dbias' that is needed, or neither")
    values: dict[str, Any] = {}
    dx = dweight = dbias = dgate = None
    if "dx" in wanted:
        dx, values["dx"] = frame.output(out, x.dtype, "out")
    if "dweight" in wanted:
        if weight_vector is None:
            raise ValueError("needs has 'dweight', but no weight is given")
        dweight, values["dweight"] = _sum(accumulate.get("dweight"), "dweight", weight, weight_vector)
    if "dbias" in wanted:
        like = bias_vector if bias_vector is not None else weight_vector
        if like is None:
            like = np.empty(frame.cols, compute_dtype(x))
        dbias, values["dbias"] = _sum(accumulate.get("dbias"), "dbias", bias if bias is not None else weight, like)
    if "dgate" in wanted:
        if gate is None:
            raise ValueError("needs has 'dgate', but no gate is given")
        dgate, values["dgate"] = frame.output(None, check_array(gate, "gate").dtype, "dgate")
    link = (
        frame.view(dy, "dy"),
        frame.view(x, "x"),
        weight_vector,
        bias_vector,
        frame.view(residual, "residual"),
        frame.view(residual_out, "residual_out"),
        frame.view(gate, "gate"),
        None if rope is None else rope._tuple(len(frame.rows) + 1),
        frame.of_rows(mean, "mean"),
        frame.of_rows(rstd, "rstd"),
        frame.view(dresidual, "dresidual"),
        dx,
        dweight,
        dbias,
        dgate,
        groups,
        0 if window is None else window,
        _ACCUMULATE if accumulate else 0,
    )
    _native.backward(packed(contract), eps, thread_count(threads), (link,))
    return result("Gradients", values)


def _sum(
    given: Optional[np.ndarray], name: str, parameter: Optional[np.ndarray], vector: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    shape = vector.shape if parameter is None else parameter.shape
    if given is None:
        fresh = np.empty(vector.shape, vector.dtype)
        return fresh, fresh.reshape(shape)
    check_array(given, f"accumulate[{name!r}]")
    if given.shape != shape or not given.flags.c_contiguous:
        raise ValueError(
            f"accumulate[{name!r}] has shape {given.shape} and strides {given.strides}, but has to be contiguous and of shape {shape}"
        )
    return given.reshape(vector.shape), given


def layer_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: Optional[np.ndarray] = None,
    bias: Optional[np.ndarray] = None,
    *,
    eps: float,
    contract: ContractLike = "layer_norm",
    **options: Any,
) -> Any:
    """The gradients of `layer_norm`: arguments, results and errors are those of `rms_norm_backward`, but for window.

        >>> import numpy as np, isonorm
        >>> x, dy = np.array([[1.0, 3.0, 5.0]]), np.array([[1.0, 0.0, 0.0]])
        >>> isonorm.layer_norm_backward(dy, x, eps=1.0).shape
        (1, 3)

    With ``g = dy * weight`` and ``c = (x - mean) * rstd``: ``dx = rstd * (g - mean(g) - c * mean(g * c))`` (Ba, Kiros and
    Hinton 2016 for the norm, docs/numerics.md for the order of its sums).

    mean, rstd: [...], both or neither; they may also be those of another library, rounded to bfloat16 or float16 (beside an x
        of float64 they are float64). eps is then looked at only for rows whose rstd is not from 2^-48 to 2^47 or whose mean is
        not below 2^96.
    Raises ValueError for a contract without a mean.
    """
    if resolve(contract).statistic != "layer":
        raise ValueError(f"contract {contract!r} has no mean: use rms_norm_backward")
    return rms_norm_backward(dy, x, weight, bias, eps=eps, contract=contract, **options)


def double_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: Optional[np.ndarray] = None,
    *,
    ddx: Optional[np.ndarray] = None,
    ddweight: Optional[np.ndarray] = None,
    eps: float,
    contract: ContractLike = "torch",
    groups: int = 1,
    axis: Axis = -1,
    rstd: Optional[np.ndarray] = None,
    needs: Optional[Iterable[str]] = None,
    threads: Optional[int] = None,
) -> Any:
    """The gradients of `rms_norm_backward`, for losses that hold gradients themselves (gradient penalties).

        >>> import numpy as np, isonorm
        >>> x, dy = np.array([[3.0, 4.0]]), np.array([[1.0, 0.0]])
        >>> dx, ddy = isonorm.double_backward(dy, x, ddx=np.ones((1, 2)), eps=0)
        >>> dx.shape, ddy.shape
        ((1, 2), (1, 2))

    dy, x: [..., cols]; weight: [cols]; the other arguments: as in rms_norm_backward. ddx (like x) and ddweight (like weight):
    the cotangents of dx and dweight; one of them may be None, which counts as zeros. Returns the gradients of ``sum(ddx * dx) + sum(ddweight * dweight)`` as a named tuple of dx, dweight, ddy: those
    there are, with respect to x, weight and dy. needs: a subset of these names. For the plain RMS norm only: no LayerNorm, no
    eps outside, no gate. The formulas stand in isonorm.h and are derived in docs/numerics.md.
    Raises as rms_norm_backward does.
    """
    check_array(x, "x")
    check_array(dy, "dy")
    frame = Frame(x, axis)
    weight_vector = frame.vector(parameter(weight, "weight", x), "weight")
    possible = {"dx": True, "dweight": weight is not None, "ddy": True}
    wanted = names_of(needs, possible)
    for name in wanted:
        if not possible.get(name):
            raise ValueError(f"needs has {name!r}, but the gradients are 'dx', 'dweight' (of a weight) and 'ddy'")
    values: dict[str, Any] = {}
    dx = dweight = ddy = None
    if "dx" in wanted:
        dx, values["dx"] = frame.output(None, x.dtype, "dx")
    if weight_vector is not None and "dweight" in wanted:
        dweight, values["dweight"] = _sum(None, "dweight", weight, weight_vector)
    if "ddy" in wanted:
        ddy, values["ddy"] = frame.output(None, dy.dtype, "ddy")
    arguments = (
        frame.view(dy, "dy"),
        frame.view(x, "x"),
        weight_vector,
        frame.of_rows(rstd, "rstd"),
        frame.view(ddx, "ddx"),
        frame.vector(parameter(ddweight, "ddweight", x), "ddweight"),
        dx,
        dweight,
        ddy,
        groups,
        0,
    )
    _native.double_backward(packed(contract), eps, thread_count(threads), arguments)
    return result("SecondGradients", values)
