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
    """y, in the compute type, of a row that `add` made; weight and bias are [cols]."""
    with jax.numpy_rank_promotion("allow"):  # whatever the program around it has set
        return _forward(v, weight, bias, gate, tables, contract, o)


def _forward(
    v: Array,
    weight: Optional[Array],
    bias: Optional[Array],
    gate: Optional[Array],
    tables: Tables,
    contract: Contract,
    o: Options,
) -> Array:
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
        y = y * (_per_column(weight, to, o) + to.type(contract.weight_offset))
    if bias is not None:
        y = y + _per_column(bias, to, o)
    if tables[0] is not None:
        y = _rotate(y, tables, o)
    y = y.reshape(shape)
    return y * factor if factor is not None and contract.gate_place == "after" else y


def _per_column(vector: Array, to: Any, o: Options) -> Array:
    vector = vector.astype(to)
    return vector.reshape(o.groups, -1) if o.groups > 1 else vector


def _rotate(y: Array, tables: Tables, o: Options) -> Array:
    cos, sin, positions = tables
    assert cos is not None and sin is not None
    half = cos.shape[-1]
    rows = []
    for table in (cos, sin):
        if positions is not None:
            angles = table[positions]
            first = positions.ndim
        else:
            angles = table[o.position_offset : o.position_offset + y.shape[o.position_dim]]
            first = o.position_dim + 1
        rows.append(angles.reshape(*angles.shape[:-1], *(1,) * (y.ndim - 1 - first), half).astype(y.dtype))
    turned, rest = y[..., : 2 * half], y[..., 2 * half :]
    a, b = jnp.split(turned, 2, -1) if o.style == HALF else (turned[..., 0::2], turned[..., 1::2])
    pair = (a * rows[0] - b * rows[1], b * rows[0] + a * rows[1])
    turned = jnp.concatenate(pair, -1) if o.style == HALF else jnp.stack(pair, -1).reshape(turned.shape)
    return jnp.concatenate((turned, rest), -1)
