"""What is wrong with the arguments of a call, said when it is traced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import isonorm
from isonorm import _arrays, contracts
from isonorm._arrays import Frame, integer
from isonorm._native import real
from isonorm.jax._options import Options, Quantized
from isonorm.norm import Quantization

if TYPE_CHECKING:
    from isonorm.jax.functional import Static


_FLOATS = frozenset(map(np.dtype, (jnp.float32, jnp.bfloat16, jnp.float16, jnp.float64)))
_INTEGERS = frozenset(map(np.dtype, (np.int32, np.int64)))


def array(value: Any, name: str) -> Any:
    """An argument that jax.jit takes for an array, of a type that isonorm takes: some of NumPy's are unknown to JAX."""
    if not isinstance(value, (jax.Array, np.ndarray)) or isinstance(value, np.ma.MaskedArray):
        value = _converted(value, name)
    counts = name == "rope.positions"
    if value.dtype not in (_INTEGERS if counts else _FLOATS):
        allowed = "int32 or int64" if counts else "float32, bfloat16, float16 or float64"
        raise TypeError(f"{name} is {value.dtype}, but has to be {allowed}")
    return value


def _converted(value: Any, name: str) -> Any:
    _arrays.check_real(value, name)
    if hasattr(value, "__jax_array__"):
        return jnp.asarray(value)
    convertible = isinstance(value, (int, float, list, tuple)) or hasattr(value, "__dlpack__")
    hint = ": jax.numpy.asarray() makes one" if convertible else ""
    raise TypeError(f"{name} is a {_arrays.class_of(value)}, but has to be an array of JAX or of NumPy{hint}")


def known_number(value: Any, name: str) -> float:
    """A number that is part of what is compiled."""
    if type(value) is float:
        return value
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} is traced, but has to be a number that is known then: close over it, or name it in static_argnames of "
            "jax.jit"
        )
    return real(value, name)


def axes(axis: Any) -> tuple[int, ...]:
    if type(axis) is int:
        return (axis,)
    try:
        numbers: list[Any] = list(axis)
    except TypeError:
        numbers = [axis]
    if not numbers:
        raise ValueError("axis is empty, but has to name one axis or more")
    return tuple(integer(number, "axis") for number in numbers)


def result_type(dtype: Any) -> np.dtype:
    found = _arrays.result_dtype(dtype)
    if jax.dtypes.canonicalize_dtype(found) != found:
        raise ValueError(f"dtype is {found}, which JAX has only where jax_enable_x64 is set")
    return found


def checked(given: dict[str, Any], call: Static) -> tuple[Options, Frame]:
    """The numbers of a call, and its rows, once nothing is wrong. The sentences are those of NumPy's face, which computes a
    norm of no rows with everything else as it is here."""
    x = given["x"]
    if x.ndim == 0:
        raise ValueError("x has 0 dimensions, but needs an axis to normalise")
    frame = Frame(np.broadcast_to(np.zeros((), np.int8), x.shape), call.axis)
    cols, lead = frame.cols, frame.lead
    for name in ("residual", "gate"):
        if name in given and given[name].shape != x.shape:
            raise ValueError(f"{name} has shape {given[name].shape}, but x has {x.shape}")
    arrays: dict[str, Any] = {}
    for name in ("weight", "bias"):
        if name in given:
            arrays[name] = frame.vector(np.empty(given[name].shape, given[name].dtype), name)
    options = Options(call.contract, call.eps, call.groups, call.window, rows_axis=call.rows_axis, overwrite=call.overwrite)
    if call.quantize is not None:
        options = options._replace(quantized=_quantized(call.quantize))
    rope, rows = None, (0,)
    if call.style:
        rope, rows, options = _rope(given, call, lead, options)
    arrays |= {name: np.empty((*rows, cols), given[name].dtype) for name in ("x", "residual", "gate") if name in given}
    isonorm.rms_norm(
        **arrays, eps=call.eps, contract=contracts.from_text(call.contract), groups=call.groups,
        window=call.window or None, rope=rope, quantize=call.quantize, dtype=call.dtype, return_rstd="rstd" in call.results,
        return_mean="mean" in call.results,
    )  # fmt: skip
    for name, array in given.items():
        spec = jax.typeof(array).sharding.spec
        for axis in frame.axes if name in ("x", "residual", "gate") else range(array.ndim):
            if len(spec) > axis and spec[axis] is not None:
                raise ValueError(
                    f"{name} is divided along axis {axis} by mesh axis {spec[axis]!r}, but a norm needs whole rows: "
                    "call jax.sharding.reshard first, or isonorm.jax.parallel inside of jax.shard_map"
                )
    return options, frame


def _quantized(quantize: Quantization) -> Quantized:
    kind, rounded_to, group_cols, min_scale, scale_ub = quantize._tuple()
    scale = 0.0 if isinstance(quantize.scale, str) else float(quantize.scale)
    return Quantized(kind, ("", "bfloat16", "float16").index(rounded_to), group_cols, min_scale, scale_ub, scale)


def _rope(given: dict[str, Any], call: Static, lead: tuple[int, ...], options: Options) -> Any:
    """The rotation of a call of no heads, so many leading sizes for that call, and the numbers of the one that is checked."""
    ndim = len(lead) + 1
    if ndim > _arrays.MAX_DIMS:
        raise ValueError(f"x has {ndim} dimensions, but a rotation takes at most {_arrays.MAX_DIMS}")
    tables = [np.empty(given[name].shape, given[name].dtype) for name in ("cos", "sin")]
    style = {1: "half", 2: "interleaved"}[call.style]
    if "positions" in given:
        positions = given["positions"]
        if positions.shape != lead[: positions.ndim]:
            raise ValueError(f"rope.positions has shape {positions.shape}, but the leading axes of x have {lead}")
        rows = (0,) * max(positions.ndim, 1)
        rope = isonorm.Rope(tables[0], tables[1], np.empty((0,) * positions.ndim, positions.dtype), style=style)
        return rope, rows, options._replace(style=call.style)
    axis = call.position_axis
    if not -ndim <= axis < ndim - 1 or axis == -1:
        raise ValueError(f"position_axis is {axis}, but has to be a leading axis of x, which has {ndim} dimensions")
    axis %= ndim
    rope = isonorm.Rope(tables[0], tables[1], position_offset=call.position_offset, style=style)
    options = options._replace(style=call.style, position_dim=axis, position_offset=call.position_offset)
    return rope, (lead[axis], 0), options

