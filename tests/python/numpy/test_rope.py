"""Rotation in the call of the norm."""

import numpy as np
import pytest
from conftest import BF16, F32, random, same

import isonorm


def tables(positions, half, dtype=F32):
    angles = np.outer(np.arange(positions), 1e4 ** (-np.arange(half) / half))
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)


def rotated(y, cos, sin, style):
    """The formula of rope.h, in the type of its arguments."""
    half = cos.shape[-1]
    out = y.copy()
    a, b = (y[..., :half], y[..., half : 2 * half]) if style == "half" else (y[..., 0 : 2 * half : 2], y[..., 1 : 2 * half : 2])
    first, second = a * cos - b * sin, b * cos + a * sin
    if style == "half":
        out[..., :half], out[..., half : 2 * half] = first, second
    else:
        out[..., 0 : 2 * half : 2], out[..., 1 : 2 * half : 2] = first, second
    return out


@pytest.mark.parametrize("style", ["half", "interleaved"])
@pytest.mark.parametrize("half", [8, 5])
def test_a_norm_and_a_rotation(style, half):
    x, weight = random((2, 7, 3, 16), F32, 1), random(16, F32, 2)
    cos, sin = tables(40, half)
    rope = isonorm.Rope(cos, sin, position_axis=1, position_offset=4, style=style)
    y = isonorm.rms_norm(x, weight, eps=1e-6)
    expected = rotated(y.astype(np.float64), cos[4:11, None].astype(np.float64), sin[4:11, None].astype(np.float64), style)
    ours = isonorm.rms_norm(x, weight, eps=1e-6, rope=rope)
    # Three roundings of f32 where the expected value has one of f64.
    assert (np.abs(ours - expected) <= 3 * np.spacing(np.abs(y).max(-1, keepdims=True))).all()
    positions = np.broadcast_to(np.arange(4, 11), (2, 7)).astype(np.int64)
    given = isonorm.Rope(cos, sin, positions=np.ascontiguousarray(positions), style=style)
    assert same(isonorm.rms_norm(x, weight, eps=1e-6, rope=given), ours)


def test_q_and_k_in_one_packed_tensor():
    packed = random((2, 5, 8, 64), BF16, 1)
    q, k, v = packed[:, :, :4], packed[:, :, 4:6], packed[:, :, 6:]
    before = v.copy()
    q_weight, k_weight = random(64, BF16, 2), random(64, BF16, 3)
    rope = isonorm.Rope(*tables(5, 32), position_axis=1)
    expected = [isonorm.rms_norm(a, w, eps=1e-6, contract="llama", rope=rope) for a, w in ((q, q_weight), (k, k_weight))]
    fresh = isonorm.qk_norm(q, k, q_weight, k_weight, eps=1e-6, contract="llama", rope=rope)
    assert same(fresh.q, expected[0]) and same(fresh.k, expected[1])
    isonorm.qk_norm(q, k, q_weight, k_weight, eps=1e-6, contract="llama", rope=rope, out=(q, k))
    assert same(q.copy(), expected[0]) and same(k.copy(), expected[1]) and same(v.copy(), before)


def test_what_is_wrong_is_named():
    x, (cos, sin) = random((2, 7, 3, 16)), tables(40, 8)
    for rope, words in (
        (isonorm.Rope(cos, sin, style="whole"), "style is 'whole'"),
        (isonorm.Rope(cos, sin, position_axis=3), "position_axis is 3"),
        (isonorm.Rope(cos, sin, position_axis=1, position_offset=36), "position"),
        (isonorm.Rope(cos, sin[:, :7]), "sin"),
    ):
        with pytest.raises(ValueError, match=words):
            isonorm.rms_norm(x, eps=1e-6, rope=rope)
