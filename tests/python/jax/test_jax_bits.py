"""What JAX's face computes has the bits of NumPy's: forward and gradients, for every option, type and shape."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import BF16, F16, F32, F64, random
from face_support import numpy_rope, option_calls, outputs, same
from jax_support import gradients

import isonorm
import isonorm.jax as ij

JAX_CONFIG = {"jax_enable_x64": True}

RMS = [name for name in isonorm.contracts.names() if getattr(isonorm.contracts, name).statistic == "rms"]
GATED = [name for name in isonorm.contracts.names() if getattr(isonorm.contracts, name).gate_place != "none"]
MIXES = [(F32, F32), (BF16, BF16), (F16, F16), (F64, F64), (BF16, F32), (F32, BF16), (F16, BF16), (F32, F64)]


def check(x, weight=None, bias=None, *, norm="rms_norm", **options):
    """Eagerly, where jax.jit compiles the function alone, and within a compiled function with the gradients of all that has
    one."""
    arrays = {"x": x, "weight": weight, "bias": bias, **{name: options.pop(name, None) for name in ("residual", "gate")}}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    options = {"eps": 1e-5, **options}
    plain = dict(options)
    if "rope" in options:
        plain["rope"] = numpy_rope(options["rope"])
    expected = outputs(getattr(isonorm, norm)(**arrays, **plain))
    got = outputs(getattr(ij, norm)(**arrays, **options))
    assert list(got) == list(expected)
    for name in got:
        assert same(got[name], expected[name]), name
    dy = random(x.shape, expected["y"].dtype, 7)
    cotangents, rest = [dy], {n: plain[n] for n in plain if n not in ("dtype", "return_rstd", "return_mean")}
    if "residual" in arrays:
        cotangents.append(random(x.shape, arrays["residual"].dtype, 8))
        rest["dresidual"] = cotangents[1]
    results, found = gradients(arrays, options, cotangents, norm)
    for name in got:
        assert same(results[name], expected[name]), name
    expected = outputs(getattr(isonorm, norm + "_backward")(dy, **arrays, **rest), "dx")
    for name, gradient in expected.items():
        # Of a weight of float64 beside another x NumPy's face gives float32, and JAX's the type of the weight, which is exact.
        assert same(found[name[1:]], gradient.astype(arrays[name[1:]].dtype)), name
    if "residual" in arrays:
        assert same(found["residual"], np.asarray(found["x"]).astype(arrays["residual"].dtype))


@pytest.mark.parametrize("dtype, parameter", MIXES, ids=str)
@pytest.mark.parametrize("contract", RMS)
def test_contracts(contract, dtype, parameter):
    gate = random((3, 5, 67), dtype, 3) if contract in GATED else None
    if gate is not None and dtype == F64:
        with pytest.raises(TypeError, match="gate is given with f64 data"):
            ij.rms_norm(random((2, 8), F64), gate=random((2, 8), F64), eps=1e-5, contract=contract)
        return
    x, w, b = random((3, 5, 67), dtype), random(67, parameter, 1), random(67, parameter, 2)
    check(x, w, b, contract=contract, return_rstd=True, gate=gate)
    if dtype == parameter:
        check(x, contract=contract, gate=gate)


# Nothing, one, primes, and a block of rows or a leaf of columns and one more or less.
@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
@pytest.mark.parametrize(
    "shape", [(0, 8), (8,), (1, 1), (2, 3, 7), (31, 65), (32, 64), (33, 63), (1, 2, 1, 2, 1, 2, 1, 2, 5)], ids=str
)
def test_shapes(shape, dtype):
    check(random(shape, dtype, scale=3), random(shape[-1], dtype, 1))
    check(random(shape, dtype), random(shape[-1], dtype, 1), random(shape[-1], dtype, 2), norm="layer_norm", return_mean=True)


@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
def test_many_rows(dtype):
    """Which several threads share."""
    check(random((1031, 517), dtype), random(517, dtype, 1), random(517, dtype, 2), residual=random((1031, 517), dtype, 3))


@pytest.mark.parametrize("dtype", [F32, BF16, F64], ids=str)
def test_layer_norm(dtype):
    x, w, b = random((3, 5, 67), dtype), random(67, dtype, 1), random(67, dtype, 2)
    check(x, w, b, norm="layer_norm", return_mean=True, return_rstd=True)
    check(x, norm="layer_norm", residual=random((3, 5, 67), dtype, 4), groups=67)


@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=str)
def test_options(dtype):
    for arrays, options in option_calls(dtype):
        check(*arrays, **options)


@pytest.mark.parametrize("axis", [0, (0, 2), [1, 2, 3], (3, 1), -2], ids=str)
def test_axes(axis):
    """And transposes, of which XLA makes copies where it has to."""
    x = random((3, 4, 5, 6))
    weight = random(isonorm._arrays.Frame(x, axis).normalized_shape, seed=1)
    check(x, weight, residual=random((3, 4, 5, 6), seed=2), axis=axis, return_rstd=True)
    turned = jax.jit(lambda x, w: ij.rms_norm(x.T, w, eps=1e-6))(x, random(3, seed=1))
    assert same(turned, isonorm.rms_norm(x.T, random(3, seed=1), eps=1e-6))


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("style", ["half", "interleaved"])
def test_rope(dtype, style):
    x, w = random((2, 5, 3, 32), dtype), random(32, dtype, 1)
    cos, sin = random((9, 12), seed=2), random((9, 12), seed=3)
    check(x, w, contract="llama", rope=ij.Rope(cos, sin, position_axis=1, position_offset=3, style=style))
    check(x[0], w, rope=ij.Rope(cos, sin, position_axis=-3, style=style))
    positions = np.array([[0, 8, 1, 2, 3], [4, 4, 5, 6, 7]])
    for integer in (np.int32, np.int64):
        check(x, w, contract="gemma", rope=ij.Rope(cos, sin, positions=positions.astype(integer), style=style))


def test_one_gradient_alone():
    """Which has the bits that it has among others."""
    arrays = {"x": random((4, 64), BF16), "weight": random(64, F32, 1), "residual": random((4, 64), F32, 2)}
    cotangents = [random((4, 64), BF16, 3), random((4, 64), F32, 4)]
    for contract in ("torch", dataclasses.replace(isonorm.contracts.torch, sum_rounding="kept")):
        options = {"eps": 1e-5, "contract": contract}
        _, found = gradients(arrays, options, cotangents)
        for name in arrays:
            rest = {other: array for other, array in arrays.items() if other != name}
            _, alone = gradients({name: arrays[name]}, {**options, **rest}, cotangents)
            assert same(alone[name], found[name]), name


def test_qk_norm():
    q, k, qw, kw = random((2, 7, 4, 32)), random((2, 7, 1, 32), seed=1), random(32, seed=2), random(32, seed=3)
    for rope in (None, ij.Rope(random((7, 16), seed=3), random((7, 16), seed=4), position_axis=1)):
        own = None if rope is None else numpy_rope(rope)
        expected = isonorm.qk_norm(q, k, qw, kw, eps=1e-6, contract="llama", rope=own)
        got, pull = jax.vjp(lambda *a: ij.qk_norm(*a, eps=1e-6, contract="llama", rope=rope), q, k, qw, kw)
        assert same(got[0], expected.q) and same(got[1], expected.k)
        cotangents = random(q.shape, seed=5), random(k.shape, seed=6)
        found = pull(tuple(map(jax.numpy.asarray, cotangents)))
        for i, (x, weight) in enumerate(((q, qw), (k, kw))):
            dx, dweight = isonorm.rms_norm_backward(cotangents[i], x, weight, eps=1e-6, contract="llama", rope=own)
            assert same(found[i], dx) and same(found[i + 2], dweight)


def test_rows_of_extreme_size():
    x = np.array([[3e38, -3e38, 3e38], [1e-40, 2e-40, 0], [np.nan, 1, 2], [np.inf, 1, 2], [0, 0, -0.0]], np.float32)
    check(x, random(3, seed=1))
    check(x, random(3, seed=1), eps=0.0)
