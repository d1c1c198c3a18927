"""Processes that compute together: each runs a function of a test file with a group of gloo, and what it returns comes back.

They are forked from a process that has imported torch and nothing else, so that eight of them take no longer than one import."""

import datetime
import multiprocessing
import os
import tempfile
import traceback

import torch
import torch.distributed as dist

_context = multiprocessing.get_context("forkserver")
LIMIT = 120  # seconds; none takes a tenth of it


def preload(*modules):
    """Imports more before processes are forked; to be called before the first of them is."""
    _context.set_forkserver_preload(["torch", "torch.distributed.tensor.parallel", "isonorm.torch.parallel", *modules])


preload()


def _meet(store, name, rank, world):
    store.set(f"{name}{rank}", "")
    store.wait([f"{name}{other}" for other in range(world)], datetime.timedelta(seconds=LIMIT))


def _run(function, rank, world, store, timeout, args, pipe):
    try:
        torch.set_num_threads(1)
        timeout = datetime.timedelta(seconds=timeout)
        # Ranks meet before, so that a short timeout does not begin while a process is still to be started, and after: one that
        # is done at once must not leave while others are still connecting to it.
        store = dist.FileStore(store, world)
        _meet(store, "started", rank, world)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timeout)
        _meet(store, "connected", rank, world)
        pipe.send((True, function(rank, world, *args)))
        dist.destroy_process_group()
    except BaseException:
        pipe.send((False, traceback.format_exc()))


def run(function, world, *args, timeout=60):
    """What function(rank, world, *args) returns on each rank. A rank that raises fails the test."""
    with tempfile.TemporaryDirectory() as folder:
        store, ends, processes = os.path.join(folder, "store"), [], []
        for rank in range(world):
            own, other = _context.Pipe(duplex=False)
            process = _context.Process(target=_run, args=(function, rank, world, store, timeout, args, other))
            process.start()
            other.close()
            ends.append(own)
            processes.append(process)
        try:
            results = []
            for rank, end in enumerate(ends):
                assert end.poll(LIMIT), f"rank {rank} of {world} hangs"
                results.append(end.recv())
        finally:
            for process in processes:
                process.join(10)
                process.kill()
    for rank, (done, value) in enumerate(results):
        assert done, f"rank {rank} of {world}: {value}"
    return [value for _, value in results]


class Messages:
    """Counts what is sent while it is open: a list of numbers of elements."""

    def __enter__(self):
        self.sent, self._own = [], dist.all_gather_into_tensor

        def counted(received, sent, **options):
            self.sent.append(sent.numel())
            return self._own(received, sent, **options)

        dist.all_gather_into_tensor = counted
        return self.sent

    def __exit__(self, *_):
        dist.all_gather_into_tensor = self._own
