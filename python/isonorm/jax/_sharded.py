"""The norm of rows whose columns lie on several devices, and its gradients: what a device sends, an all-gather, and what comes of
it, as docs/parallel.md has it."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isonorm.jax._exchange import Axes, alike, combined, counted_once, devices, gather
from isonorm.jax._formula import wide
from isonorm.jax._handler import Handler, handler_p
from isonorm.jax._options import SHARDED_BACKWARD, SHARDED_FORWARD, VECTORS, Kind, Options, mask, numbers

Arrays = dict[str, Any]


class Sharded(NamedTuple):
    """A call but for its arrays. dtype: of y; results: those there are."""

    options: Options
    columns_axis: Axes
    dtype: Any
    results: tuple[str, ...]

    @property
    def centres(self) -> bool:
        return self.options.resolved.statistic == "layer"

    def gathered(self, partial: Any) -> Any:
        return gather(partial, self.columns_axis)


def _run(call: Sharded, kind: Kind, arrays: Arrays, results: dict[str, tuple[tuple[int, ...], Any]]) -> Arrays:
    """A handler, for arrays and results by name."""
    ranks = devices(call.columns_axis)
    told = numbers(call.options, mask(kind.operands, arrays), mask(kind.results, results), ranks=ranks)
    names = [name for name in kind.results if name in results]
    shapes, dtypes = tuple(results[n][0] for n in names), tuple(np.dtype(results[n][1]) for n in names)
    operands = [arrays[name] for name in kind.operands if name in arrays]
    return dict(zip(names, handler_p.bind(*operands, handler=Handler(kind.target, *told, shapes, dtypes))))


def _partial(call: Sharded, kind: Kind, arrays: Arrays) -> Any:
    rows, compute = len(arrays["statistic"]), arrays["statistic"].dtype
    sent: dict[str, Any] = {"partial": ((rows, 2 if call.centres else 1), compute)}
    return call.gathered(_run(call, kind, arrays, sent)["partial"])


def _forward(given: Arrays, call: Sharded) -> Arrays:
    x = given["x"]
    lead, compute = x.shape[:-1], wide(x.dtype)
    statistic = ((math.prod(lead), 4), compute)
    results = {"round": ((), np.int32), "statistic": statistic, "y": (x.shape, call.dtype)}
    if "residual" in given:
        results["residual_out"] = (x.shape, given["residual"].dtype)
    results |= {name: (lead, compute) for name in ("mean", "rstd") if name in call.results}

    def turn(state: Arrays) -> Arrays:
        arrays = given | {name: state[name] for name in ("round", "statistic")}
        return _run(call, SHARDED_FORWARD, arrays | {"gathered": _partial(call, SHARDED_FORWARD, arrays)}, results)

    start = alike({"x": x, "round": jnp.zeros((), jnp.int32), "statistic": jnp.zeros(*statistic)})
    state = turn(start)
    if call.centres:  # whose second turn always comes
        state = turn(state)
    return jax.lax.while_loop(lambda state: state["round"] != 0, turn, state)  # type: ignore[no-any-return]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def norm(given: Arrays, call: Sharded) -> Arrays:
    """The results of a call, by name. given: all of them varying over the axes of the call."""
    found = _forward(given, call)
    return {name: found[name] for name in call.results}


def _norm_forward(given: Arrays, call: Sharded) -> Any:
    values = {name: primal.value for name, primal in given.items()}
    found = _forward(values, call)
    saved = values | {"statistic": found["statistic"]}
    if "residual" in values and call.options.resolved.sum_rounding == "stored":  # the sum is all that gradients need
        saved["residual_out"] = found["residual_out"]
        # Of x its type counts, and no value.
        saved["x"] = saved["residual_out"].astype(values["x"].dtype)
        del saved["residual"]
    # The type of each array, and whether its gradient is wanted, as empty arrays: JAX keeps what is traced for each set of those,
    # but one tree of what is saved for all of them, and would hand that of one call to the backward pass of another.
    notes = {name: jnp.zeros((0, int(given[name].perturbed)), value.dtype) for name, value in values.items()}
    return {name: found[name] for name in call.results}, (saved, notes)


def _norm_backward(call: Sharded, kept: Any, cotangents: Arrays) -> Any:
    saved, notes = kept
    dtypes = {name: empty.dtype for name, empty in notes.items()}
    wanted = [name for name, empty in notes.items() if empty.shape[1]]
    moved = {name: None if isinstance(c, jax.custom_derivatives.SymbolicZero) else c for name, c in cotangents.items()}
    dy, dresidual = moved["y"], moved.get("residual_out")
    # Zeros of what nobody wants, which nobody sees: before jax 0.9 a backward pass has to give gradients of all arrays.
    gradients: Arrays = {n: jnp.zeros_like(saved.get(n, saved["x"]), dtype) for n, dtype in dtypes.items()}
    if dy is None:  # only residual_out went on
        if dresidual is not None:
            gradients |= {name: dresidual.astype(dtypes[name]) for name in ("x", "residual") if name in wanted}
        return (gradients,)
    arrays = saved | {"dy": dy}
    shapes = {}
    if "x" in wanted or "residual" in wanted:
        shapes["dx"] = (dy.shape, dtypes["x"])
        if dresidual is not None:
            arrays["dresidual"] = dresidual
    axes, compute = call.options.rows_axis, saved["statistic"].dtype
    for name in ("weight", "bias", "gate"):
        if name in wanted:
            shapes["d" + name] = (saved[name].shape, compute if axes and name in VECTORS else dtypes[name])
    if "dx" in shapes or "dgate" in shapes:
        arrays["gathered"] = _partial(call, SHARDED_BACKWARD, arrays)
    found = _run(call, SHARDED_BACKWARD, arrays, shapes)
    for name in ("weight", "bias"):
        if axes and name in wanted:
            whole = combined(found["d" + name], len(saved["statistic"]), axes, dtypes[name])
            found["d" + name] = counted_once(whole, saved[name], axes)
    if "residual" in wanted:
        gradients["residual"] = found["dx"].astype(dtypes["residual"])
    gradients |= {name: found["d" + name] for name in wanted if name != "residual"}
    return (gradients,)


norm.defvjp(_norm_forward, _norm_backward, symbolic_zeros=True)
