"""Ranks: what they compute together has the bits of one call."""

import numpy as np
import pytest
from conftest import BF16, F32, F64, random, same

import isonorm
from isonorm import parallel


def split(array, ranks):
    return None if array is None else [np.ascontiguousarray(a) for a in np.split(array, ranks, axis=-1)]


def forward(ranks, x, weight, **options):
    calls = [parallel.Forward(a, w, ranks=ranks, **options) for a, w in zip(split(x, ranks), split(weight, ranks))]
    turns = 0
    while calls[0].round is not None:
        gathered = np.stack([call.partial().copy() for call in calls])
        for call in calls:
            call.finish(gathered)
        turns += 1
        assert len({call.round for call in calls}) == 1 and turns < 8
    return calls, turns


@pytest.mark.parametrize("contract", ["torch", "llama", "layer_norm"])
@pytest.mark.parametrize("dtype", [F32, BF16, F64], ids=str)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_columns_over_ranks(ranks, dtype, contract):
    x, weight, dy = random((5, 3, 1024), dtype, 1), random(1024, dtype, 2), random((5, 3, 1024), dtype, 3)
    calls, turns = forward(ranks, x, weight, eps=1e-6, contract=contract)
    assert turns == (2 if contract == "layer_norm" else 1)
    whole = isonorm.rms_norm(x, weight, eps=1e-6, contract=contract, return_rstd=True)
    assert same(np.concatenate([call.y for call in calls], -1), whole.y)
    assert all(same(call.rstd, whole.rstd) for call in calls)
    backward = [
        parallel.Backward(g, a, w, eps=1e-6, contract=contract, ranks=ranks, statistic=call.statistic)
        for g, a, w, call in zip(split(dy, ranks), split(x, ranks), split(weight, ranks), calls)
    ]
    gathered = np.stack([b.partial() for b in backward])
    gradients = [b.finish(gathered) for b in backward]
    expected = isonorm.rms_norm_backward(dy, x, weight, eps=1e-6, contract=contract)
    assert same(np.concatenate([g.dx for g in gradients], -1), expected.dx)
    assert same(np.concatenate([g.dweight for g in gradients]), expected.dweight)


def test_squares_that_overflow_take_more_turns():
    x = random((4, 512), F32, 1)
    x[2] *= np.float32(1e30)
    calls, turns = forward(2, x, np.ones(512, np.float32), eps=1e-6)
    assert turns > 1
    assert same(np.concatenate([call.y for call in calls], -1), isonorm.rms_norm(x, np.ones(512, np.float32), eps=1e-6))


def test_what_is_wrong_is_named():
    assert parallel.max_ranks(4097 * 16) >= 1 and parallel.max_ranks(513) == 1
    call = parallel.Forward(random((2, 128)), eps=1e-6, ranks=1)
    with pytest.raises(ValueError, match="gathered"):
        call.finish(np.empty((2, 2, 1), np.float32))
    call.finish(call.partial()[None])
    with pytest.raises(RuntimeError, match="finished"):
        call.partial()
    with pytest.raises(ValueError, match="ranks"):
        parallel.Forward(random((2, 128)), eps=1e-6, ranks=3).partial()
    with pytest.raises(ValueError, match="no out to add to"):
        parallel.combine_gradients(random((2, 8)), rows=64, part_rows=32, accumulate=True)
