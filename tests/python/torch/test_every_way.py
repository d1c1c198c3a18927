"""The same array gives the same bits through NumPy, torch, JAX, TensorFlow, Keras, the command and C++, all but the last two in one
process; so do its gradients, which the command has not."""

import os
import subprocess

os.environ["KERAS_BACKEND"] = "tensorflow"

import jax
import numpy as np
import pytest
import torch  # before TensorFlow, which ends a process that loads Triton after it
from conftest import BF16, F16, F32, F64, SAFETENSORS, bits, random, same
from torch_support import DTYPES, to_numpy

import isonorm
import isonorm.jax as ij
import isonorm.keras
import isonorm.tensorflow as itf
import isonorm.torch as it

tf = itf.functional.tf  # imported here it would stand before torch
JAX_CONFIG = {"jax_enable_x64": True}

PLAIN = [name for name in isonorm.contracts.names() if getattr(isonorm.contracts, name).gate_place == "none"]
TORCH = {dtype: own for own, dtype in DTYPES.items()}


@pytest.fixture(scope="session")
def cpp():
    """rows.cc, which the build compiles."""
    program = os.environ.get("ISONORM_ROWS")
    if program is None:
        pytest.fail("ISONORM_ROWS does not name the program that rows.cc is: run this by ctest")

    def run(x, weight, dy, contract, eps):
        word = SAFETENSORS[x.dtype].lower()
        options = {"--contract": contract, "--eps": eps, "--type": word, "--rows": x.shape[0], "--cols": x.shape[1]}
        command = [program, *(str(part) for option in options.items() for part in option)]
        data = x.tobytes() + weight.tobytes() + dy.tobytes()
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        y, dx, dweight = np.split(np.frombuffer(done.stdout, x.dtype), [x.size, 2 * x.size])
        return y.reshape(x.shape), dx.reshape(x.shape), dweight

    return run


def to_torch(array):
    return torch.from_numpy(bits(array).view(f"i{array.itemsize}")).view(TORCH[array.dtype])


def by_torch(norm, x, weight, dy):
    x, weight = (to_torch(a).requires_grad_() for a in (x, weight))
    y = norm(x, weight)
    return [to_numpy(t) for t in (y, *torch.autograd.grad(y, (x, weight), to_torch(dy)))]


def by_jax(norm, x, weight, dy):
    y, pull = jax.vjp(norm, *map(jax.numpy.asarray, (x, weight)))
    return [np.asarray(a) for a in (y, *pull(jax.numpy.asarray(dy)))]


def by_tensorflow(norm, x, weight, dy):
    tensors = [tf.constant(a) for a in (x, weight)]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = norm(*tensors)
    return [t.numpy() for t in (y, *tape.gradient(y, tensors, tf.constant(dy)))]


def by_keras(layer, x, weight, dy):
    """A layer of that weight, of the type of x."""
    layer.build(x.shape)
    layer.set_weights([weight])
    with tf.GradientTape() as tape:
        tensor = tf.constant(x)
        tape.watch(tensor)
        y = layer(tensor)
    return [t.numpy() for t in (y, *tape.gradient(y, [tensor, layer.weights[0].value], tf.constant(dy)))]


@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
@pytest.mark.parametrize("contract", PLAIN)
def test_the_same_bits(apply, cpp, contract, dtype):
    x, weight, dy = random((37, 1029), dtype, 1, scale=3), random(1029, dtype, 2), random((37, 1029), dtype, 3)
    y = isonorm.rms_norm(x, weight, eps=1e-6, contract=contract)
    expected = [y, *isonorm.rms_norm_backward(dy, x, weight, eps=1e-6, contract=contract)]
    assert all(len(np.unique(bits(a))) > 100 for a in expected)  # and no empty or constant results agree
    name = "layer_norm" if contract == "layer_norm" else "rms_norm"
    options = {"eps": 1e-6, "contract": contract}

    def norm(face):
        return lambda x, weight: getattr(face, name)(x, weight, **options)

    ways = {
        "torch": by_torch(norm(it), x, weight, dy),
        "JAX": by_jax(norm(ij), x, weight, dy),
        "TensorFlow": by_tensorflow(norm(itf), x, weight, dy),
        "TensorFlow's graphs": by_tensorflow(tf.function(norm(itf)), x, weight, dy),
        "the command": [apply({"x": x, "w": weight}, "--contract", contract, "--eps", 1e-6, "--weight", "w")["x"]],
        "C++": cpp(x, weight, dy, contract, 1e-6),
    }
    layers = {
        "torch": lambda: isonorm.keras.RMSNormalization(epsilon=1e-6, dtype=str(dtype)),
        "layer_norm": lambda: isonorm.keras.LayerNormalization(epsilon=1e-6, center=False, dtype=str(dtype)),
    }
    if contract in layers:
        ways["Keras"] = by_keras(layers[contract](), x, weight, dy)
    differ = [(way, i) for way, results in ways.items() for i, result in enumerate(results) if not same(result, expected[i])]
    assert differ == [] and all(len(results) == 3 for way, results in ways.items() if way != "the command")


FACES = {"NumPy": isonorm, "torch": it, "JAX": ij, "TensorFlow": itf}
FOREIGN = {
    "NumPy": np.ones((2, 8), np.float32),
    "torch": torch.ones(2, 8),
    "JAX": jax.numpy.ones((2, 8), "float32"),
    "TensorFlow": tf.ones((2, 8)),
    "variable": tf.Variable(np.ones((2, 8), np.float32)),
    "sparse": tf.sparse.from_dense([[1.0, 0.0]]),
    "ragged": tf.ragged.constant([[1.0], [2.0, 3.0]]),
    "masked": np.ma.masked_array(np.ones((2, 8), np.float32)),
    "symbolic": tf.keras.Input((8,)),
}
TAKEN = {("NumPy", own) for own in ("NumPy", "JAX", "TensorFlow")}
TAKEN |= {(name, name) for name in FACES} | {("variable", "TensorFlow")}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_of_another_framework(name, face):
    """It is taken, or refused in one sentence that says which argument it is: no face takes a mask for data."""
    own, other = FOREIGN[face], FOREIGN[name]
    calls = {
        "x": lambda norm: norm.rms_norm(other, eps=1e-6),
        "weight": lambda norm: norm.rms_norm(own, other[0] if name not in ("sparse", "ragged", "symbolic") else other, eps=1e-6),
        "residual": lambda norm: norm.rms_norm(own, residual=other, eps=1e-6),
        "k": lambda norm: norm.qk_norm(own[None], other, eps=1e-6),
    }
    for argument, call in calls.items():
        if (name, face) in TAKEN:
            call(FACES[face]) if argument != "k" else None  # which has another dimension
            continue
        with pytest.raises(TypeError) as caught:
            call(FACES[face])
        text = str(caught.value)
        assert text.startswith(f"{argument} is a ") and "\n" not in text, text
        if name == "symbolic":
            assert "isonorm.keras.RMSNormalization" in text
        if name == "masked":
            assert text.endswith(f"fill it, as {argument}.filled(0)")
