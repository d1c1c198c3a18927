"""What a call is told beside arrays: known when it is traced, and part of what is compiled."""

from __future__ import annotations

from typing import Collection, NamedTuple

import numpy as np

from isonorm import contracts
from isonorm.contracts import Contract

HALF = 1

# Operands and results by the bits that stand for them, in the order of the handlers.
FORWARD_OPERANDS = ("x", "weight", "bias", "residual", "gate", "cos", "sin", "positions")
FORWARD_RESULTS = ("y", "residual_out", "scale", "mean", "rstd")
BACKWARD_OPERANDS = (
    *("dy", "x", "weight", "bias", "residual", "residual_out", "dresidual", "gate", "cos", "sin", "positions"),
    *("mean", "rstd"),
)  # fmt: skip
BACKWARD_RESULTS = ("dx", "dweight", "dbias", "dgate")
TABLES = ("cos", "sin", "positions")
VECTORS = frozenset(("weight", "bias", "dweight", "dbias"))
SHARED = VECTORS | {"cos", "sin"}  # by all rows of a call
PER_ROW = frozenset(("mean", "rstd", "rms", "drms", "penalty"))


class Kind(NamedTuple):
    """A handler, and the operands and results that it knows."""

    target: str
    operands: tuple[str, ...]
    results: tuple[str, ...]


FORWARD = Kind("isonorm_jax_forward", FORWARD_OPERANDS, FORWARD_RESULTS)
BACKWARD = Kind("isonorm_jax_backward", BACKWARD_OPERANDS, BACKWARD_RESULTS)
RMS = Kind("isonorm_jax_rms", ("x",), ("rms",))
RMS_BACKWARD = Kind("isonorm_jax_rms_backward", ("x", "drms"), ("dx",))
RMS_PENALTY = Kind("isonorm_jax_rms_penalty", ("x",), ("penalty", "dx"))
SHARDED_FORWARD = Kind(
    "isonorm_jax_sharded_forward",
    ("x", "weight", "bias", "residual", "gate", "round", "statistic", "gathered"),
    ("partial", "round", "statistic", "y", "residual_out", "mean", "rstd"),
)
SHARDED_BACKWARD = Kind(
    "isonorm_jax_sharded_backward",
    ("dy", "x", "weight", "bias", "residual", "residual_out", "dresidual", "gate", "statistic", "gathered"),
    ("partial", *BACKWARD_RESULTS),
)
COMBINE = Kind("isonorm_jax_combine_gradients", ("parts",), ("gradient",))
KINDS = (FORWARD, BACKWARD, RMS, RMS_BACKWARD, RMS_PENALTY, SHARDED_FORWARD, SHARDED_BACKWARD, COMBINE)


class Quantized(NamedTuple):
    """An isonorm.Quantization as handlers are told."""

    kind: int = 0
    rounded_to: int = 0
    group_cols: int = 0
    min_scale: float = 0.0
    scale_ub: float = 0.0
    scale: float = 0.0


class Options(NamedTuple):
    """The numbers of a norm; contract is the text of one."""

    contract: str
    eps: float
    groups: int = 1
    window: int = 0
    style: int = 0
    position_dim: int = 0
    position_offset: int = 0
    quantized: Quantized = Quantized()
    lambda_: float = 0.0
    rows_axis: tuple[str, ...] = ()  # of a mesh, over which sums over rows are those of all devices
    overwrite: bool = False  # whether results lie over operands, as `_partition.OVER` has it

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
    integers = (*choices, o.groups, o.window, *rotation, ranks, part_rows, *o.quantized[:3], operands, per_item, results)
    return integers, (o.eps, weight_offset, *o.quantized[3:], o.lambda_)


def attributes(integers: tuple[int, ...], others: tuple[float, ...]) -> dict[str, np.ndarray]:
    return {"integers": np.array(integers, np.int64), "numbers": np.array(others, np.float64)}
