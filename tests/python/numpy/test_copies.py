"""What is copied and what is not: arrays are read and written where they lie, and results of in-place calls are the arguments."""

import multiprocessing
import re

import numpy as np
import pytest
from conftest import random, same

import isonorm

ROWS, COLS = 4096, 1024  # 16 MiB


def peak():
    with open("/proc/self/status", encoding="utf-8") as file:
        return int(re.search(r"VmPeak:\s+(\d+) kB", file.read()).group(1)) << 10


def in_a_new_process(function, *arguments):
    """What it returns, where no memory was freed before that could be taken again."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply_async(function, arguments).get(timeout=300)


VIEWS = {
    "every other row": (np.s_[::2, :COLS], None),
    "a slice of columns": (np.s_[:ROWS, 8 : COLS + 8], None),
    "backwards": (np.s_[ROWS - 1 :: -1, :COLS], None),
    "axes swapped": (np.s_[:ROWS, :COLS], (64, 64, COLS)),
    "every other column": (np.s_[:ROWS, ::2], None),
}
CALLS = {
    "rms_norm": lambda x, out, spare, row: isonorm.rms_norm(x, row, eps=1e-6, out=out),
    "rms_norm, all it can return": lambda x, out, spare, row: isonorm.rms_norm(
        x, row, row, eps=1e-6, residual=x, out=out, residual_out=spare, return_rstd=True
    ),
    "layer_norm": lambda x, out, spare, row: isonorm.layer_norm(x, row, row, eps=1e-6, out=out),
    "qk_norm": lambda x, out, spare, row: isonorm.qk_norm(x, x, row, row, eps=1e-6, out=(out, spare)),
    "rms_norm_backward": lambda x, out, spare, row: isonorm.rms_norm_backward(x, x, row, eps=1e-6, out=out),
    "rms": lambda x, out, spare, row: isonorm.rms(x),
    "rms_backward": lambda x, out, spare, row: isonorm.rms_backward(x, x[..., 0], out=out),
    "into": lambda x, out, spare, row: isonorm.into(out, x, row, eps=1e-6),
}


def allocated(view, calls):
    """By how many bytes calls make the process grow, of 16 MiB of input; the arrays they are given come before."""
    base, (where, shape) = np.ones((2 * ROWS, 2 * COLS), np.float32), VIEWS[view]
    x = base[where]
    if shape is not None:
        x = x.reshape(shape).transpose(1, 0, 2)
    assert x.nbytes == 4 * ROWS * COLS and not x.flags.c_contiguous
    row, out, spare = np.ones(x.shape[-1], np.float32), np.empty(x.shape, np.float32), np.empty(x.shape, np.float32)
    isonorm.set_num_threads(1)
    found = {}
    for name in calls:
        CALLS[name](x[:2], out[:2], spare[:2], row)  # what is loaded and made once
        before = peak()
        CALLS[name](x, out, spare, row)
        found[name] = peak() - before
    return found


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "every other column"])
def test_strided_arrays_are_not_copied(view):
    found = in_a_new_process(allocated, view, list(CALLS))
    # So little for each that all of them together could not hide a copy of 16 MiB in what the process has had already.
    assert {name: grown for name, grown in found.items() if grown >= 1 << 20} == {}


def test_a_copy_would_be_seen():
    (grown,) = in_a_new_process(allocated, "every other column", ["rms_norm"]).values()
    assert grown >= 4 * ROWS * COLS  # the one layout that rms_norm copies


def test_numbers_of_rows_may_be_apart():
    x, drms = random((6, 40)), random((6, 4))[:, 1]
    assert same(isonorm.rms_backward(x, drms), isonorm.rms_backward(x, drms.copy()))
    rstd = np.repeat(isonorm.rms_norm(x, eps=1e-6, return_rstd=True).rstd, 2)[::2]
    assert same(isonorm.rms_norm_backward(x, x, eps=1e-6, rstd=rstd), isonorm.rms_norm_backward(x, x, eps=1e-6))
    assert same(isonorm.double_backward(x, x, ddx=x, eps=1e-6, rstd=rstd).dx, isonorm.double_backward(x, x, ddx=x, eps=1e-6).dx)


def test_memory_is_as_it_was_given():
    x, weight = random((64, 100)), random(100)
    before, out = x.copy(), np.empty_like(x)
    assert isonorm.rms_norm(x, weight, eps=1e-6, out=out) is out and same(x, before)
    y = isonorm.rms_norm(x, weight, eps=1e-6)
    assert not np.shares_memory(y, x) and y.flags.c_contiguous and y.flags.writeable and y.base is None
    total = np.empty_like(x)
    found = isonorm.rms_norm(x, weight, eps=1e-6, residual=y, out=out, residual_out=total)
    assert found.y is out and found.residual_out is total and same(x, before)
    assert isonorm.rms_norm_backward(y, x, eps=1e-6, out=out) is out and same(x, before)
    assert isonorm.rms_backward(x, isonorm.rms(x), out=out) is out and same(x, before)
