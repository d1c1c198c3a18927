"""Keras on TensorFlow: what of its layers is TensorFlow's alone, and the layer of every tutorial."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import random
from face_support import same

import isonorm
import isonorm.keras
import isonorm.tensorflow as itf

if keras.config.backend() != "tensorflow":
    pytest.skip("KERAS_BACKEND is another: run this by ctest", allow_module_level=True)

X, Y = random((16, 6, 12), seed=1), random((16, 6, 1), seed=2)


def model(module):
    inputs = keras.Input((None, 12))
    x = module.LayerNormalization()(module.RMSNormalization()(inputs))
    return keras.Model(inputs, keras.layers.Dense(1)(x))


def test_xla_is_left_out(monkeypatch):
    """Keras says so, and computes without it; where there is an accelerator, the norms are Keras' own, which XLA has."""
    own, ours = model(keras.layers), model(isonorm.keras)
    assert own.layers[1].supports_jit and not ours.layers[1].supports_jit and not ours.layers[2].supports_jit
    own.compile("adam", "mse", jit_compile=True)
    assert own.jit_compile
    with pytest.warns(UserWarning, match="Model doesn't support `jit_compile=True`. Proceeding with `jit_compile=False`"):
        ours.compile("adam", "mse", jit_compile=True)
    assert not ours.jit_compile
    ours.fit(X, Y, epochs=1, verbose=0)
    monkeypatch.setattr(isonorm.keras, "_accelerators", lambda: ["GPU:0"])
    assert ours.layers[1].supports_jit
    ours.layers[1].supports_jit = False
    assert not ours.layers[1].supports_jit


def test_graphs_and_exported_models(tmp_path):
    ours = model(isonorm.keras)
    first = isonorm.rms_norm(X, eps=1e-6)
    assert same(ours.layers[1](tf.constant(X)), first)
    unknown = tf.function(ours.layers[1], input_signature=[tf.TensorSpec(None)])
    assert same(unknown(X), first)
    y = ours.predict(X, verbose=0)
    ours.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "exported")
    assert same(loaded.serve(tf.constant(X)), y)
    names = {node.op for f in loaded.signatures["serving_default"].graph._functions.values() for node in f.cached_definition.node_def}
    assert "IsonormNorm" in names


class RMSNormTF(keras.layers.Layer):
    """As tutorials write it, and with one line changed."""

    def __init__(self, dim, eps=1e-6, ours=False, **options):
        super().__init__(**options)
        self.supports_jit = not ours  # XLA has no kernel
        self.eps, self.ours = eps, ours
        self.weight = self.add_weight(shape=(dim,), initializer="ones", trainable=True)

    def call(self, x):
        if self.ours:
            return itf.rms_norm(x, self.weight, eps=self.eps)
        return x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), axis=-1, keepdims=True) + self.eps) * self.weight


def test_the_layer_of_the_tutorials(tmp_path):
    for policy in ("float32", "mixed_bfloat16"):
        ours, theirs = (RMSNormTF(12, ours=own, dtype=policy) for own in (True, False))
        weight = random(12, seed=3)
        for layer in (ours, theirs):
            layer.set_weights([weight])
        y = np.asarray(ours(X))
        # The variable is converted to the compute type where it is read.
        own = X.astype(y.dtype), weight.astype(y.dtype)
        assert same(y, isonorm.rms_norm(*own, eps=1e-6)) and np.asarray(theirs(X)).dtype == y.dtype
    inputs = keras.Input((6, 12))
    layered = keras.Model(inputs, keras.layers.Dense(1)(RMSNormTF(12, ours=True)(inputs)))
    before = layered.get_weights()[0]
    with pytest.warns(UserWarning, match="Proceeding with `jit_compile=False`"):
        layered.compile("adam", "mse", jit_compile=True)
    layered.fit(X, Y, verbose=0)
    assert (layered.get_weights()[0] != before).all()
    layered.save_weights(tmp_path / "w.weights.h5")
    assert os.path.getsize(tmp_path / "w.weights.h5") > 0
