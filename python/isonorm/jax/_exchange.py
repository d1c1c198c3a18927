"""Axes of a mesh inside of jax.shard_map, and what the devices along them send each other."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isonorm.jax._handler import Handler, handler_p
from isonorm.jax._options import COMBINE, VECTORS, Options, numbers

Axes = tuple[str, ...]
_WHERE = "an axis of the mesh of a jax.shard_map around the call"


def axes_of(axis: Any, name: str) -> Axes:
    """The axes that an argument names, once the call is inside of a jax.shard_map over them."""
    names = (axis,) if isinstance(axis, str) else axis
    if names is None:
        return ()
    if not isinstance(names, (tuple, list)) or not all(isinstance(each, str) for each in names):
        raise TypeError(f"{name} is a {type(axis).__name__}, but has to be the name of an axis of a mesh, or a tuple of names")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{name} is {axis!r}, but has to name one axis or more, each once")
    try:
        devices(tuple(names))
    except NameError:
        raise ValueError(f"{name} is {axis!r}, but has to be {_WHERE}") from None
    manual = getattr(jax.sharding.get_abstract_mesh(), "manual_axes", names)
    for each in names:
        if each not in manual:  # derivatives, which are taken outside of it, do not know such a name
            raise ValueError(f"{name} is {axis!r}, of which {each!r} is an axis of a jax.vmap, but has to be {_WHERE}")
    return tuple(names)


def devices(axes: Axes) -> int:
    """How many there are along these axes."""
    return int(jax.lax.psum(1, axes)) if axes else 1


def gather(array: Any, axes: Axes) -> Any:
    """[devices, ...] of the arrays of all devices along these axes."""
    return jax.lax.all_gather(array, axes) if devices(axes) > 1 else array[None]


def varying(array: Any) -> frozenset[str]:
    """The axes over which an array, or one of that kind, differs from device to device."""
    aval = array if hasattr(array, "to_tangent_aval") else jax.typeof(array)
    manual = getattr(aval, "manual_axis_type", None)  # jax 0.10
    return aval.vma if manual is None else manual.varying  # type: ignore[no-any-return]


def vary(array: Any, axes: Axes) -> Any:
    """The same array, that may differ along these axes, too. The gradient is summed over them."""
    axes = tuple(sorted(set(axes) - varying(array)))
    if not axes:
        return array
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(array, axes, to="varying")
    return jax.lax.pvary(array, axes)  # type: ignore[attr-defined]  # jax before 0.8


def alike(given: dict[Any, Any], axes: Axes = (), rows_axis: Axes = ()) -> dict[Any, Any]:
    """All of them varying over the same axes of a mesh, and over these; along rows_axis only if they are not parameters whose
    gradient is made the same there."""
    every = frozenset().union(*(varying(a) for a in given.values()))
    if named := {*axes, *rows_axis}:
        every |= varying(jax.lax.axis_index(tuple(named)))  # none where jax.shard_map has check_vma=False
    own = {name: frozenset(rows_axis) if name in VECTORS and not varying(a) & set(rows_axis) else () for name, a in given.items()}
    return {name: vary(a, tuple(every.difference(own[name]))) for name, a in given.items()}


def check_rows(rows: int, axes: Axes) -> None:
    count = devices(axes)
    if count > 1 and (rows < 32 or rows & (rows - 1)):
        raise ValueError(
            f"rows_axis is {', '.join(map(repr, axes))}, whose {count} devices have {rows} rows each, but that has to be 32 times a power "
            "of two: runs of other lengths are no subtrees of the sum over rows"
        )


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _combine(parts: Any, rows: int, dtype: Any) -> Any:
    told = numbers(Options("torch", 0.0), 1, 1, part_rows=rows)
    (whole,) = handler_p.bind(parts, handler=Handler(COMBINE.target, *told, (parts.shape[1:],), (dtype,)))
    return whole


@_combine.defjvp
def _combine_jvp(rows: int, dtype: Any, primals: Any, tangents: Any) -> Any:
    return _combine(*primals, rows, dtype), tangents[0].sum(0).astype(dtype)


def combined(own: Any, rows: int, axes: Axes, dtype: Any) -> Any:
    """A gradient, [..., cols] in the compute type, of the rows of all devices along the axes."""
    check_rows(rows, axes)
    parts = gather(own.reshape(-1), axes)
    if len(parts) == 1:
        return own.astype(dtype)
    return _combine(parts, rows, np.dtype(dtype)).reshape(own.shape)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _of_first(array: Any, axes: Axes) -> Any:
    """The array of the first device along the axes, as one that is the same on all of them. A sum says so: one of bits, since XLA's
    sums of floats make 0 of subnormal numbers."""
    bits = jax.lax.bitcast_convert_type(array, f"uint{8 * array.dtype.itemsize}")
    whole = jax.lax.psum(jnp.where(jax.lax.axis_index(axes) == 0, bits, 0), axes)
    return jax.lax.bitcast_convert_type(whole, array.dtype)


@_of_first.defjvp
def _of_first_jvp(axes: Axes, primals: Any, tangents: Any) -> Any:
    first = jax.lax.axis_index(axes) == 0
    return _of_first(*primals, axes), jax.lax.psum(jnp.where(first, tangents[0], 0), axes)


def counted_once(gradient: Any, like: Any, axes: Axes) -> Any:
    """A gradient that all devices along the axes have, of a parameter `like`, as what JAX is to be given: the same on all of them
    where JAX knows that the parameter is. Else JAX adds up what they give: all but one give -0, which changes no sum, not even one that is -0."""
    if set(axes) <= varying(gradient) - varying(like):
        return _of_first(gradient, axes)
    if devices(axes) == 1:
        return gradient
    return jnp.where(jax.lax.axis_index(axes) == 0, gradient, jnp.full_like(gradient, -0.0))
