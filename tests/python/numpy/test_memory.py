"""Large results: arrays like any other, in memory that is used again, of which not too much is kept."""

import pathlib
import pickle
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import BF16, F64, random, same
from numpy._core.multiarray import get_handler_name

import isonorm
from isonorm import _arrays, _native

LARGE = (4096, 4096)  # 64 MiB of float32
MIB = 2**20


def mapped():
    """Bytes of address space."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def drain():
    """Fills what is kept with one block that no test takes."""
    _native.empty((256 * MIB,), np.uint8)


def norm(x, **options):
    return isonorm.rms_norm(x, eps=1e-6, **options)


def test_only_large_results_are_in_blocks():
    limit = _arrays.LARGE_BYTES // 4 // 1024
    for rows, name in ((limit - 1, "default_allocator"), (limit, "isonorm")):
        x = np.ones((rows, 1024), np.float32)
        y, rstd = norm(x, return_rstd=True)
        assert get_handler_name(y) == get_handler_name(norm(x)) == name
        assert get_handler_name(rstd) == "default_allocator"
        assert get_handler_name(np.empty(LARGE)) == "default_allocator"


def test_every_function_that_gives_as_much_as_it_takes():
    x, gate = np.ones((2048, 4096), np.float32), np.ones((2048, 4096), np.float32)
    weight = np.ones(4096, np.float32)
    results = {
        "residual": norm(x, residual=x),
        "axis": (norm(x, axis=0), norm(x.reshape(2, 1024, 64, 64), axis=(-2, -1))),
        "layer": (isonorm.layer_norm(x, eps=1e-6),),
        "qk": isonorm.qk_norm(x, x, eps=1e-6),
        "backward": isonorm.rms_norm_backward(
            gate, x, weight, gate=gate, eps=1e-6, contract="mamba2", needs=("dx", "dgate")
        ),
        "double": (isonorm.double_backward(x, x, weight, ddx=x, eps=1e-6).dx,),
        "vectors": (isonorm.rms_backward(x, np.ones(2048, np.float32)),),
    }  # fmt: skip
    for name, arrays in results.items():
        for array in arrays:
            while array.base is not None:
                array = array.base
            assert get_handler_name(array) == "isonorm", name


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), BF16, F64])
def test_memory_is_used_again_and_bits_are_the_same(dtype):
    rows = 64 * MIB // 4096 // dtype.itemsize
    x, other = (random((rows, 4096), dtype, seed) for seed in (0, 1))
    y = norm(x)
    assert y.flags.owndata and y.base is None and y.flags.c_contiguous and y.flags.writeable and y.dtype == dtype
    expected = y.copy()
    address = y.ctypes.data
    del y
    again = norm(other)
    assert again.ctypes.data == address and not same(again, expected)
    more = norm(x)
    assert more.ctypes.data != address and same(more, expected)
    del again
    fits = norm(x[: rows - rows // 8])
    assert fits.ctypes.data == address and same(fits, expected[: rows - rows // 8])
    drain()


def test_no_page_is_fetched_twice():
    x = random(LARGE)

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        assert norm(x, threads=1).shape == LARGE
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    drain()
    first, *later = (faults() for _ in range(4))
    assert first >= 32 and min(later) < 16  # 32 huge pages, or 16,384 small ones
    drain()


def test_what_is_kept_has_a_limit():
    drain()
    before = mapped()
    arrays = [norm(np.ones(LARGE, np.float32)) for _ in range(7)]
    assert mapped() - before >= 7 * 64 * MIB
    del arrays
    # The 256 MiB that drain() left are among them before and after.
    assert mapped() - before < 64 * MIB
    huge = _native.empty((257 * MIB,), np.uint8)
    with_it = mapped()
    del huge
    assert with_it - mapped() >= 257 * MIB
    before = mapped()
    assert norm(np.ones(LARGE, np.float32)).shape == LARGE
    assert mapped() == before


def test_arrays_like_any_other():
    x = random((2048, 4096))
    y = norm(x)
    expected = y.copy()
    assert same(pickle.loads(pickle.dumps(y)), expected) and get_handler_name(y.copy()) == "default_allocator"
    view = y[5:, ::2]
    address = y.ctypes.data
    del y
    assert norm(x).ctypes.data != address and same(view, expected[5:, ::2])
    y = norm(x)
    y.resize((4096, 4096), refcheck=False)
    assert same(y[:2048], expected) and not y[2048:].any()
    y.resize((3, 4096), refcheck=False)
    assert same(y, expected[:3])
    zeros = np.zeros(LARGE, np.float32)
    assert get_handler_name(zeros) == "default_allocator" and not zeros.any()


def test_errors():
    with pytest.raises(MemoryError):
        _native.empty((2**60,), np.uint8)
    with pytest.raises(ValueError, match="too big"):
        _native.empty((2**62, 2**62), np.float64)
    with pytest.raises(TypeError):
        _native.empty((2**26,), "no type")
    x = np.ones(LARGE, np.float32)
    with pytest.raises(ValueError, match="weight"):
        norm(x, weight=np.ones(5, np.float32))
    assert get_handler_name(np.empty(LARGE)) == "default_allocator"


def test_threads():
    x = [random((2048, 4096), seed=seed) for seed in range(3)]
    expected = [norm(array) for array in x]
    wrong = []

    def work(i):
        for _ in range(12):
            if not same(norm(x[i], threads=1), expected[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_children_and_the_end_of_the_process():
    code = """
import os, numpy as np, isonorm
x = np.ones((4096, 4096), np.float32)
kept = isonorm.rms_norm(x, eps=0)
del kept
kept = isonorm.rms_norm(x, eps=0)
pid = os.fork()
if pid == 0:
    again = isonorm.rms_norm(2 * x, eps=0, threads=1)
    del kept
    third = isonorm.rms_norm(3 * x, eps=0, threads=1)
    os._exit(0 if (again == 1).all() and (third == 1).all() else 3)
assert os.waitpid(pid, 0)[1] == 0 and (kept == 1).all()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_kept_goes_where_memory_is_short():
    script = """
import pathlib, resource
import numpy as np, isonorm
x = np.ones((80 << 18,), np.float32).reshape(-1, 4096)
isonorm.rms_norm(np.ones((60 << 10, 1024), np.float32), eps=1e-6)  # 240 MiB that stay
taken = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (60 << 20),) * 2)
assert (isonorm.rms_norm(x, eps=0, threads=1) == 1).all()  # 80 MiB
"""
    subprocess.run([sys.executable, "-c", script], check=True)
