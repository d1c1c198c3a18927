"""The gradients of the operations, registered with TensorFlow, so that those of a SavedModel have them, too: of a norm the operation
of its gradients, and of that one what the formula gives."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from isonorm.tensorflow import _formula
from isonorm.tensorflow._library import ops
from isonorm.tensorflow._options import BACKWARD_OPERANDS, backward_options, backward_text, forward_options

_GRADIENT = {"x": "dx", "residual": "dx", "weight": "dweight", "bias": "dbias", "gate": "dgate"}


def _attribute(op: Any) -> bytes:
    text = op.get_attr("options")
    return text.encode() if isinstance(text, str) else text  # type: ignore[no-any-return]


def _norm(op: Any, dy: Any, *_: Any) -> list[Any]:
    return _of_forward(op, dy, {})


def _add_norm(op: Any, dy: Any, dresidual: Any, *_: Any) -> list[Any]:
    return _of_forward(op, dy, {"dresidual": dresidual})


def _of_forward(op: Any, dy: Any, more: dict[str, Any]) -> list[Any]:
    """By the kernel, which computes the statistics of each row again: to keep them costs more than that in small calls."""
    o = forward_options(_attribute(op))
    names = ("x", *o.operands)
    values = dict(zip(names, op.inputs))
    x = values["x"]
    skipped = getattr(op, "skip_input_indices", None) or ()  # eagerly TensorFlow says what nobody needs
    wanted = [name for i, name in enumerate(names) if name in _GRADIENT and i not in skipped]
    results = tuple("d" + name for name in ("weight", "bias", "gate") if name in wanted)
    known = {**values, **{name: tf.convert_to_tensor(value) for name, value in more.items()}}
    if "residual" in values and o.resolved.sum_rounding == "stored":
        del known["x"], known["residual"]  # the sum is all that gradients need
        known["residual_out"] = op.outputs[1]
    if o.resolved.gate_place != "after":
        known.pop("bias", None)
    order = tuple(name for name in BACKWARD_OPERANDS if name in known)
    text = backward_text(o._replace(operands=order, results=results))
    found = ops.isonorm_norm_grad(
        tf.convert_to_tensor(dy), [known[name] for name in order], options=text,
        T=x.dtype, Tgradients=[values[name[1:]].dtype for name in results],
    )  # fmt: skip
    gradients = {"dx": found.dx, **dict(zip(results, found.gradients))}
    if not tf.executing_eagerly():
        for name, gradient in gradients.items():
            gradient.set_shape(values[name[1:]].shape)
    return [tf.cast(gradients[_GRADIENT[name]], values[name].dtype) if name in wanted else None for name in names]


def _norm_grad(op: Any, *cotangents: Any) -> list[Any]:
    o = backward_options(_attribute(op))
    names = ("dy", *o.operands)
    values = dict(zip(names, op.inputs))
    moving = {name: value for name, value in values.items() if name not in ("cos", "sin", "positions")}
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(moving)
        found = _formula.gradients(values, o)
    to = found["dx"].dtype
    along = {name: tf.cast(tf.convert_to_tensor(c), to) for name, c in zip(found, cotangents)}
    second = tape.gradient(found, moving, along)
    return [second.get(name) for name in names]


for _name, _gradient in (("IsonormNorm", _norm), ("IsonormAddNorm", _add_norm), ("IsonormNormGrad", _norm_grad)):
    tf.RegisterGradient(_name)(_gradient)
