"""Rows that the processes of MPI share: each rank has some columns, and MPI's all-gather is between the library's pieces.

You learn what of a norm has to be sent, one float of each row from each rank, what `Forward` and `Backward` do with it, and that
the result has the bits of one process. A split that would give other bits is refused on every rank before anything is sent.

pip install . mpi4py                            # in a checkout, and an MPI, such as Debian's openmpi-bin
mpirun -n 4 python -m mpi4py mpi_rms_norm.py    # 1, 2, 4 or 8 ranks; -m mpi4py: a rank that fails ends the others
"""

import sys

import numpy as np
from mpi4py import MPI

import isonorm
from isonorm import parallel

ROWS, COLS, CALL = 3, 1536, {"eps": 1e-6, "contract": "llama"}


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one.view(np.uint32), np.ascontiguousarray(other).view(np.uint32))


def main() -> int:
    comm, exchanges = MPI.COMM_WORLD, 0
    ranks, rank = comm.size, comm.rank

    def all_gather(partial: np.ndarray) -> np.ndarray:
        nonlocal exchanges
        exchanges += 1
        gathered = np.empty((ranks, *partial.shape), partial.dtype)
        comm.Allgather(partial, gathered)
        return gathered

    number = np.arange(ROWS * COLS).reshape(ROWS, COLS)
    scale = np.array([[0.01], [0.01], [1e35]], np.float32)  # the squares of the last row overflow, which takes exchanges of its own
    x = (number * 2654435761 % 2001 - 1000).astype(np.float32) * scale
    dy, weight = (number * 40503 % 17 - 8).astype(np.float32), np.full(COLS, 1.5, np.float32)

    cols = COLS // ranks
    own = np.s_[..., rank * cols : (rank + 1) * cols]
    try:
        forward = parallel.Forward(x[own], weight[own], ranks=ranks, **CALL)
        while forward.round is not None:
            forward.finish(all_gather(forward.partial()))
        of_forward = exchanges
        backward = parallel.Backward(dy[own], x[own], weight[own], ranks=ranks, statistic=forward.statistic, **CALL)
        dx, dweight = backward.finish(all_gather(backward.partial()))
    except ValueError as error:  # what is wrong with the call is wrong on every rank: only their values differ
        sys.stderr.write(f"rank {rank} of {ranks}, after {exchanges} exchanges: {error}\n")
        comm.Barrier()  # the first to leave with an error ends the others
        return 1

    y = isonorm.rms_norm(x, weight, **CALL)
    whole = isonorm.rms_norm_backward(dy, x, weight, **CALL)
    equal = same(forward.y, y[own]) and same(dx, whole.dx[own]) and same(dweight, whole.dweight[own])
    everywhere = comm.allreduce(equal, MPI.LAND)
    if rank == 0:
        words = f"{ranks} {'rank' if ranks == 1 else 'ranks'}, {of_forward} exchanges forward and {exchanges - of_forward} backward"
        print(f"{words}: {'the bits of one process' if everywhere else 'other bits'}")
    return 0 if everywhere else 1


if __name__ == "__main__":
    sys.exit(main())
