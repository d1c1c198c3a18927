"""isonorm.compare: LayerNorm against RMSNorm, with numbers that are exact or those of the command."""

import math

import numpy as np
import pytest
from conftest import BF16, F16, F32, F64, random

import isonorm


@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
def test_the_numbers_of_stats(dtype):
    x = random((40, 129), dtype, 1) + np.asarray(0.5, dtype)
    compared, nested = isonorm.compare(x, eps=1e-5), isonorm.stats(x, eps=1e-5, flat=False)
    norms = nested["norms"]
    assert compared["mean"] == nested["mean"] and compared["rms"] == nested["rms"]
    for norm in ("rms_norm", "layer_norm"):
        assert compared[f"{norm}_mean"] == norms[norm]["mean"] and compared[f"{norm}_std"] == norms[norm]["std"]
    assert compared["cosine_mean"] == norms["cosine_mean"]
    assert (compared["cosine_min"], compared["cosine_min_row"]) == tuple(norms["cosine_min"].values())
    assert (compared["rows"], compared["cols"], compared["compared_rows"], compared["constant_rows"]) == (40, 129, 40, 0)


@pytest.mark.parametrize("offset", [2.0**40, -(2.0**40)])
def test_the_deviation_of_rows_far_from_zero(offset):
    """Whose squares have lost it."""
    x = np.array([[-2.0, 0.0] * 32, [0.0, 2.0] * 32])  # deviation 1 around -1 and around 1
    found = isonorm.compare(x + offset)
    assert found["mean"] == offset and found["std"] == math.sqrt(2)
    x = np.random.default_rng(5).integers(-100, 100, (37, 64)).astype(F64)
    assert isonorm.compare(x + offset)["std"] == isonorm.compare(x)["std"]


def test_the_deviation_of_a_constant_is_zero():
    found = isonorm.compare(np.full((7, 1000), 0.1, F32))
    assert found["std"] == 0 and found["mean"] == float(np.float32(0.1)) and found["constant_rows"] == 7


@pytest.mark.parametrize("exponent", [-600, 600])
def test_a_power_of_two_scales_everything(exponent):
    x = random((37, 131), F64, 2) + 0.25
    small, scaled = isonorm.compare(x, eps=0), isonorm.compare(np.ldexp(x, exponent), eps=0)
    for key in ("mean", "std", "rms"):
        assert scaled[key] == math.ldexp(small[key], exponent), key
    assert scaled["cosine_min"] == small["cosine_min"]


@pytest.mark.parametrize("rows", [4, 1 << 16])
def test_beside_a_row_that_is_very_large_the_others_are_nothing(rows):
    x = random((rows, 64 if rows == 4 else 2), F64, 3) + 1
    x[-1] = np.ldexp(x[-1], 700)  # in the last piece of several, where the sums so far take its scale
    found, alone = isonorm.compare(x), isonorm.compare(x[-1:])
    assert found["rms"] == alone["rms"] / math.sqrt(rows) and found["mean"] == alone["mean"] / rows
    x[:-1] = 0
    assert found["std"] == isonorm.compare(x)["std"] > 0


def test_only_whole_rows_are_compared():
    x = random((5, 33), F32, 4)
    expected = isonorm.compare(x[[0, 2, 4]])
    x[1, 3], x[3, 0] = np.nan, np.inf
    found = isonorm.compare(x)
    assert found.pop("rows") == 5 and expected.pop("rows") == 3 and found.pop("cosine_min_row") in (0, 2, 4)
    del expected["cosine_min_row"]
    assert found == expected and found["compared_rows"] == 3
    assert isonorm.stats(x)["mean"] != found["mean"], "stats counts the finite values of the other rows too"


def test_no_row_to_compare():
    for x in (np.full((3, 4), np.nan, F32), np.zeros((0, 4), F32), np.zeros((4, 0), F32)):
        found = isonorm.compare(x)
        assert found["compared_rows"] == 0
        counts = ("dtype", "rows", "cols", "compared_rows", "constant_rows")
        assert all(math.isnan(value) for key, value in found.items() if key not in counts)


def test_several():
    x, y = random((3, 5)), random((2, 7), F64, 1)
    one = isonorm.compare(x)
    assert isonorm.compare([x, y]) == [one, isonorm.compare(y)]
    named = isonorm.compare({"a": x, "b": y})
    assert list(named[0])[0] == "name" and named[0] == {"name": "a", **one}
    assert isonorm.compare([]) == []
