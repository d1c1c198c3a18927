"""RMS of vectors, its gradient, and a penalty that means the same at every width."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from isonorm import _native
from isonorm._arrays import Axis, Frame, check_array, compute_dtype, flag, result, thread_count


def rms(x: np.ndarray, *, axis: Axis = -1, out: Optional[np.ndarray] = None, threads: Optional[int] = None) -> np.ndarray:
    """``sqrt(mean(x^2))`` of every row; no row overflows or vanishes on the way.

        >>> import numpy as np, isonorm
        >>> isonorm.rms(np.array([[3e38, 3e38], [1e-30, 1e-30]], np.float32))
        array([3.e+38, 1.e-30], dtype=float32)

    x: [..., cols], float32, bfloat16, float16 or float64. axis: as in rms_norm.
    out: [...] in the compute type, float32 (float64 for float64). Returns that; of a vector an array of shape ().
    Raises ValueError for rows of width 0.
    """
    check_array(x, "x")
    frame = Frame(x, axis)
    rows, whole = frame.row_output(out, compute_dtype(x), "out")
    _native.rms(frame.view(x, "x"), rows, thread_count(threads))
    return whole


def rms_backward(
    x: np.ndarray, drms: np.ndarray, *, axis: Axis = -1, out: Optional[np.ndarray] = None, threads: Optional[int] = None
) -> np.ndarray:
    """The gradient of `rms`: ``dx = drms * x / (cols * rms)``; 0 for a row of zeros.

        >>> import numpy as np, isonorm
        >>> isonorm.rms_backward(np.array([[2.0, 2.0], [0.0, 0.0]]), np.ones(2))
        array([[0.5, 0.5],
               [0. , 0. ]])

    x: [..., cols], drms: like the result of rms, [...]. out: like x, type of its own; may be x. Returns dx. Raises as rms does.
    """
    check_array(x, "x")
    check_array(drms, "drms")
    frame = Frame(x, axis)
    rows, whole = frame.output(out, x.dtype, "out")
    _native.rms_backward(frame.view(x, "x"), frame.of_rows(drms, "drms"), rows, thread_count(threads))
    return whole


def rms_penalty(
    x: np.ndarray,
    lambda_: float,
    *,
    axis: Axis = -1,
    gradient: bool = True,
    accumulate: Optional[np.ndarray] = None,
    threads: Optional[int] = None,
) -> Any:
    """The penalty ``lambda * rms(x)^2`` of every row, which means the same at every width, and its gradient.

        >>> import numpy as np, isonorm
        >>> penalty, dx = isonorm.rms_penalty(np.array([[2.0, 2.0]]), 0.5)
        >>> penalty, dx
        (array([2.]), array([[1., 1.]]))

    x: [..., cols], float32, bfloat16, float16 or float64. lambda_: finite.
    gradient: False gives the penalty alone. accumulate: an array like x to which the gradient is added; it is then the second
    result. Returns (penalty, dx): [...] in the compute type, and like x. Raises as rms does.
    """
    check_array(x, "x")
    frame = Frame(x, axis)
    penalty, whole = frame.per_row((), compute_dtype(x))
    values = {"penalty": whole}
    dx = None
    if accumulate is not None or flag(gradient, "gradient"):
        dx, values["dx"] = frame.output(accumulate, x.dtype, "accumulate")
    _native.rms_penalty(frame.view(x, "x"), penalty, dx, lambda_, accumulate is not None, thread_count(threads))
    return result("Penalty", values)
