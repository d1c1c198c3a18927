"""RMS of vectors, the penalty and quantised results have the bits of NumPy's face, under every transform."""

import functools

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from conftest import BF16, F16, F32, F64, random
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from face_support import outputs, same
from jax_support import collectives

import isonorm
import isonorm.jax as ij

JAX_CONFIG = {"jax_enable_x64": True}

LAMBDA = 0.3
MESH = Mesh(np.array(jax.devices()[:4]), ("data",), axis_types=(AxisType.Auto,))


def rows_of(dtype):
    """Of every size, zeros, and such as are not finite."""
    x = random((8, 67), F64)
    tiny, huge = (1e-30, 1e30) if dtype != F16 else (1e-6, 1e3)
    x = (x * np.array([1, tiny, huge, 0, 1, 1, 1, 1])[:, None]).astype(dtype)
    x[4, 3], x[5, 60] = np.inf, np.nan
    return x


@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
def test_bits(dtype):
    x, weights = rows_of(dtype), random(8, F64 if dtype == F64 else F32, 1)
    with np.errstate(all="ignore"):
        expected = isonorm.rms(x), isonorm.rms_backward(x, weights), isonorm.rms_penalty(x, LAMBDA)
    assert same(ij.rms(x), expected[0]) and same(jax.jit(ij.rms)(x), expected[0])
    assert same(jax.vmap(ij.rms)(x), expected[0]) and same(ij.rms(x[0]), expected[0][0])
    _, pull = jax.vjp(jax.jit(ij.rms), x)
    assert same(pull(jnp.asarray(weights))[0], expected[1])
    penalty = functools.partial(ij.rms_penalty, lambda_=LAMBDA)
    assert same(penalty(x), expected[2].penalty) and same(jax.jit(jax.vmap(penalty))(x), expected[2].penalty)
    assert same(jax.grad(lambda x: penalty(x).sum())(x), expected[2].dx)


@pytest.mark.parametrize("axis", [0, 1, (0, 2), (-1, -2)], ids=str)
def test_axes(axis):
    x = random((3, 5, 7))
    assert same(ij.rms(x, axis=axis), isonorm.rms(x, axis=axis))
    assert same(ij.rms_penalty(x, LAMBDA, axis=axis), isonorm.rms_penalty(x, LAMBDA, axis=axis).penalty)
    dx = jax.grad(lambda x: ij.rms(x, axis=axis).sum())(x)
    assert same(dx, isonorm.rms_backward(x, np.ones(isonorm.rms(x, axis=axis).shape, F32), axis=axis))


def test_derivatives_of_every_order():
    """In both modes, twice, against differences of the function; and of rows that float64 squares out of range."""
    x = random((3, 5), F64)
    jax.test_util.check_grads(ij.rms, (x,), order=3)
    jax.test_util.check_grads(functools.partial(ij.rms_penalty, lambda_=LAMBDA), (x,), order=3)
    for scale in (1e-200, 1e200):
        tangent = jax.jvp(ij.rms, (x * scale,), (x,))[1]
        assert np.allclose(tangent, isonorm.rms(x), rtol=2.0**-48)  # rms is homogeneous: a few roundings of 2^-53
    assert not jax.grad(lambda x: ij.rms(x).sum())(np.zeros((2, 4))).any()
    assert not jax.jvp(ij.rms, (np.zeros((2, 4)),), (np.ones((2, 4)),))[1].any()


def test_devices():
    """Rows stay where they are."""
    x = random((8, 32))
    placed = jax.device_put(x, NamedSharding(MESH, P("data", None)))
    for function, expected in (
        (ij.rms, isonorm.rms(x)),
        (functools.partial(ij.rms_penalty, lambda_=LAMBDA), isonorm.rms_penalty(x, LAMBDA).penalty),
        (jax.grad(lambda x: ij.rms(x).sum()), isonorm.rms_backward(x, np.ones(8, F32))),
    ):
        compiled = jax.jit(function).lower(placed).compile()
        assert same(compiled(placed), expected) and collectives(compiled) == {}
        assert compiled(placed).sharding.spec[0] == "data"
        mapped = jax.shard_map(function, mesh=MESH, in_specs=P("data"), out_specs=P("data"))
        assert same(jax.jit(mapped)(x), expected)


WRONG = {
    "type": (lambda: ij.rms(np.ones((2, 3), np.int32)), TypeError, "x is int32, but has to be float32, bfloat16, float16 or float64"),
    "list": (lambda: ij.rms([1.0]), TypeError, "x is a list, but has to be an array of JAX or of NumPy"),
    "scalar": (lambda: ij.rms(jnp.ones(())), ValueError, "x has 0 dimensions, but needs an axis"),
    "width": (lambda: ij.rms(np.ones((2, 0), F32)), ValueError, "x has shape (2, 0), but a row needs at least 1 value"),
    "axis": (lambda: ij.rms(np.ones((2, 3), F32), axis=2), ValueError, "axis 2 does not exist"),
    "lambda": (lambda: ij.rms_penalty(np.ones((2, 3), F32), np.inf), ValueError, "lambda_ is inf, but has to be finite"),
    "lambda text": (lambda: ij.rms_penalty(np.ones((2, 3), F32), "1"), TypeError, "lambda_ is a str, but has to be a number"),
    "traced": (lambda: jax.jit(ij.rms_penalty)(np.ones((2, 3), F32), 1.0), TypeError, "lambda_ is traced, but has to be a number"),
    "quantize": (lambda: quantised(quantize="int8"), TypeError, "quantize is a str, but has to be isonorm.Quantization"),
    "both types": (lambda: quantised(quantize=isonorm.Quantization("int8"), dtype=F16), ValueError, "dtype is float16, but quantize"),
    "columns": (lambda: quantised(quantize=isonorm.Quantization("int8", group_cols=128)), ValueError, "quantization.group_cols"),
    "static": (lambda: quantised(quantize=isonorm.Quantization("int8", scale=0.0)), ValueError, "scale"),
    "float64": (lambda: ij.rms_norm(np.ones((2, 64)), eps=1e-6, quantize=isonorm.Quantization("int8")), TypeError, ""),
    "gradient": (lambda: jax.grad(lambda x: quantised(x, quantize=isonorm.Quantization("int8"))[0].sum().astype(F32))(QX), ValueError,
                 "quantize gives int8, which has no gradient: call it with jax.lax.stop_gradient of its arrays"),
}  # fmt: skip
QX, QW = random((6, 64), scale=3), random(64, seed=1)


def quantised(x=None, **options):
    return ij.rms_norm(QX if x is None else x, QW, eps=1e-6, **options)


@pytest.mark.parametrize("wrong", WRONG)
def test_sentences(wrong):
    call, kind, sentence = WRONG[wrong]
    with pytest.raises(kind) as caught:
        jax.block_until_ready(call())
    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value), str(caught.value)


QUANTIZATIONS = [
    {}, {"group_cols": 32}, {"scale": 0.05}, {"scale": "power_of_two"}, {"scale": "power_of_two", "group_cols": 64},
    {"rounded_to": "bfloat16", "scale_ub": 1.0}, {"min_scale": 0.5, "rounded_to": "float16"},
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("choice", QUANTIZATIONS, ids=str)
def test_quantised(choice, dtype):
    """With all results beside it, in bf16, compiled, in a batch and on several devices."""
    quantize = isonorm.Quantization(dtype, **choice)
    x, residual, weight = random((8, 4, 64), BF16, scale=2), random((8, 4, 64), BF16, 1), random(64, BF16, 2)
    options = {"eps": 1e-6, "contract": "llama", "quantize": quantize}
    norm = lambda x, residual: ij.rms_norm(x, weight, residual=residual, return_rstd=True, **options)  # noqa: E731
    expected = outputs(isonorm.rms_norm(x, weight, residual=residual, return_rstd=True, **options))
    placed = [jax.device_put(a, NamedSharding(MESH, P("data"))) for a in (x, residual)]
    compiled = jax.jit(norm).lower(*placed).compile()
    assert collectives(compiled) == {}
    for got in (norm(x, residual), compiled(*placed), jax.jit(jax.vmap(norm))(x, residual)):
        got = outputs(got)
        assert list(got) == list(expected)
        for name in got:
            assert same(got[name], expected[name]), name
    assert same(outputs(quantised(quantize=quantize))["y"], outputs(isonorm.rms_norm(QX, QW, eps=1e-6, quantize=quantize))["y"])


def test_quantised_otherwise():
    """LayerNorm, another axis, weights of their own, heads that are rotated."""
    quantize, x = isonorm.Quantization("int8", group_cols=32), random((3, 5, 64))
    for options in ({}, {"groups": 2}, {"axis": (1, 2)}, {"axis": -1, "return_mean": True}):
        got = outputs(ij.layer_norm(x, eps=1e-6, quantize=quantize, **options))
        expected = outputs(isonorm.layer_norm(x, eps=1e-6, quantize=quantize, **options))
        assert all(same(got[name], expected[name]) for name in expected) and list(got) == list(expected)
    weights = random((3, 64), seed=1)
    got = jax.vmap(lambda x, w: tuple(ij.rms_norm(x, w, eps=1e-6, quantize=quantize)))(x, weights)
    for i in range(3):
        expected = isonorm.rms_norm(x[i], weights[i], eps=1e-6, quantize=quantize)
        assert same(got[0][i], expected.y) and same(got[1][i], expected.scale)
    cos, sin = random((5, 16), seed=2), random((5, 16), seed=3)
    got = ij.rms_norm(x, eps=1e-6, quantize=quantize, rope=ij.Rope(cos, sin, position_axis=1))
    expected = isonorm.rms_norm(x, eps=1e-6, quantize=quantize, rope=isonorm.Rope(cos, sin, position_axis=1))
    assert same(got.y, expected.y) and same(got.scale, expected.scale)
