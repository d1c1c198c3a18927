"""Rows of the table: who races, what is compared, and the goal."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, Optional

import ml_dtypes
import numpy as np
import oracle
import torch
from race import Candidate, Times, race

import isonorm

EPS = 1e-6
TIMES, MORE = "times as fast", "microseconds more"  # goals: at least, at most
NUMPY = {"f32": np.dtype(np.float32), "bf16": np.dtype(ml_dtypes.bfloat16)}
TORCH = {"f32": torch.float32, "bf16": torch.bfloat16}
ROW, SOME, SQUARES, MANY, NARROW, LARGE = (1, 4096), (8, 4096), (128, 128), (512, 4096), (16384, 512), (4096, 4096)
SHAPES = (ROW, SOME, SQUARES, MANY, NARROW, LARGE)
# Two threads: where they compute, and one row, which they must not slow down.
CASES = [(1, shape, dtype) for shape in SHAPES for dtype in NUMPY]
CASES += [(2, shape, dtype) for shape in (ROW, MANY, LARGE) for dtype in NUMPY]


@dataclasses.dataclass(frozen=True)
class Against:
    """The first candidate beside another one, and the goal, if there is one.

    where: of a goal in microseconds from another machine: a candidate, and the microseconds that it took there."""

    name: str
    goal: Optional[float] = None
    unit: str = TIMES
    where: Optional[tuple[str, float]] = None

    def verdict(self, times: Times, first: str) -> dict[str, Any]:
        more = self.unit == MORE
        value = times.difference(first, self.name) * 1e6 if more else times.ratio(first, self.name)
        goal = self.goal
        if goal is not None and self.where is not None:
            candidate, there = self.where
            goal *= times.median(candidate) * 1e6 / there
        met = None if goal is None else value <= goal if more else value >= goal
        return {"name": self.name, "unit": self.unit, "value": value, "goal": goal, "met": met}


@dataclasses.dataclass(frozen=True)
class Data:
    """Arrays for a row, random with a mean square of about 1. The rows of x, and of dy, repeat after a million values."""

    x: np.ndarray
    dy: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    @staticmethod
    def random(shape: tuple[int, int], dtype: str) -> Data:
        generator = np.random.default_rng(0)
        rows, cols = shape
        block = min(rows, max(1, 2**20 // cols))
        x, dy = (np.resize(generator.standard_normal((block, cols), np.float32), shape).astype(NUMPY[dtype]) for _ in "xy")
        weight, bias = (generator.standard_normal(cols, np.float32).astype(NUMPY[dtype]) for _ in "wb")
        return Data(x, dy, weight, bias)


@dataclasses.dataclass(frozen=True)
class Row:
    """make: the candidates, for a shape; the first one is isonorm's, and `against` compares it with others.

    exact: what the outputs should be, of the data of that shape; None: the outputs have no formula.
    around: entered for the whole race.
    """

    name: str
    threads: int
    shape: tuple[int, int]
    dtype: str
    make: Callable[[Data, bool], list[Candidate]]
    against: tuple[Against, ...]
    exact: Optional[Callable[[Data], tuple[oracle.Exact, ...]]] = None
    around: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext

    @property
    def title(self) -> str:
        return f"{self.name}.{self.shape[0]}x{self.shape[1]}.{self.dtype}.threads{self.threads}"

    def run(self, quick: bool) -> dict[str, Any]:
        """Times, comparisons and verdicts. `quick` takes a small shape and one short round, and looks at what comes out.

        Raises ValueError if a candidate's outputs are not those of the formula."""
        torch.set_num_threads(self.threads)
        isonorm.set_num_threads(self.threads)
        data = Data.random((min(self.shape[0], 8), min(self.shape[1], 128)) if quick else self.shape, self.dtype)
        with self.around():
            candidates = self.make(data, quick)
            if quick and self.exact is not None:
                exact = self.exact(data)
                for candidate in candidates:
                    fault = oracle.disagreement(candidate.results(), exact, self.dtype)
                    if fault is not None:
                        raise ValueError(f"{self.title}: {candidate.name} {fault}")
            times = race(candidates, 0, (1, 1)) if quick else race(candidates, 1.0, (5, 51))
        first, *others = times.names()
        verdicts = [against.verdict(times, first) for against in self.against if against.name in others]
        return {
            "row": self.title,
            "threads": self.threads,
            "of": first,
            "seconds": {name: times.median(name) for name in times.names()},
            "against": verdicts,
        }
