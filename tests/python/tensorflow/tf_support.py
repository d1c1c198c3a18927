"""Calls of TensorFlow."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from face_support import outputs

import isonorm.tensorflow as itf


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
