"""Candidates that take turns in one process, so that a slow moment of the machine hits all of them."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import timeit
from collections.abc import Callable
from typing import Any, Optional

WINDOW = 1e-3  # a candidate's turn: as many calls as take this long, or one


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Something that is timed: a statement, which timeit puts into its loop as it stands, and the names in it.

    outputs: the results of the last run, for the comparison with an oracle; of an expression that is its value.
    around: entered before each turn and left after it, outside of the time.
    """

    name: str
    statement: str
    names: dict[str, Any]
    outputs: Optional[Callable[[], tuple[Any, ...]]] = None
    around: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext

    def results(self) -> tuple[Any, ...]:
        with self.around():
            if self.outputs is None:
                value = eval(self.statement, dict(self.names))
                return value if isinstance(value, tuple) else (value,)
            exec(self.statement, dict(self.names))
            return self.outputs()


class Times:
    """Seconds per call of each candidate in each round."""

    def __init__(self, seconds: dict[str, list[float]]) -> None:
        self._seconds = seconds

    def median(self, name: str) -> float:
        return statistics.median(self._seconds[name])

    def ratio(self, name: str, other: str) -> float:
        """How many times as fast as another one: the median over the rounds."""
        return statistics.median(b / a for a, b in zip(self._seconds[name], self._seconds[other]))

    def difference(self, name: str, other: str) -> float:
        """How many seconds more than another one: the median over the rounds."""
        return statistics.median(a - b for a, b in zip(self._seconds[name], self._seconds[other]))

    def names(self) -> list[str]:
        return list(self._seconds)


def race(candidates: list[Candidate], seconds: float, rounds: tuple[int, int]) -> Times:
    """Rounds for about so many seconds, at least rounds[0] and at most rounds[1]. Each begins with another candidate: one that
    runs after a candidate with large outputs finds the caches as that one left them."""
    turns = []
    for candidate in candidates:
        timer = timeit.Timer(candidate.statement, globals=dict(candidate.names))
        with candidate.around():
            timer.timeit(2)
            once = min(timer.repeat(3, 1))
            calls = max(1, round(WINDOW / once))
            if calls > 1:
                calls = max(1, round(WINDOW * calls / timer.timeit(calls)))
        turns.append((candidate, timer, calls, max(once, WINDOW)))
    count = min(max(int(seconds / sum(turn[3] for turn in turns)), rounds[0]), rounds[1])
    times: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    for first in range(count):
        first %= len(turns)
        for candidate, timer, calls, _ in turns[first:] + turns[:first]:
            with candidate.around():
                times[candidate.name].append(timer.timeit(calls) / calls)
    return Times(times)
