"""TensorFlow's face, called well and badly: no crash, an exception that names the argument, or the bits of NumPy's face; eagerly and in
graphs that know no sizes."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import dataclasses
import inspect

import hypothesis
import numpy as np
import tensorflow as tf
from conftest import bits
from fuzz_arrays import bools, calls, entries, spoil
from fuzz_support import F64, LAYER, examples, judge_error, values
from hypothesis import given
from hypothesis import strategies as st

import isonorm
import isonorm.tensorflow as itf

ALLOWED = (ValueError, TypeError, tf.errors.InvalidArgumentError)


@st.composite
def tensor_calls(draw):
    """Of NumPy's face, with its axes, types and rotations; and cotangents."""
    call = draw(calls())
    del call["threads"]
    for name in ("weight", "bias"):  # of another type than x: TensorFlow converts them, and takes what f32 has no full number for as 0
        if name in call and call[name].dtype == F64 != call["x"].dtype:
            call[name] = flushed(call[name])
    if "rope" in call:  # whose tables NumPy's face does not copy
        tables = {name: np.ascontiguousarray(getattr(call["rope"], name)) for name in ("cos", "sin")}
        call["rope"] = dataclasses.replace(call["rope"], **tables)
    call["return_rstd"], call["return_mean"] = draw(bools), call["contract"] in LAYER and draw(bools)
    return call


def flushed(array):
    return np.where(np.abs(array) < 2.0**-126, np.copysign(0, array), array).astype(array.dtype)


def as_tensors(call, spoilt=False):
    """Arrays as tensors, which have no strides, and rotations as TensorFlow's."""
    own = {name: tf.constant(value) if isinstance(value, np.ndarray) and not spoilt else value for name, value in call.items()}
    if isinstance(call.get("rope"), isonorm.Rope):
        rope = call["rope"]
        own["rope"] = itf.Rope(rope.cos, rope.sin, rope.positions, rope.position_axis, rope.position_offset, rope.style)
    return own


def agree(found, expected):
    assert found.keys() == expected.keys()
    for name, array in found.items():
        other = expected[name]
        assert array.dtype == other.dtype and array.shape == other.shape, name
        differ = bits(array) != bits(other)
        assert not differ.any(), f"{name}: {array[differ][:3]} and {other[differ][:3]} of {differ.sum()}"


def named(results, only):
    return {name or only: value for name, value in entries(results).items()}


@examples(150)
@given(st.data())
def test_forward_and_gradients(data):
    draw = data.draw
    call = draw(tensor_calls())
    if draw(st.integers(0, 2)) == 0:
        spoil(draw, call, itf.rms_norm)
        hypothesis.assume(all(getattr(value, "size", 0) < 1 << 32 for value in call.values()))  # of which TensorFlow makes copies
        try:
            itf.rms_norm(**as_tensors(call, spoilt=True))
        except Exception as error:
            judge_error(error, {*call, *inspect.signature(itf.rms_norm).parameters}, ALLOWED)
        return
    tensors = as_tensors(call)
    try:
        expected = isonorm.rms_norm(**call)
    except (ValueError, TypeError):
        for run in (itf.rms_norm, tf.function(itf.rms_norm, autograph=False)):
            try:
                run(**tensors)
            except ALLOWED:
                continue
            raise AssertionError("NumPy's face refuses it")
        return
    dy = draw(values(call["x"].shape, call["x"].dtype))

    def pulled(names):
        with tf.GradientTape() as tape:
            tape.watch(names)
            results = itf.rms_norm(**{**tensors, **names})
            y = named(results, "y")["y"]
        return results, tape.gradient(y, names, tf.constant(dy))

    watched = {name: tensors[name] for name in ("x", "weight", "bias", "gate") if name in tensors}
    run = pulled
    if draw(bools):
        specs = {name: tf.TensorSpec([None] * tensor.shape.rank, tensor.dtype) for name, tensor in watched.items()}
        run = tf.function(pulled, input_signature=[specs], autograph=False)
    results, gradients = run(watched)
    agree({name: np.asarray(tensor) for name, tensor in named(results, "y").items()}, named(expected, "y"))
    forward = ("dtype", "return_rstd", "return_mean")
    options = {name: value for name, value in call.items() if name not in forward}
    if "residual" in call:
        options["dresidual"] = np.zeros(call["x"].shape, call["residual"].dtype)
    expected = named(isonorm.rms_norm_backward(dy, **options), "dx")
    found = {"d" + name: gradient.numpy() for name, gradient in gradients.items()}
    converted = {name for name, gradient in expected.items() if gradient.dtype != call[name[1:]].dtype}
    expected = {name: gradient.astype(call[name[1:]].dtype) for name, gradient in expected.items()}
    agree(found, {name: flushed(gradient) if name in converted else gradient for name, gradient in expected.items()})
