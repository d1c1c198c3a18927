"""Rows of isonorm.keras beside Keras' own layers, as its models run them: by tf.function, by jax.jit, and on torch eagerly. Keras has
one backend in a process: the rows of each run in one of their own, which imports Keras when it makes candidates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tf_rows
import torch
import torch_rows
from race import Candidate
from rows import EPS, LARGE, MANY, NUMPY, SHAPES, Against, Data, Row

POLICIES = {"f32": "float32", "bf16": "bfloat16"}


def layers(kind: str, data: Data, dtype: str) -> dict[str, Any]:
    """isonorm's and Keras', of the same weights."""
    import keras

    import isonorm.keras

    found = {}
    for name, module in (("isonorm", isonorm.keras), ("Keras", keras.layers)):
        layer = getattr(module, kind)(epsilon=EPS, dtype=POLICIES[dtype])
        layer.build(data.x.shape)
        layer.set_weights([np.asarray(array, np.float32) for array in (data.weight, data.bias)[: len(layer.weights)]])
        found[name] = layer
    return found


def on_torch(name: str, layer: Any, data: Data, dtype: str, grad: bool) -> Candidate:
    weights = [v.value for v in layer.weights]
    x, dy = torch_rows.tensor(data.x, dtype, grad), torch_rows.tensor(data.dy, dtype)

    def outputs() -> tuple[Any, ...]:
        y = layer(x)
        return (y, *torch.autograd.grad(y, (x, *weights), dy)) if grad else (y,)

    names = {"x": x, "dy": dy, "layer": layer, "weights": weights}
    after = ".backward(dy); x.grad = None\nfor w in weights: w.grad = None" if grad else ""
    return Candidate(name, "layer(x)" + after, names, outputs)


def on_tensorflow(name: str, layer: Any, data: Data, dtype: str, grad: bool) -> Candidate:
    import tensorflow as tf

    variables = [v.value for v in layer.weights]

    def step(x: Any, dy: Any) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return (y, *tape.gradient(y, (x, *variables), dy))

    names = {"x": tf_rows.tensor(data.x), "dy": tf_rows.tensor(data.dy), "call": tf.function(step if grad else layer)}
    return Candidate(name, "call(x, dy)" if grad else "call(x)", names)


def on_jax(name: str, layer: Any, data: Data, dtype: str, grad: bool) -> Candidate:
    import jax

    def forward(x: Any, weights: list[Any]) -> Any:
        return layer.stateless_call(weights, [], x)[0]

    def step(x: Any, weights: list[Any], dy: Any) -> tuple[Any, ...]:
        y, pull = jax.vjp(forward, x, weights)
        dx, others = pull(dy)
        return (y, dx, *others)

    names = {"x": jax.numpy.asarray(data.x), "dy": jax.numpy.asarray(data.dy), "weights": [v.value for v in layer.weights]}
    names |= {"call": jax.jit(step if grad else forward), "wait": jax.block_until_ready}
    return Candidate(name, "wait(call(x, weights, dy))" if grad else "wait(call(x, weights))", names)


ON = {"tensorflow": on_tensorflow, "torch": on_torch, "jax": on_jax}


def candidates(backend: str, kind: str, dtype: str, grad: bool) -> Callable[[Data, bool], list[Candidate]]:
    def make(data: Data, quick: bool) -> list[Candidate]:
        return [ON[backend](name, layer, data, dtype, grad) for name, layer in layers(kind, data, dtype).items()]

    return make


def rows(backend: str) -> list[Row]:
    table = []
    for kind, title in (("RMSNormalization", ""), ("LayerNormalization", "_layer_norm")):
        for shape in SHAPES if kind == "RMSNormalization" else (MANY, LARGE):
            for dtype in NUMPY:
                for grad, around in ((False, torch.no_grad), (True, torch.enable_grad)):
                    name = f"keras_{backend}{title}{'_backward' * grad}"
                    against, exact = (Against("Keras", tf_rows.goal(shape)),), torch_rows.exact(bool(title), grad)
                    make = candidates(backend, kind, dtype, grad)
                    table.append(Row(name, 1, shape, dtype, make, against, exact, around))
    return table
