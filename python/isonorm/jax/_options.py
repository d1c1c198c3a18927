"""What a call is told beside arrays: known when it is traced, and part of what is compiled."""

from __future__ import annotations

from typing import Collection, NamedTuple

import numpy as np

from isonorm import contracts
from isonorm.contracts import Contract

HALF = 1

# Operands and results by the bits that stand for them, in the order of handlers.cc.
FORWARD_OPERANDS = ("x", "weight", "bias", "residual", "gate", "cos", "sin", "positions")
FORWARD_RESULTS = ("y", "residual_out", "mean", "rstd")
BACKWARD_OPERANDS = (
    *("dy", "x", "weight", "bias", "residual", "residual_out", "dresidual", "gate", "cos", "sin", "positions"),
    *("mean", "rstd"),
)  # fmt: skip
BACKWARD_RESULTS = ("dx", "dweight", "dbias", "dgate")
# The same of parallel.cc.
SHARDED_FORWARD_OPERANDS = ("x", "weight", "bias", "residual", "gate", "round", "statistic", "gathered")
SHARDED_FORWARD_RESULTS = ("partial", "round", "statistic", "y", "residual_out", "mean", "rstd")
SHARDED_BACKWARD_OPERANDS = (
    *("dy", "x", "weight", "bias", "residual", "residual_out", "dresidual", "gate", "statistic", "gathered"),
)  # fmt: skip
SHARDED_BACKWARD_RESULTS = ("partial", *BACKWARD_RESULTS)
TABLES = ("cos", "sin", "positions")
VECTORS = frozenset(("weight", "bias", "dweight", "dbias"))
SHARED = VECTORS | {"cos", "sin"}  # by all rows of a call
PER_ROW = frozenset(("mean", "rstd"))


class Options(NamedTuple):
    """The numbers of a norm; contract is the text of one."""

    contract: str
    eps: float
    groups: int = 1
    window: int = 0
    style: int = 0
    position_dim: int = 0
    position_offset: int = 0
    rows_axis: tuple[str, ...] = ()  # of a mesh, over which sums over rows are those of all devices

    @property
    def resolved(self) -> Contract:
        return contracts.from_text(self.contract)


def names(all_names: tuple[str, ...], bits: int) -> list[str]:
    return [name for bit, name in enumerate(all_names) if bits >> bit & 1]


def mask(all_names: tuple[str, ...], wanted: Collection[str]) -> int:
    return sum(1 << bit for bit, name in enumerate(all_names) if name in wanted)


def numbers(
    o: Options, operands: int, results: int, per_item: int = 0, ranks: int = 1, part_rows: int = 0
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Integers and other numbers, as frame.h unpacks them."""
    *choices, weight_offset = o.resolved.numbers
    rotation = (o.style, o.position_dim, o.position_offset)
    integers = (*choices, o.groups, o.window, *rotation, ranks, part_rows, operands, per_item, results)
    return integers, (o.eps, weight_offset)


def attributes(integers: tuple[int, ...], others: tuple[float, ...]) -> dict[str, np.ndarray]:
    return {"integers": np.array(integers, np.int64), "numbers": np.array(others, np.float64)}
