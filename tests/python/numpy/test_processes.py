"""Threads, forks and processes."""

import multiprocessing
import os
import threading
import time

import numpy as np
import pytest
from conftest import random, same

import isonorm

X, W = random((512, 4096), seed=1), random(4096, seed=2)


def work(_):
    return isonorm.rms_norm(X, W, eps=1e-6)


@pytest.mark.parametrize("method", ["fork", "spawn"])
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


def test_threads_share_the_time():
    """While one thread is in a long call, another one runs Python."""
    x = np.ones((4096, 4096), np.float32)
    out = np.empty_like(x)
    done, ticks = threading.Event(), 0

    def compute():
        for _ in range(20):
            isonorm.rms_norm(x, eps=1e-6, out=out, threads=1)
        done.set()

    thread = threading.Thread(target=compute)
    thread.start()
    while not done.is_set():
        time.sleep(0)
        ticks += 1
    thread.join()
    assert ticks > 1000  # with the lock held through a call, one for each of 20 calls


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
