"""What several processes compute together: rows whose columns are spread over ranks, and gradients of rows computed apart.

Nothing here communicates: these functions compute what is sent, and use what was received. docs/parallel.md has the protocol;
the results have the bits of one call on everything. `Forward` is one rank's share of a call::

    call = isonorm.parallel.Forward(x, weight, eps=1e-6, ranks=2)
    while call.round is not None:
        call.finish(all_gather(call.partial()))   # [ranks, rows, values] in rank order
    y = call.y
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from isonorm import _native
from isonorm._arrays import check_array, compute_dtype, empty, flag, parameter, result, result_dtype, thread_count
from isonorm.contracts import ContractLike, packed, resolve


def max_ranks(cols: int) -> int:
    """The most ranks among which rows of so many columns can be split; every smaller power of two will do too.

    >>> import isonorm
    >>> isonorm.parallel.max_ranks(4096)
    8
    """
    return _native.max_ranks(cols)


class Forward:
    """The forward pass of the columns that this rank holds.

    x, weight, bias, residual: this rank's columns, [..., cols / ranks] and [cols / ranks]. ranks: how many share each row, 1,
    2, 4, ... `max_ranks(cols)`. Repeat `partial`, an all-gather of what it returned, and `finish` until `round` is None: once
    for RMS, twice for LayerNorm, and two or three times more where squares of some row overflow or vanish. All ranks leave in
    the same turn.

        >>> import numpy as np, isonorm
        >>> x = np.arange(512, dtype=np.float32).reshape(2, 256)
        >>> calls = [isonorm.parallel.Forward(part, eps=1e-6, ranks=2) for part in np.split(x, 2, axis=1)]
        >>> gathered = np.stack([call.partial() for call in calls])  # what an all-gather gives each rank
        >>> for call in calls:
        ...     call.finish(gathered)
        >>> y = np.concatenate([call.y for call in calls], axis=1)
        >>> np.array_equal(y, isonorm.rms_norm(x, eps=1e-6))
        True

    Raises as `isonorm.rms_norm` does; RuntimeError for a turn after the last.
    """

    def __init__(
        self,
        x: np.ndarray,
        weight: Optional[np.ndarray] = None,
        bias: Optional[np.ndarray] = None,
        *,
        eps: float,
        ranks: int,
        contract: ContractLike = "torch",
        residual: Optional[np.ndarray] = None,
        gate: Optional[np.ndarray] = None,
        threads: Optional[int] = None,
    ) -> None:
        check_array(x, "x")
        layer = resolve(contract).statistic == "layer"
        compute, lead = compute_dtype(x), x.shape[:-1]
        rows = int(np.prod(lead, dtype=np.int64))
        self.y = empty(x.shape, x.dtype)
        self.residual_out = None if residual is None else empty(x.shape, check_array(residual, "residual").dtype)
        self.mean = np.empty(lead, compute) if layer else None
        self.rstd = np.empty(lead, compute)
        self.statistic = np.empty((rows, 4), compute)
        self.round: Optional[int] = 0
        self._partial = np.empty((rows, 2 if layer else 1), compute)
        self._ranks = ranks
        self._call = (packed(contract), eps, thread_count(threads))
        self._link = (
            *(x, parameter(weight, "weight", x), parameter(bias, "bias", x), residual, gate, None, None, None),
            *(self.y, self.residual_out, self.mean, self.rstd, 1, 0),
        )

    def _shard(self, gathered: Optional[np.ndarray]) -> tuple[Any, ...]:
        return (self._ranks, self._partial, gathered, self.statistic)

    def partial(self) -> np.ndarray:
        """What this rank sends: [rows, 1], with LayerNorm [rows, 2], in the compute type. The next call overwrites it."""
        if self.round is None:
            raise RuntimeError("the call is finished: nothing is left to send")
        _native.forward_partial(*self._call, self._link, self._shard(None), self.round)
        return self._partial

    def finish(self, gathered: np.ndarray) -> None:
        """Takes what all ranks sent, [ranks, rows, values] in rank order. When round is then None, y, residual_out, mean and
        rstd are written, and `statistic` is what `Backward` needs."""
        if self.round is None:
            raise RuntimeError("the call is finished: nothing more is expected")
        self.round = _native.forward_finish(*self._call, self._link, self._shard(gathered), self.round) or None


class Backward:
    """The gradients of the columns that this rank holds: `partial`, an all-gather of what it returned, and `finish`.

        >>> import numpy as np, isonorm
        >>> x = np.arange(1, 257, dtype=np.float32).reshape(2, 128)
        >>> call = isonorm.parallel.Forward(x, eps=1e-6, ranks=1)
        >>> call.finish(call.partial()[None])
        >>> back = isonorm.parallel.Backward(x, x, eps=1e-6, ranks=1, statistic=call.statistic)
        >>> np.array_equal(back.finish(back.partial()[None]), isonorm.rms_norm_backward(x, x, eps=1e-6))
        True

    statistic: [rows, 4], as the `Forward` of the same rank left it. The other arguments and errors: as of
        `isonorm.rms_norm_backward`, of this rank's columns.
    """

    def __init__(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        weight: Optional[np.ndarray] = None,
        bias: Optional[np.ndarray] = None,
        *,
        eps: float,
        ranks: int,
        statistic: np.ndarray,
        contract: ContractLike = "torch",
        residual: Optional[np.ndarray] = None,
        dresidual: Optional[np.ndarray] = None,
        gate: Optional[np.ndarray] = None,
        threads: Optional[int] = None,
    ) -> None:
        check_array(x, "x")
        check_array(statistic, "statistic")
        weight, bias = parameter(weight, "weight", x), parameter(bias, "bias", x)
        self._gradients = {"dx": empty(x.shape, x.dtype)}
        if weight is not None:
            self._gradients["dweight"] = np.empty(weight.shape, weight.dtype)
        if bias is not None:
            self._gradients["dbias"] = np.empty(bias.shape, bias.dtype)
        if gate is not None:
            self._gradients["dgate"] = empty(x.shape, check_array(gate, "gate").dtype)
        rows = int(np.prod(x.shape[:-1], dtype=np.int64))
        self._partial = np.empty((rows, 2 if resolve(contract).statistic == "layer" else 1), compute_dtype(x))
        self._ranks, self._statistic = ranks, statistic
        self._call = (packed(contract), eps, thread_count(threads))
        outputs = (self._gradients.get(name) for name in ("dx", "dweight", "dbias", "dgate"))
        self._link = (dy, x, weight, bias, residual, None, gate, None, None, None, dresidual, *outputs, 1, 0, 0)

    def partial(self) -> np.ndarray:
        """What this rank sends: [rows, 1], with LayerNorm [rows, 2], in the compute type."""
        _native.backward_partial(*self._call, self._link, (self._ranks, self._partial, None, self._statistic))
        return self._partial

    def finish(self, gathered: np.ndarray) -> Any:
        """Takes what all ranks sent, [ranks, rows, values]. Returns dx, or a named tuple of dx, dweight, dbias, dgate: those
        there are. dweight and dbias are whole: those of this rank's columns need nothing from other ranks."""
        _native.backward_finish(*self._call, self._link, (self._ranks, self._partial, gathered, self._statistic))
        return result("Gradients", self._gradients)


def combine_gradients(
    parts: np.ndarray,
    *,
    rows: int,
    part_rows: int,
    out: Optional[np.ndarray] = None,
    dtype: Any = None,
    accumulate: bool = False,
    threads: Optional[int] = None,
) -> np.ndarray:
    """Makes of dweight (or dbias) of runs of rows, computed apart, what one call over all rows would have given.

        >>> import numpy as np, isonorm
        >>> x = np.arange(1, 257, dtype=np.float32).reshape(64, 4)
        >>> weight, call = np.ones(4, np.float32), {"eps": 1e-6, "needs": "dweight"}
        >>> parts = [isonorm.rms_norm_backward(rows, rows, weight, **call) for rows in (x[:32], x[32:])]
        >>> whole = isonorm.rms_norm_backward(x, x, weight, **call)
        >>> np.array_equal(isonorm.parallel.combine_gradients(np.stack(parts), rows=64, part_rows=32), whole)
        True

    parts: [parts, cols] in row order, unrounded: float32, or float64 where the data are. rows: behind all parts together;
        part_rows: behind each but the last, 32 * 2^k.
    out: [cols], with accumulate added to. dtype: of a fresh result; None: that of parts.
    Raises ValueError for numbers of rows that do not go together and for accumulate without out, TypeError for types.
    """
    check_array(parts, "parts")
    accumulate = flag(accumulate, "accumulate")
    if accumulate and out is None:
        raise ValueError("accumulate is True, but there is no out to add to")
    if out is None:
        out = np.empty(parts.shape[1:], parts.dtype if dtype is None else result_dtype(dtype))
    _native.combine_gradients(parts, out, rows, part_rows, accumulate, thread_count(threads))
    return out
