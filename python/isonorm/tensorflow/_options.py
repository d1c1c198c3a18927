"""What a call is told beside tensors: a text that is an attribute of its operation, and lies in SavedModels."""

from __future__ import annotations

import functools
from typing import NamedTuple

from isonorm import contracts
from isonorm.contracts import Contract

HALF = 1

# Operands after the first and results by the bits that stand for them, in the order of kernels.cc.
FORWARD_OPERANDS = ("weight", "bias", "residual", "gate", "cos", "sin", "positions")
STATISTICS = ("mean", "rstd")
BACKWARD_OPERANDS = ("x", "weight", "bias", "residual", "residual_out", "dresidual", "gate", "cos", "sin", "positions")
GRADIENTS = ("dweight", "dbias", "dgate")


class Options(NamedTuple):
    """contract is the text of one; operands and results are the names of those there are."""

    contract: str
    eps: float
    groups: int = 1
    window: int = 0
    style: int = 0
    position_dim: int = 0
    position_offset: int = 0
    operands: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    @property
    def resolved(self) -> Contract:
        return contracts.from_text(self.contract)


def _bits(names: tuple[str, ...], there: tuple[str, ...]) -> int:
    return sum(1 << bit for bit, name in enumerate(names) if name in there)


def _names(names: tuple[str, ...], bits: int) -> tuple[str, ...]:
    return tuple(name for bit, name in enumerate(names) if bits >> bit & 1)


def _text(o: Options, operands: tuple[str, ...], results: tuple[str, ...]) -> str:
    """Numbers in the order in which call.cc reads them."""
    numbers = (o.eps, *o.resolved.numbers, *o[2:7], _bits(operands, o.operands), _bits(results, o.results))
    return ",".join(map(repr, numbers))


def forward_text(o: Options) -> str:
    return _text(o, FORWARD_OPERANDS, STATISTICS)


@functools.lru_cache(maxsize=4096)
def backward_text(o: Options) -> str:
    return _text(o, BACKWARD_OPERANDS, GRADIENTS)


def _read(text: bytes, operands: tuple[str, ...], results: tuple[str, ...]) -> Options:
    eps, *fields = text.decode().split(",")
    contract, (groups, window, style, dim, offset, given, wanted) = ",".join(fields[:8]), map(int, fields[8:])
    names = _names(operands, given), _names(results, wanted)
    return Options(contract, float(eps), groups, window, style, dim, offset, *names)


@functools.lru_cache(maxsize=4096)
def forward_options(text: bytes) -> Options:
    return _read(text, FORWARD_OPERANDS, STATISTICS)


@functools.lru_cache(maxsize=4096)
def backward_options(text: bytes) -> Options:
    return _read(text, BACKWARD_OPERANDS, GRADIENTS)
