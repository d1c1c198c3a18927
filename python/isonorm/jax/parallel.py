"""Norms that the devices of a mesh compute together inside of jax.shard_map, with the bits of one device.

    y = isonorm.jax.parallel.rms_norm(x_shard, weight_shard, eps=1e-6, axis_name="model")

`axis_name`: each device has some columns of every row (tensor parallelism). `rows_axis`: each has some of the rows, and the
gradients of weight and bias are those of all rows, whatever the number of devices (data parallelism); `isonorm.jax.rms_norm`,
`layer_norm` and `qk_norm` take it, too. docs/parallel.md says what is exchanged.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Union

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isonorm import contracts, parallel
from isonorm._arrays import flag, result
from isonorm.contracts import ContractLike
from isonorm.jax import _check
from isonorm.jax._check import array, known_number
from isonorm.jax._exchange import Axes, alike, axes_of, devices
from isonorm.jax._formula import wide
from isonorm.jax._sharded import Sharded, norm
from isonorm.jax.functional import ArrayLike, MeshAxis, Static

__all__ = ["layer_norm", "rms_norm"]

_NAMES = ("x", "weight", "bias", "residual", "gate")


class _Call(NamedTuple):
    """What is known when a call is traced."""

    static: Static
    columns_axis: Axes
    axis_name: Any


def _traced(given: dict[str, Array], call: _Call) -> dict[str, Array]:
    options, frame = _check.checked(given, call.static)
    _check_split(frame.cols, call)
    x = given["x"]
    for name in ("weight", "bias"):
        if name in given and jnp.float64 in (given[name].dtype, x.dtype):
            given[name] = given[name].astype(wide(x.dtype))
    given = alike(given, call.columns_axis, options.rows_axis)
    dtype = np.dtype(call.static.dtype or x.dtype)
    return norm(given, Sharded(options, call.columns_axis, dtype, call.static.results))  # type: ignore[no-any-return]


_compiled = jax.jit(_traced, static_argnums=1, inline=True)


def _check_split(cols: int, call: _Call) -> None:
    ranks = devices(call.columns_axis)
    most = parallel.max_ranks(cols * ranks)
    if ranks & (ranks - 1) or ranks > most:
        raise ValueError(
            f"axis_name is {call.axis_name!r}, whose {ranks} devices cannot share rows of {cols * ranks} columns ({cols} on each): "
            f"that takes a power of two of them, at most {most}"
        )


def rms_norm(
    x: ArrayLike,
    weight: Optional[ArrayLike] = None,
    bias: Optional[ArrayLike] = None,
    *,
    eps: float,
    axis_name: Union[str, tuple[str, ...]],
    rows_axis: MeshAxis = None,
    contract: ContractLike = "torch",
    residual: Optional[ArrayLike] = None,
    gate: Optional[ArrayLike] = None,
    dtype: Any = None,
    return_rstd: bool = False,
    return_mean: bool = False,
) -> Any:
    """`isonorm.jax.rms_norm` of rows whose columns are divided among the devices of a mesh, inside of jax.shard_map.

        >>> import functools, jax, jax.numpy as jnp, isonorm.jax
        >>> from jax.sharding import AxisType, PartitionSpec as P
        >>> mesh = jax.make_mesh((1,), ("model",), axis_types=(AxisType.Auto,))
        >>> norm = functools.partial(isonorm.jax.parallel.rms_norm, eps=1e-6, axis_name="model")
        >>> columns = P(None, "model")
        >>> jax.shard_map(norm, mesh=mesh, in_specs=columns, out_specs=columns)(jnp.array([[3.0, 4.0]]))
        Array([[0.8485281, 1.1313708]], dtype=float32)

    x, weight, bias, residual, gate: this device's columns, [..., cols / devices] and [cols / devices]. They, contract, eps, dtype
        and the results are as in `isonorm.jax.rms_norm`, and have the bits of that function on whole rows.
    axis_name: the axis, or a tuple of them, that columns are divided along, by 1, 2, 4, ... `isonorm.parallel.max_ranks(cols)`
        devices.
    rows_axis: the axes that rows are divided along. The gradients of weight and bias are then those of the rows of all devices
        along them, with the bits that one device would find. Each has 32 * 2^k rows.

    return_rstd, return_mean: they are equal on all devices, which JAX does not know: where out_specs say so, jax.shard_map wants
        check_vma=False. Several results are a named tuple; for out_specs that are a tuple return tuple(...) of it.

    What is sent: one all-gather each way, of one float32 for each row. LayerNorm and rows that overflow need more
    (docs/parallel.md). Differentiable once, in reverse mode. Under jax.vmap each item is a call of its own.

    Raises as `isonorm.jax.rms_norm` does; ValueError for a number of devices that cannot split the row, for axes that no
    jax.shard_map around the call has, and in backward for rows that rows_axis cannot combine: all when the call is traced.
    """
    results = ["y"]
    if residual is not None:
        results.append("residual_out")
    if flag(return_mean, "return_mean"):
        results.append("mean")
    if flag(return_rstd, "return_rstd"):
        results.append("rstd")
    columns = axes_of(axis_name, "axis_name")
    if not columns:
        raise TypeError("axis_name is None, but has to name an axis of a mesh: isonorm.jax.rms_norm normalises whole rows")
    rows = axes_of(rows_axis, "rows_axis")
    if set(columns) & set(rows):
        raise ValueError(f"rows_axis is {rows_axis!r}, but has to differ from axis_name, which is {axis_name!r}")
    static = Static(
        contract if type(contract) is str else contracts.resolve(contract).text,
        known_number(eps, "eps"),
        1,
        0,
        (-1,),
        None if dtype is None else _check.result_type(dtype),
        tuple(results),
        rows_axis=rows,
    )
    values = dict(zip(_NAMES, (x, weight, bias, residual, gate)))
    given = {name: array(value, name) for name, value in values.items() if value is not None or name == "x"}
    found = _compiled(given, _Call(static, columns, axis_name))
    return result("Norm", {name: found[name] for name in results})


def layer_norm(
    x: ArrayLike,
    weight: Optional[ArrayLike] = None,
    bias: Optional[ArrayLike] = None,
    *,
    eps: float,
    axis_name: Union[str, tuple[str, ...]],
    contract: ContractLike = "layer_norm",
    **options: Any,
) -> Any:
    """LayerNorm of rows whose columns are divided among devices: two all-gathers forward, of two float32 for each row, and one
    backward.

        >>> import functools, jax, jax.numpy as jnp, isonorm.jax
        >>> from jax.sharding import AxisType, PartitionSpec as P
        >>> mesh = jax.make_mesh((1,), ("model",), axis_types=(AxisType.Auto,))
        >>> norm = functools.partial(isonorm.jax.parallel.layer_norm, eps=0, axis_name="model")
        >>> columns = P(None, "model")
        >>> jax.shard_map(norm, mesh=mesh, in_specs=columns, out_specs=columns)(jnp.array([[1.0, 3.0]]))
        Array([[-1.,  1.]], dtype=float32)

    Arguments, results and errors are those of `rms_norm` here. Raises ValueError for a contract without a mean.
    """
    if contracts.resolve(contract).statistic != "layer":
        raise ValueError(f"contract {contract!r} has no mean: use rms_norm")
    return rms_norm(x, weight, bias, eps=eps, axis_name=axis_name, contract=contract, **options)
