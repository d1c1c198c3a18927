"""What tests of several frameworks' faces share: results beside NumPy's, calls, and how far derivatives may be apart."""

import dataclasses

import numpy as np
from conftest import BF16, F32, bits, random

import isonorm

# Of rows whose derivatives are compared with those of the formula.
ROWS, COLS, EPS = 3, 8, 1e-3


def same(array, expected):
    """Whether an array of a framework has the type, the shape and the bits of another one, or of one of NumPy."""
    array, expected = np.asarray(array), np.asarray(expected)
    return array.dtype == expected.dtype and array.shape == expected.shape and bool((bits(array) == bits(expected)).all())


def outputs(result, only="y"):
    """One result, or a named tuple of several, by name."""
    return result._asdict() if hasattr(result, "_asdict") else {only: result}


def numpy_rope(rope):
    positions = None if rope.positions is None else np.asarray(rope.positions)
    cos, sin = np.asarray(rope.cos), np.asarray(rope.sin)
    return isonorm.Rope(cos, sin, positions, rope.position_axis, rope.position_offset, rope.style)


def option_calls(dtype):
    """Arrays of NumPy for x, weight and bias, and options: each option at least once, and those that meet."""
    x, w, b = random((4, 6, 64), dtype), random(64, dtype, 1), random(64, dtype, 2)
    residual, gate = random((4, 6, 64), dtype, 3), random((4, 6, 64), dtype, 5)
    kept = dataclasses.replace(isonorm.contracts.gemma, sum_rounding="kept", weight_offset=0.25)
    sigmoid = dataclasses.replace(isonorm.contracts.qwen3_next_gated, gate_function="sigmoid")
    yield (x, w, b), {"groups": 4, "return_rstd": True}
    yield (x, w, b), {"groups": 2, "window": 9, "contract": "paper"}
    yield (x, w, b), {"residual": residual, "return_rstd": True}
    yield (x, w), {"residual": residual.astype(F32)}
    yield (x, w), {"residual": residual.astype(BF16), "contract": kept}
    yield (x, w, b), {"dtype": F32}
    yield (x, w), {"gate": gate, "groups": 2, "contract": "mamba2"}
    yield (x, w, b), {"gate": gate, "contract": sigmoid}


def bound(derivatives, eps):
    """How far two ways of computing a derivative of the norm of a row may be apart, relative to the largest value there is.

    y has a sum of COLS squares and four operations more behind it, with a gate or a rotation six more. A derivative multiplies
    what was rounded by x * rstd, of which no value is above sqrt(COLS), twice, and so by COLS at most, and adds as many
    operations again; dweight and dbias add ROWS terms. Both ways err."""
    return 2 * (derivatives + 1) * (ROWS + COLS + 10) * (COLS + 1) ** derivatives * eps / 2


def close(got, expected, eps, derivatives):
    """Lists of arrays, of which those expected are of float64."""
    for a, b in zip(got, expected, strict=True):
        a, b = np.asarray(a).astype(np.float64), np.asarray(b)
        assert a.shape == b.shape and (np.abs(b) > 0).any()
        assert np.abs(a - b).max() <= bound(derivatives, eps) * np.abs(b).max()
