"""What ranks pay for what they exchange: the alpha-beta model of docs/scaling.md, its numbers and where they are from.

A time is in microseconds, n is the bytes that each rank sends, and P the number of ranks.
"""

import math
from typing import Callable, NamedTuple

# Published. Speeds are in GB/s and one direction, half of what vendors state for both. Microseconds of a step and of a call
# are the constants of NCCL's own model of its ring, src/graph/tuning.cc, by protocol: "LL" sends 4 bytes of flag with 4 of data, so
# it has half the speed and a third of the latency of "Simple".
PROTOCOLS = {"LL": 0.5, "Simple": 1.0}
CALL = {"LL": 6.6, "Simple": 8.4}


class Link(NamedTuple):
    name: str
    speed: float
    step: dict[str, float]
    most: int  # GPUs that it joins
    tflops: float  # of such a GPU, dense, in bf16: half of what is stated with sparsity


NVLINK, PCIE, NETWORK = {"LL": 0.6, "Simple": 3.4}, {"LL": 1.0, "Simple": 5.7}, {"LL": 5.0, "Simple": 14.0}
NVLINK5 = Link("NVLink 5", 900.0, NVLINK, 72, 360_000 / 72 / 2)
NVLINK4 = Link("NVLink 4", 450.0, NVLINK, 8, 1_979 / 2)
PCIE5 = Link("PCIe 5.0 x16", 64.0, PCIE, 8, 1_979 / 2)
NDR = Link("InfiniBand NDR", 50.0, NETWORK, 1024, 1_979 / 2)  # 400 Gb/s; one GPU in each node, so that every step is on it
LINKS = [NVLINK5, NVLINK4, PCIE5, NDR]

# Measured by measure.py: two processes of Open MPI 4.1 that share the memory of one machine, an Intel Xeon with AVX-512.
MEASURED = {
    "rows": 4096,
    "width": 8192,
    "ranks": 2,
    "scalars": 8.7,
    "activations": 9325.4,
    "partial": 1283.0,
    "split": 4163.0,
    "alone": 3279.5,
}

SCALAR, BF16 = 4, 2  # bytes


def ring_steps(ranks: int) -> int:
    return ranks - 1


def doubling_steps(ranks: int) -> int:
    return round(math.log2(ranks))


def all_gather(link: Link, n: float, ranks: int, steps: Callable[[int], int] = ring_steps) -> float:
    """Either way a rank receives (P - 1) n bytes: by a ring in P - 1 steps, by recursive doubling in log2 P."""
    return min(
        CALL[protocol] + steps(ranks) * link.step[protocol] + (ranks - 1) * n / (link.speed * share * 1e3)
        for protocol, share in PROTOCOLS.items()
    )


def scalars(link: Link, rows: int, ranks: int, steps: Callable[[int], int] = ring_steps, values: int = 1) -> float:
    """One exchange of a norm: RMSNorm has one value for each row, LayerNorm two."""
    return all_gather(link, SCALAR * values * rows, ranks, steps)


def activations(link: Link, rows: int, width: int, ranks: int) -> float:
    """All columns to all ranks; a reduce-scatter takes as long, backwards."""
    return all_gather(link, BF16 * rows * width / ranks, ranks)


def pair(link: Link, rows: int, width: int, ranks: int) -> float:
    """Sequence parallel: reduce-scatter and all-gather of the activations."""
    return 2 * activations(link, rows, width, ranks)


def gemm(link: Link, rows: int, width: int, ranks: int) -> float:
    """The least time of rows times a square matrix of width x width, which the ranks share."""
    return 2 * rows * width * width / ranks / (link.tflops * 1e6)


def hidden_from(link: Link, width: int, ranks: int, steps: Callable[[int], int] = ring_steps) -> int:
    """The fewest rows whose GEMM takes as long as the exchange of one value for each."""
    low, high = 0, 1 << 24
    if scalars(link, high, ranks, steps) > gemm(link, high, width, ranks):
        raise ValueError(f"{link.name} with {ranks} ranks hides no exchange: a row takes longer than its GEMM")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if scalars(link, middle, ranks, steps) <= gemm(link, middle, width, ranks) else (middle, high)
    return high


# ---- dweight of `cols` columns over P processes that have rows of their own


def gathered_gradients(link: Link, cols: int, ranks: int) -> float:
    """All parts to all processes, and one combine_gradients."""
    return all_gather(link, SCALAR * cols, ranks)


def doubled_gradients(link: Link, cols: int, ranks: int) -> float:
    """Processes that are 1, 2, 4, ... apart swap their parts and combine the two: the same tree, level by level."""
    return doubling_steps(ranks) * min(
        CALL[protocol] + link.step[protocol] + SCALAR * cols / (link.speed * share * 1e3) for protocol, share in PROTOCOLS.items()
    )


def all_reduced_gradients(link: Link, cols: int, ranks: int) -> float:
    """A ring's reduce-scatter and all-gather, or up a tree and down again; the bits depend on the number of processes."""
    return min(
        CALL[protocol] + min(steps * link.step[protocol] + sent * SCALAR * cols / (link.speed * share * 1e3) for steps, sent in (
            (2 * (ranks - 1), 2 * (ranks - 1) / ranks), (2 * doubling_steps(ranks), 2)))
        for protocol, share in PROTOCOLS.items()
    )  # fmt: skip
