"""RMS of vectors and the penalty, as primitives of JAX with derivatives of every order: gradients by kernels, all others by the
formula, in the compute type. A row is divided by its largest value there, so that none overflows or vanishes."""

from __future__ import annotations

import functools
from typing import Any, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.interpreters import ad, batching, mlir

from isonorm._arrays import Axis, Frame
from isonorm.jax import _check
from isonorm.jax._check import array, known_number
from isonorm.jax._formula import wide
from isonorm.jax._handler import primitive, shaped
from isonorm.jax._options import RMS, RMS_BACKWARD, RMS_PENALTY, Kind, Options, mask
from isonorm.jax._partition import Operation
from isonorm.jax._primitives import by_formula, of_rows

rms_p, rms_backward_p, penalty_p = of_rows("isonorm_rms"), of_rows("isonorm_rms_backward"), of_rows("isonorm_rms_penalty")
linear_p = primitive("isonorm_rms_linear")  # the derivative of rms_p, whose transpose is rms_backward_p


def _operation(kind: Kind, results: tuple[str, ...], dtypes: Sequence[Any], lambda_: float = 0.0) -> Operation:
    options = Options("torch", 0.0, lambda_=lambda_)
    every = mask(kind.operands, kind.operands)
    return Operation(kind, options, every, 0, mask(kind.results, results), tuple(np.dtype(d) for d in dtypes))


def _rms(x: Any) -> Any:
    (found,) = rms_p.bind(x, operation=_operation(RMS, ("rms",), [wide(x.dtype)]))
    return found


def _unit(x: Any) -> tuple[Any, Any]:
    """x of which the largest value is 1 or -1, and the RMS of that; of a row of zeros the latter is infinite."""
    x = x.astype(wide(x.dtype))
    largest = jax.lax.stop_gradient(jnp.abs(x).max(-1, keepdims=True))
    unit = x / jnp.where(largest > 0, largest, 1)
    square = jnp.square(unit).mean(-1, keepdims=True)
    return unit, jnp.where(largest > 0, jnp.sqrt(jnp.where(largest > 0, square, 1)), jnp.inf)


def _differential(change: Any, x: Any) -> list[Any]:
    unit, rms = _unit(x)
    return [((change.astype(unit.dtype) * unit).mean(-1, keepdims=True) / rms)[..., 0]]


def _gradient(x: Any, drms: Any, *, operation: Operation) -> list[Any]:
    unit, rms = _unit(x)
    dx = drms.astype(unit.dtype)[..., None] / x.shape[-1] * (unit / rms)
    return [dx.astype(operation.dtypes[0])]


def _rms_jvp(primals: Any, tangents: Any, *, operation: Operation) -> Any:
    return rms_p.bind(*primals, operation=operation), linear_p.bind(tangents[0], primals[0])


def _linear_jvp(primals: Any, tangents: Any) -> Any:
    if isinstance(tangents[1], ad.Zero):
        return linear_p.bind(*primals), linear_p.bind(tangents[0], primals[1])
    return by_formula(_differential, linear_p, primals, tangents)


def _linear_transpose(cotangents: Any, change: Any, x: Any) -> Any:
    (drms,) = cotangents
    if isinstance(drms, ad.Zero):
        return [ad.Zero(change.aval), None]
    return [*rms_backward_p.bind(x, drms, operation=_operation(RMS_BACKWARD, ("dx",), [change.aval.dtype])), None]


def _backward_jvp(primals: Any, tangents: Any, *, operation: Operation) -> Any:
    formula = functools.partial(_gradient, operation=operation)
    return by_formula(formula, rms_backward_p, primals, tangents, operation=operation)


def _linear_aval(change: Any, x: Any) -> list[Any]:
    return [shaped(x, x.shape[:-1], wide(x.dtype), tuple(x.sharding.spec)[:-1])]


def _linear_batch(args: Any, dims: Any) -> Any:
    return jax.vmap(_differential, dims)(*args), [0]


linear_p.def_abstract_eval(_linear_aval)
mlir.register_lowering(linear_p, mlir.lower_fun(_differential, multiple_results=True))
batching.primitive_batchers[linear_p] = _linear_batch
ad.primitive_jvps[rms_p] = _rms_jvp
ad.primitive_jvps[linear_p] = _linear_jvp
ad.primitive_transposes[linear_p] = _linear_transpose
ad.primitive_jvps[rms_backward_p] = _backward_jvp


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _penalty(x: Any, lambda_: float) -> Any:
    (found,) = penalty_p.bind(x, operation=_operation(RMS_PENALTY, ("penalty",), [wide(x.dtype)], lambda_))
    return found


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _penalty_gradient(x: Any, lambda_: float) -> Any:
    """2 lambda / cols x, in the compute type."""
    (found,) = penalty_p.bind(x, operation=_operation(RMS_PENALTY, ("dx",), [wide(x.dtype)], lambda_))
    return found


@_penalty.defjvp
def _penalty_jvp(lambda_: float, primals: Any, tangents: Any) -> Any:
    gradient = _penalty_gradient(*primals, lambda_)
    return _penalty(*primals, lambda_), (gradient * tangents[0].astype(gradient.dtype)).sum(-1)


@_penalty_gradient.defjvp
def _penalty_gradient_jvp(lambda_: float, primals: Any, tangents: Any) -> Any:
    gradient = _penalty_gradient(*primals, lambda_)
    return gradient, tangents[0].astype(gradient.dtype) * (2 * lambda_ / gradient.shape[-1])


# --------------------------------------------------------------------------------------------------------------- functions


def _rows(x: Any, axis: tuple[int, ...]) -> Any:
    """What is normalised as one last axis."""
    if x.ndim == 0:
        raise ValueError("x has 0 dimensions, but needs an axis")
    frame = Frame(np.broadcast_to(np.zeros((), np.int8), x.shape), axis)
    if frame.cols == 0:
        raise ValueError(f"x has shape {x.shape}, but a row needs at least 1 value")
    if frame.axes == (x.ndim - 1,):
        return x
    last = tuple(range(x.ndim - len(frame.axes), x.ndim))
    return jnp.moveaxis(x, frame.axes, last).reshape(*frame.lead, frame.cols)


@functools.partial(jax.jit, static_argnums=1, inline=True)
def _rms_of(x: Any, axis: tuple[int, ...]) -> Any:
    return _rms(_rows(x, axis))


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _penalty_of(x: Any, lambda_: float, axis: tuple[int, ...]) -> Any:
    return _penalty(_rows(x, axis), lambda_)


def rms(x: Any, *, axis: Axis = -1) -> Array:
    """``sqrt(mean(x^2))`` of every row; no row overflows or vanishes on the way. Differentiable, any number of times.

        >>> import jax.numpy as jnp, isonorm.jax
        >>> isonorm.jax.rms(jnp.array([[3e38, 3e38], [1e-30, 1e-30]]))
        Array([3.e+38, 1.e-30], dtype=float32)

    x: [..., cols], float32, bfloat16, float16 or float64. axis: as in rms_norm. Returns [...] in float32 (float64 for float64).
    The gradient is ``drms * x / (cols * rms)``, and 0 for a row of zeros. Raises ValueError for rows of width 0, TypeError for
    other types.
    """
    return _rms_of(array(x, "x"), _check.axes(axis))


def rms_penalty(x: Any, lambda_: float, *, axis: Axis = -1) -> Array:
    """The penalty ``lambda * rms(x)^2`` of every row, which means the same at every width. Differentiable, any number of times.

        >>> import jax, jax.numpy as jnp, isonorm.jax
        >>> jax.grad(lambda x: isonorm.jax.rms_penalty(x, 0.5).sum())(jnp.array([[2.0, 2.0]]))
        Array([[1., 1.]], dtype=float32)

    x, axis: as in rms. lambda_: a finite number that is known when the call is traced. Returns [...] in float32 (float64 for
    float64). The gradient is ``2 * lambda / cols * x``. Raises as rms does.
    """
    number = known_number(lambda_, "lambda_")
    if not np.isfinite(number):
        raise ValueError(f"lambda_ is {number}, but has to be finite")
    return _penalty_of(array(x, "x"), number, _check.axes(axis))
