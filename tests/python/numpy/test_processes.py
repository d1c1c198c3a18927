"""Threads, forks and processes."""

import multiprocessing
import os
import sys
import threading
import time

import numpy as np
import pytest
from conftest import random, same

import isonorm
from isonorm import _native

X, W = random((512, 4096), seed=1), random(4096, seed=2)


def work(_):
    return isonorm.rms_norm(X, W, eps=1e-6)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers(method):
    expected = isonorm.rms_norm(X, W, eps=1e-6)  # the pool of this process has its threads before it forks
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert all(same(y, expected) for y in pool.map_async(work, range(4)).get(timeout=120))


def test_a_fork_while_another_thread_computes():
    expected = isonorm.rms_norm(X, W, eps=1e-6)
    stop = threading.Event()
    thread = threading.Thread(target=lambda: [isonorm.rms_norm(X, W, eps=1e-6) for _ in iter(lambda: stop.is_set(), True)])
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0 if same(isonorm.rms_norm(X, W, eps=1e-6), expected) else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


LONG = np.ones((2048, 4096), np.float32)
CALLS = {
    "forward, the usual arguments": lambda: isonorm.rms_norm(LONG, eps=1e-6, out=OUT, threads=1),
    "forward": lambda: isonorm.rms_norm(LONG, eps=1e-6, return_rstd=True, out=OUT, threads=1),
    "into": lambda: isonorm.into(OUT, LONG, eps=1e-6, threads=1),
    "qk_norm": lambda: isonorm.qk_norm(LONG, LONG, eps=1e-6, out=(OUT, OUT.copy()), threads=1),
    "backward": lambda: isonorm.rms_norm_backward(LONG, LONG, eps=1e-6, out=OUT, threads=1),
    "double_backward": lambda: isonorm.double_backward(LONG, LONG, ddx=LONG, eps=1e-6, threads=1),
    "rms": lambda: isonorm.rms(LONG, threads=1),
    "rms_backward": lambda: isonorm.rms_backward(LONG, LONG[:, 0], out=OUT, threads=1),
    "rms_penalty": lambda: isonorm.rms_penalty(LONG, 0.5, threads=1),
    "parallel": lambda: isonorm.parallel.Forward(LONG, eps=1e-6, ranks=1, threads=1).partial(),
    "combine_gradients": lambda: isonorm.parallel.combine_gradients(LONG, rows=2048 * 32, part_rows=32, threads=1),
    "stats": lambda: isonorm.stats(LONG, threads=1),
    "compare": lambda: isonorm.compare(LONG, threads=1),
    "digest": lambda: isonorm.digest(LONG),
}
OUT = np.empty_like(LONG)


@pytest.mark.parametrize("name", CALLS)
def test_the_lock_is_free_during_a_call(monkeypatch, name):
    """A thread that wants the lock all the time gets it while the compiled part computes.

    It gives the lock away only where the interpreter asks it to, which for this test is once in ten seconds: if the compiled
    part held the lock, the other thread would have counted nothing when the call returns, however often it is called; if not,
    a machine that is busy may need several calls."""
    call, counted, stop = CALLS[name], [0], threading.Event()
    before = sys.getswitchinterval()

    def count():
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0)

    thread, seen = threading.Thread(target=count), []
    compiled = {key: value for key, value in vars(_native).items() if callable(value) and not key.startswith("_")}

    def watched(function):
        def run(*arguments):
            started = counted[0]
            result = function(*arguments)
            seen.append(counted[0] - started)
            return result

        return run

    for key, value in compiled.items():
        monkeypatch.setattr(_native, key, watched(value))
    sys.setswitchinterval(10)
    thread.start()
    try:
        for _ in range(1000):
            call()
            if max(seen) > 0:
                break
    finally:
        stop.set()
        sys.setswitchinterval(before)
        thread.join()
    assert max(seen) > 0


def tasks():
    return len(os.listdir("/proc/self/task"))


def in_a_new_process(function):
    """What it returns, where no thread was started before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply_async(function).get(timeout=300)


def started_threads():
    x, before, found = np.ones((2048, 2048), np.float32), tasks(), []
    for threads in (1, None):
        for call in (
            lambda: isonorm.rms_norm(x, eps=1e-6, threads=threads),
            lambda: isonorm.rms_norm_backward(x, x, eps=1e-6, threads=threads),
            lambda: isonorm.stats(x, threads=threads),
        ):
            call()
            found.append(tasks() - before)
    isonorm.set_num_threads(1)
    spent = time.process_time() - time.thread_time()
    isonorm.rms_norm(x, eps=1e-6)
    return found, time.process_time() - time.thread_time() - spent


def test_threads_are_as_many_as_asked_for():
    """With threads=1 none is started; with None one for each CPU beside the caller; afterwards 1 leaves them asleep."""
    found, others = in_a_new_process(started_threads)
    assert found == [0] * 3 + [len(os.sched_getaffinity(0)) - 1] * 3
    assert others < 1e-3  # the clocks are read one after the other; a second thread would compute milliseconds


def test_many_threads_call_at_once():
    expected = isonorm.rms_norm(X, W, eps=1e-6)
    results = [None] * 8

    def compute(i):
        results[i] = isonorm.rms_norm(X, W, eps=1e-6)

    threads = [threading.Thread(target=compute, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(y, expected) for y in results)


def test_the_number_of_threads():
    try:
        isonorm.set_num_threads(1)
        assert isonorm.get_num_threads() == 1
    finally:
        isonorm.set_num_threads(None)
    assert isonorm.get_num_threads() == len(os.sched_getaffinity(0))
    with pytest.raises(ValueError, match="threads is -1"):
        isonorm.set_num_threads(-1)


def test_nothing_leaks():
    import resource

    x, weight = random((64, 64)), random(64)
    calls = [
        lambda: isonorm.rms_norm(x, weight, eps=1e-6),
        lambda: isonorm.rms_norm(x, weight, eps=1e-6, residual=x, return_rstd=True),
        lambda: isonorm.rms_norm_backward(x, x, weight, eps=1e-6),
        lambda: pytest.raises(ValueError, isonorm.rms_norm, x, weight[:3], eps=1e-6),
    ]
    for call in calls:
        for _ in range(500):
            call()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for call in calls:
        for _ in range(3000):
            call()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10  # KB; one array of each call would be 48 MB
