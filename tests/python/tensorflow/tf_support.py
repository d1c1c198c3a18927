"""Tensors of TensorFlow beside arrays of NumPy: the same bits, compared as integers."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from conftest import bits

import isonorm
import isonorm.tensorflow as itf


def array(value):
    return np.asarray(value.numpy() if isinstance(value, (tf.Tensor, tf.Variable)) else value)


def same(value, expected):
    """Whether a tensor has the type, the shape and the bits of another one, or of an array of NumPy."""
    value, expected = array(value), array(expected)
    return value.dtype == expected.dtype and value.shape == expected.shape and bool((bits(value) == bits(expected)).all())


def outputs(result, only="y"):
    """One result, or a named tuple of several, by name."""
    return result._asdict() if hasattr(result, "_asdict") else {only: result}


def numpy_rope(rope):
    positions = None if rope.positions is None else array(rope.positions)
    return isonorm.Rope(array(rope.cos), array(rope.sin), positions, rope.position_axis, rope.position_offset, rope.style)


def gradients(arrays, fixed, cotangents, norm="rms_norm"):
    """The results, and the gradients of all arrays, by name."""
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        results = outputs(getattr(itf, norm)(**arrays, **fixed))
        targets = [results[name] for name in ("y", "residual_out") if name in results]
    return results, tape.gradient(targets, arrays, cotangents)


def unknown(tensors, rank=True):
    """The signature of a function that knows nothing of their sizes, or not even how many there are."""
    shapes = {name: [None] * t.shape.rank if rank else None for name, t in tensors.items()}
    return {name: tf.TensorSpec(shapes[name], t.dtype) for name, t in tensors.items()}
