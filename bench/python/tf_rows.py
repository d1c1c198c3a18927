"""Rows of isonorm.tensorflow beside the formula in operations of TensorFlow, eagerly and in tf.function: a norm, and its gradients.

They run in a process of their own, which imports TensorFlow when it makes candidates, after torch, which rows.py imports: what
loads Triton after TensorFlow ends the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch_rows
from race import Candidate
from rows import EPS, LARGE, MANY, NUMPY, SHAPES, Against, Data, Row

Norm = Callable[..., Any]


def on_one_thread() -> None:
    """Before TensorFlow computes anything."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def norms() -> dict[str, Norm]:
    import tensorflow as tf

    import isonorm.tensorflow

    def of_isonorm(x: Any, weight: Any) -> Any:
        return isonorm.tensorflow.rms_norm(x, weight, eps=EPS)

    def of_tensorflow(x: Any, weight: Any) -> Any:
        """As one writes it: in f32, rounded at the end."""
        wide = tf.cast(x, tf.float32)
        scale = tf.math.rsqrt(tf.reduce_mean(tf.square(wide), -1, keepdims=True) + EPS)
        return tf.cast(wide * scale * tf.cast(weight, tf.float32), x.dtype)

    return {"isonorm": of_isonorm, "TensorFlow": of_tensorflow}


def step_of(norm: Norm) -> Norm:
    """y, and the gradients of x and of the weights."""
    import tensorflow as tf

    def step(x: Any, weights: Any, dy: Any) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            tape.watch((x, *weights))
            y = norm(x, *weights)
        return (y, *tape.gradient(y, (x, *weights), dy))

    return step


def tensor(array: np.ndarray) -> Any:
    """With memory of its own."""
    import tensorflow as tf

    return tf.identity(tf.constant(array))


def candidates(grad: bool, graph: bool) -> Callable[[Data, bool], list[Candidate]]:
    def make(data: Data, quick: bool) -> list[Candidate]:
        import tensorflow as tf

        names = {"x": tensor(data.x), "weight": tensor(data.weight), "dy": tensor(data.dy)}
        made = []
        for name, norm in norms().items():
            call = step_of(norm) if grad else norm
            statement = "call(x, (weight,), dy)" if grad else "call(x, weight)"
            made.append(Candidate(name, statement, {**names, "call": tf.function(call) if graph else call}))
        return made

    return make


def goal(shape: tuple[int, int]) -> float:
    """No slower than their own, and more where it counts. Large outputs wait for the same pages."""
    return 1.5 if shape == MANY else torch_rows.FRESH if shape == LARGE else 1.0


def rows() -> list[Row]:
    table = []
    for name, graph in (("tensorflow", False), ("tensorflow_function", True)):
        for shape in SHAPES:
            for dtype in NUMPY:
                for grad in (False, True):
                    against, exact = (Against("TensorFlow", goal(shape)),), torch_rows.exact(False, grad)
                    table.append(Row(name + "_backward" * grad, 1, shape, dtype, candidates(grad, graph), against, exact))
    return table
