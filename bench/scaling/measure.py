"""What is measured of docs/scaling.md, on the machine at hand, by two processes; goes into MEASURED of model.py.

  mpirun -n 2 python -m mpi4py bench/scaling/measure.py
"""

import statistics
import time
from typing import Any, Callable

import ml_dtypes
import model
import numpy as np
from mpi4py import MPI

import isonorm
from isonorm import parallel

ROWS, WIDTH, EPS = 4096, 8192, 1e-6
BF16 = np.dtype(ml_dtypes.bfloat16)


def timed(what: Callable[[], Any]) -> float:
    """Microseconds, the median of a rank, of the slower rank; all begin together."""
    times = []
    for _ in range(31):
        MPI.COMM_WORLD.Barrier()
        begin = time.perf_counter()
        what()
        times.append(time.perf_counter() - begin)
    return MPI.COMM_WORLD.allreduce(1e6 * statistics.median(times), MPI.MAX)


def gather(values: np.ndarray, into: np.ndarray) -> np.ndarray:
    MPI.COMM_WORLD.Allgather(values, into)
    return into


def main() -> None:
    ranks, cols = MPI.COMM_WORLD.size, WIDTH // MPI.COMM_WORLD.size
    x = np.random.default_rng(MPI.COMM_WORLD.rank).standard_normal((ROWS, cols)).astype(BF16)
    weight, y, bits = np.ones(cols, BF16), np.empty_like(x), np.zeros((ranks, ROWS, cols), np.uint16)
    call, gathered = parallel.Forward(x, weight, eps=EPS, ranks=ranks), np.zeros((ranks, ROWS, 1), np.float32)

    def partial() -> np.ndarray:
        call.round = 0
        return call.partial()

    times = {
        "scalars": timed(lambda: gather(np.zeros((ROWS, 1), np.float32), gathered)),
        "activations": timed(lambda: gather(x.view(np.uint16), bits)),
        "partial": timed(partial),
        "split": timed(lambda: call.finish(gather(partial(), gathered))),
        "alone": timed(lambda: isonorm.rms_norm(x, weight, eps=EPS, out=y)),
    }
    if MPI.COMM_WORLD.rank == 0:
        found = {"rows": ROWS, "width": WIDTH, "ranks": ranks} | {name: round(time, 1) for name, time in times.items()}
        assert found.keys() == model.MEASURED.keys()
        print(found)


if __name__ == "__main__":
    main()
