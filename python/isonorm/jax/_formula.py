"""The norm as operations of JAX, for what the kernels have no derivative of: forward mode, and second derivatives. The formulas
are those of `include/isonorm/isonorm.h`, without the roundings to storage, in float32 (float64 for float64)."""

from __future__ import annotations

from typing import Any, Optional

import jax
import jax.numpy as jnp
from jax import Array

from isonorm.contracts import Contract
from isonorm.jax._options import HALF, Options

Tables = tuple[Optional[Array], Optional[Array], Optional[Array]]  # cos, sin, positions


def wide(dtype: Any) -> Any:
    """The type that a norm of such data is computed in."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def add(x: Array, residual: Optional[Array]) -> Array:
    """The row that is normalised, in the compute type."""
    to = wide(x.dtype)
    return x.astype(to) if residual is None else x.astype(to) + residual.astype(to)


def forward(
    v: Array,
    weight: Optional[Array],
    bias: Optional[Array],
    gate: Optional[Array],
    tables: Tables,
    contract: Contract,
    o: Options,
) -> Array:
    """y, in the compute type, of a row that `add` made; weight and bias are [cols]. Ranks are equal everywhere, as programs may
    ask for it (`jax_numpy_rank_promotion`)."""
    to = v.dtype
    h = v
    factor = None
    if gate is not None:
        factor = gate.astype(to)
        factor = jax.nn.sigmoid(factor) if contract.gate_function == "sigmoid" else jax.nn.silu(factor)
    if factor is not None and contract.gate_place == "before":
        h = h * factor
    shape = h.shape
    if o.groups > 1:
        h = h.reshape(*shape[:-1], o.groups, shape[-1] // o.groups)
    if contract.statistic == "layer":
        h = h - h.mean(-1, keepdims=True)
    square = jnp.square(h[..., : o.window] if o.window else h).mean(-1, keepdims=True)
    y = h * (jax.lax.rsqrt(square + o.eps) if contract.eps_place == "inside" else 1 / (jnp.sqrt(square) + o.eps))
    if weight is not None:
        y = y * (_per_column(weight, y, o) + to.type(contract.weight_offset))
    if bias is not None:
        y = y + _per_column(bias, y, o)
    if tables[0] is not None:
        y = _rotate(y, tables, o)
    y = y.reshape(shape)
    return y * factor if factor is not None and contract.gate_place == "after" else y


def _per_column(vector: Array, y: Array, o: Options) -> Array:
    columns = (o.groups, -1) if o.groups > 1 else (-1,)
    return vector.astype(y.dtype).reshape(*(1,) * (y.ndim - len(columns)), *columns)


def _rotate(y: Array, tables: Tables, o: Options) -> Array:
    cos, sin, positions = tables
    assert cos is not None and sin is not None
    half = cos.shape[-1]
    rows = []
    for table in (cos, sin):
        if positions is not None:
            angles = table[positions]
            lead = positions.shape
        else:
            angles = table[o.position_offset : o.position_offset + y.shape[o.position_dim]]
            lead = (*(1,) * o.position_dim, y.shape[o.position_dim])
        rows.append(angles.reshape(*lead, *(1,) * (y.ndim - 1 - len(lead)), half).astype(y.dtype))
    turned, rest = y[..., : 2 * half], y[..., 2 * half :]
    a, b = jnp.split(turned, 2, -1) if o.style == HALF else (turned[..., 0::2], turned[..., 1::2])
    pair = (a * rows[0] - b * rows[1], b * rows[0] + a * rows[1])
    turned = jnp.concatenate(pair, -1) if o.style == HALF else jnp.stack(pair, -1).reshape(turned.shape)
    return jnp.concatenate((turned, rest), -1)
