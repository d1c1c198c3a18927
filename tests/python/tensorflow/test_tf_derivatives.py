"""Derivatives of second and third order and forward mode, in float64 beside those of the plain formula, which TensorFlow
differentiates itself; eagerly and in graphs."""

import face_support
import numpy as np
import pytest
import tensorflow as tf
from conftest import F32, F64, random
from face_support import COLS, EPS, ROWS

import isonorm.tensorflow as itf

COS, SIN = random((5, 3), F64, 20), random((5, 3), F64, 21)


def plain(x, weight=1.0, bias=0.0, residual=0.0, *, groups=1, window=None, offset=0.0, outside=False, layer=False):
    v = x + residual
    h = tf.reshape(v, (ROWS, groups, -1))
    h = h - tf.reduce_mean(h, -1, keepdims=True) * layer
    square = tf.reduce_mean(h[..., :window] ** 2, -1, keepdims=True)
    h = h / (tf.sqrt(square) + EPS if outside else tf.sqrt(square + EPS))
    return tf.reshape(h, (ROWS, COLS)) * (weight + offset) + bias


def gated(x, weight, gate, before):
    factor = gate / (1 + tf.exp(-gate))
    return plain(x * factor, weight) if before else plain(x, weight) * factor


def turned(x, weight, interleaved=False):
    y = plain(x, weight)
    a, b = (y[..., 0:6:2], y[..., 1:6:2]) if interleaved else (y[..., :3], y[..., 3:6])
    cos, sin = COS[2 : 2 + ROWS], SIN[2 : 2 + ROWS]
    pair = a * cos - b * sin, b * cos + a * sin
    pair = tf.reshape(tf.stack(pair, -1), (ROWS, 6)) if interleaved else tf.concat(pair, -1)
    return tf.concat((pair, y[..., 6:]), -1)


def ours(norm=itf.rms_norm, **options):
    return lambda *arrays: norm(*arrays, eps=EPS, **options)


def added(**options):
    return lambda x, weight, residual: tf.concat(itf.rms_norm(x, weight, eps=EPS, residual=residual, **options), 0)


def rotated(x, weight, **options):
    return itf.rms_norm(x, weight, eps=EPS, rope=itf.Rope(COS, SIN, **options))


WEIGHT = ("weight",)
CASES = {
    "gemma": (ours(contract="gemma"), lambda x, w: plain(x, w, offset=1.0), WEIGHT),
    "layer_norm": (ours(itf.layer_norm), lambda x, w, b: plain(x, w, b, layer=True), ("weight", "weight")),
    "groups": (ours(groups=2), lambda x, w, b: plain(x, w, b, groups=2), ("weight", "weight")),
    "paper": (ours(contract="paper", window=3), lambda x, w: plain(x, w, outside=True, window=3), WEIGHT),
    "residual": (added(), lambda x, w, r: tf.concat((plain(x, w, residual=r), x + r), 0), ("weight", "x")),
    "positions": (lambda x, w: rotated(x, w, positions=np.arange(2, 2 + ROWS), style="interleaved"),
                  lambda x, w: turned(x, w, True), WEIGHT),
    "rope": (lambda x, w: rotated(x, w, position_offset=2), turned, WEIGHT),
    # In float32: gates have no float64.
    "mamba2": (lambda x, w, g: itf.rms_norm(x, w, eps=EPS, gate=g, contract="mamba2"),
               lambda x, w, g: gated(x, w, g, True), ("weight", "x")),
    "qwen3_next_gated": (lambda x, w, g: itf.rms_norm(x, w, eps=EPS, gate=g, contract="qwen3_next_gated"),
                         lambda x, w, g: gated(x, w, g, False), ("weight", "x")),
}  # fmt: skip


def tensors_of(case, seed=0):
    dtype = F32 if case in ("mamba2", "qwen3_next_gated") else F64
    kinds = ("x", *CASES[case][2])
    arrays = [random((ROWS, COLS) if kind == "x" else COLS, dtype, seed + i) for i, kind in enumerate(kinds)]
    return [tf.constant(a) for a in arrays], [tf.constant(a, tf.float64) for a in arrays], np.finfo(dtype).eps


def close(got, expected, eps, derivatives):
    face_support.close(tf.nest.flatten(got), tf.nest.flatten(expected), eps, derivatives)


def gradients(function, tensors):
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(tensors)
    return tape.gradient(value, tensors)


def cubed(f):
    return lambda tensors: tf.reduce_sum(f(*tensors) ** 3)


def second(f):
    def squares(tensors):
        return tf.add_n([tf.reduce_sum(g**2) for g in gradients(cubed(f), tensors)])

    return lambda tensors, _: gradients(squares, tensors)


def forward_mode(f):
    def moved(tensors, tangents):
        with tf.autodiff.ForwardAccumulator(tensors, tangents) as accumulator:
            y = f(*tensors)
        return accumulator.jvp(y)

    return moved


@pytest.mark.parametrize("way", [lambda f: f, tf.function], ids=["eager", "graph"])
@pytest.mark.parametrize("case", CASES)
def test_second_derivatives_and_forward_mode(case, way):
    function, formula, _ = CASES[case]
    (tensors, exact, eps), (tangents, exact_tangents, _) = tensors_of(case), tensors_of(case, 10)
    for derivative, order in ((second, 2), (forward_mode, 1)):
        close(way(derivative(function))(tensors, tangents), derivative(formula)(exact, exact_tangents), eps, order)


def test_third_derivatives():
    def third(f):
        return lambda tensors: gradients(lambda t: tf.add_n([tf.reduce_sum(g**2) for g in second(f)(t, None)]), tensors)

    function, formula, _ = CASES["gemma"]
    tensors, exact, eps = tensors_of("gemma")
    # Squared once more: a factor of 2 in all relative errors.
    close(third(function)(tensors), third(formula)(exact), 2 * eps, 3)


def test_second_derivatives_of_unknown_sizes():
    function, formula, _ = CASES["groups"]
    tensors, exact, eps = tensors_of("groups")
    specs = [tf.TensorSpec([None] * t.shape.rank, t.dtype) for t in tensors]
    graph = tf.function(lambda *t: second(function)(list(t), None), input_signature=specs)
    close(graph(*tensors), second(formula)(exact, None), eps, 2)


def test_jacobians_and_batches():
    """What pfor has no rule for, it computes in a loop."""
    function, formula, _ = CASES["gemma"]
    (x, weight), (exact, exact_weight), eps = tensors_of("gemma")
    found = []
    for f, x, weight in ((function, x, weight), (formula, exact, exact_weight)):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = f(x, weight)
        rows = tf.vectorized_map(lambda w, f=f, x=x: f(x, w), tf.stack([weight, 2 * weight]))
        found.append((tape.jacobian(y, x), rows))
    close(*found, eps, 1)


def test_statistics_and_tables_are_constant():
    x, cos = tf.constant(random((ROWS, COLS), F64)), tf.constant(COS)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch((x, cos))
        _, mean, rstd = itf.layer_norm(x, eps=EPS, return_rstd=True, return_mean=True)
        y = itf.rms_norm(x, eps=EPS, rope=itf.Rope(cos, SIN))
    assert not tape.gradient([mean, rstd], x).numpy().any() and tape.gradient(y, cos) is None
