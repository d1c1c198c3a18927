"""The norm as operations of TensorFlow, for what the kernels have no derivative of: second derivatives. The formulas are those of
`include/isonorm/isonorm.h`, without the roundings to storage, in float32 (float64 for float64)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from isonorm.tensorflow._options import HALF, Options


def wide(dtype: Any) -> Any:
    """The type that a norm of such data is computed in."""
    return tf.float64 if dtype == tf.float64 else tf.float32


def row(values: dict[str, Any]) -> Any:
    """The row that is normalised, in the compute type."""
    if "residual_out" in values:
        return tf.cast(values["residual_out"], wide(values["residual_out"].dtype))
    to = wide(values["x"].dtype)
    v = tf.cast(values["x"], to)
    return v + tf.cast(values["residual"], to) if "residual" in values else v


def forward(values: dict[str, Any], o: Options) -> Any:
    """y in the compute type, of a row v beside weight, bias, gate and tables; weight and bias are [cols]."""
    contract, h = o.resolved, values["v"]
    shape, factor = tf.shape(h), None
    if "gate" in values:
        gate = tf.cast(values["gate"], h.dtype)
        factor = tf.sigmoid(gate) if contract.gate_function == "sigmoid" else gate * tf.sigmoid(gate)
    if factor is not None and contract.gate_place == "before":
        h = h * factor
    if o.groups > 1:
        h = tf.reshape(h, tf.concat([shape[:-1], [o.groups, shape[-1] // o.groups]], 0))
    if contract.statistic == "layer":
        h = h - tf.reduce_mean(h, -1, keepdims=True)
    square = tf.reduce_mean(tf.square(h[..., : o.window] if o.window else h), -1, keepdims=True)
    y = h * (tf.math.rsqrt(square + o.eps) if contract.eps_place == "inside" else 1 / (tf.sqrt(square) + o.eps))
    columns = [o.groups, -1] if o.groups > 1 else [-1]
    if "weight" in values:
        y = y * (tf.reshape(tf.cast(values["weight"], y.dtype), columns) + contract.weight_offset)
    if "bias" in values:
        y = y + tf.reshape(tf.cast(values["bias"], y.dtype), columns)
    if "cos" in values:
        y = _rotate(y, values, o)
    y = tf.reshape(y, shape)
    return y * factor if factor is not None and contract.gate_place == "after" else y


def _rotate(y: Any, values: dict[str, Any], o: Options) -> Any:
    ndim, half = y.shape.rank, values["cos"].shape[-1]
    if ndim is None or half is None:
        raise ValueError("second derivatives of a rotation need a known number of dimensions of x, and of columns of its tables")
    rows = []
    for name in ("cos", "sin"):
        if "positions" in values:
            angles = tf.gather(values[name], values["positions"])
            lead = list(range(values["positions"].shape.rank))
        else:
            angles = values[name][o.position_offset : o.position_offset + tf.shape(y)[o.position_dim]]
            lead = [o.position_dim]
        sizes = tf.shape(angles)
        whole = [sizes[lead.index(i)] if i in lead else 1 for i in range(ndim - 1)]
        rows.append(tf.cast(tf.reshape(angles, [*whole, half]), y.dtype))
    turned, rest = y[..., : 2 * half], y[..., 2 * half :]
    a, b = tf.split(turned, 2, -1) if o.style == HALF else (turned[..., 0::2], turned[..., 1::2])
    pair = (a * rows[0] - b * rows[1], b * rows[0] + a * rows[1])
    turned = tf.concat(pair, -1) if o.style == HALF else tf.reshape(tf.stack(pair, -1), tf.shape(turned))
    return tf.concat((turned, rest), -1)


def gradients(values: dict[str, Any], o: Options) -> dict[str, Any]:
    """What backward computes, in the compute type: dx and those of o.results."""
    own: dict[str, Any] = {"v": row(values)}
    own |= {name: values[name] for name in ("weight", "bias", "gate") if name in values}
    if "dbias" in o.results and "bias" not in own:
        own["bias"] = tf.zeros_like(own["v"][(0,) * (own["v"].shape.rank - 1)])  # which the derivative does not depend on
    tables: dict[str, Any] = {name: values[name] for name in ("cos", "sin", "positions") if name in values}
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(own)
        y = forward({**own, **tables}, o)
    found = tape.gradient(y, own, tf.cast(values["dy"], y.dtype), tf.UnconnectedGradients.ZERO)
    if "dresidual" in values:
        found["v"] = found["v"] + tf.cast(values["dresidual"], y.dtype)
    return {"dx": found["v"], **{name: found[name[1:]] for name in o.results}}
