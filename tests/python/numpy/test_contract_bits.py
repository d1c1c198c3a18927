"""Where all is exact, every RMS contract without a gate and with eps inside gives the bits of its module, written in NumPy."""

import numpy as np
import pytest
from conftest import BF16, F16, F32, random, same

import isonorm
from isonorm.contracts import resolve

PLAIN = [
    name
    for name in isonorm.contracts.names()
    if (resolve(name).statistic, resolve(name).eps_place, resolve(name).gate_place) == ("rms", "inside", "none")
]
# Where each of them comes from rounds: of x * rstd, and what the weight multiplies it by. Those without a weight have none.
SCALED = {"torch": None, "gemma": None, "microgpt": None, "llama": "x", "onnx": "x", "t5": "weight"}


def module(name, x, weight):
    """torch.nn.RMSNorm; Llama's, T5's and Gemma's of Hugging Face; SimplifiedLayerNormalization; microgpt's, with eps 0."""
    wide = x.astype(np.float32)
    scaled = wide * (1 / np.sqrt(np.square(wide).mean(-1, keepdims=True, dtype=np.float32)))
    if SCALED[name] is not None:
        scaled = scaled.astype(x.dtype if SCALED[name] == "x" else weight.dtype)
    factor = weight.astype(np.float32) + np.float32(1 if name == "gemma" else 0)
    return (scaled.astype(np.float32) * factor).astype(x.dtype)


def power_of_four_rows(cols, dtype):
    """Rows of integers whose squares add up to cols * 4^k: groups of four, (2, 0, 0, 0), (1, 1, 1, 1) and what permutes them,
    with signs; every sum of them is exact in float32, in any order."""
    generator = np.random.default_rng(cols)
    fours = np.array([[2, 0, 0, 0], [1, 1, 1, 1], [0, 2, 0, 0], [0, 0, 0, 2]])
    x = fours[generator.integers(0, 4, (40, cols // 4))].reshape(40, cols) * generator.choice([-1, 1], (40, cols))
    x = x * 2.0 ** (np.arange(40)[:, None] % 11 - 5)
    assert (np.square(x).mean(-1) == 4.0 ** (np.arange(40) % 11 - 5)).all() and (x == x.astype(dtype)).all()
    return x.astype(dtype)


def test_every_contract_is_here():
    assert sorted(SCALED) == sorted(PLAIN)


@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
@pytest.mark.parametrize("weights", [None, F32], ids=str)
@pytest.mark.parametrize("name", PLAIN)
def test_rows_whose_mean_square_is_a_power_of_four(name, weights, dtype):
    for cols in (4, 60, 256, 1028):
        x, weight = power_of_four_rows(cols, dtype), random(cols, weights or dtype, 1)
        assert same(isonorm.rms_norm(x, weight, eps=0, contract=name), module(name, x, weight))


@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
def test_another_module_would_be_seen(dtype):
    """Of the same rows: what rounds once, to x's type first, and 1 + weight are three results."""
    x, weight = power_of_four_rows(256, dtype), random(256, dtype, 1)
    x[:, 3] *= dtype.type(3)  # 1 / RMS is no power of two any more
    results = [isonorm.rms_norm(x, weight, eps=0, contract=name) for name in ("torch", "llama", "gemma")]
    assert not any(same(a, b) for a, b in ((results[0], results[1]), (results[0], results[2]), (results[1], results[2])))


@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
def test_random_rows_are_within_the_roundings(dtype):
    """Of the module in float64, whose steps before the roundings to dtype have errors below 2^-50: at most one value further
    where the contract rounds once; where it rounds twice two, and more than one on less than 0.2 % of the values."""
    x, weight = random((500, 300), dtype, 1), random(300, dtype, 2)
    wide = x.astype(np.float64)
    scaled = wide / np.sqrt(np.square(wide).mean(-1, keepdims=True) + np.float64(np.float32(1e-6)))
    for name in PLAIN:
        rounded = scaled if SCALED[name] is None else scaled.astype(dtype).astype(np.float64)
        true = (rounded * (weight.astype(np.float64) + (name == "gemma"))).astype(dtype)
        off = np.abs(places(isonorm.rms_norm(x, weight, eps=1e-6, contract=name)) - places(true))
        assert off.max() <= (1 if SCALED[name] is None else 2) and (off > 1).mean() < 0.002, name


def places(array):
    """How many values of their type lie between 0 and each, with its sign."""
    assert np.isfinite(array.astype(np.float32)).all()
    integers = array.view(np.int16).astype(np.int64)
    return np.where(integers < 0, -(integers & 0x7FFF), integers)
