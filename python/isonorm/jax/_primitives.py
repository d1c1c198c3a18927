"""The norm and its gradients as primitives of JAX: `forward_p` and `backward_p` call handlers, `linear_p` is the derivative of
the first, whose transpose is the second. So forward mode and reverse mode both work, and each of them under every transform."""

from __future__ import annotations

import functools
import math
from typing import Any, Callable, NamedTuple, Sequence

import jax
import jax.numpy as jnp
from jax._src import dispatch
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from isonorm._arrays import MAX_DIMS
from isonorm.jax import _formula
from isonorm.jax._exchange import alike, combined, counted_once
from isonorm.jax._formula import wide
from isonorm.jax._handler import elsewhere, is_manual, primitive, shaped
from isonorm.jax._options import (
    BACKWARD, BACKWARD_OPERANDS, BACKWARD_RESULTS, FORWARD_RESULTS, SHARED, VECTORS, Options, mask,
)  # fmt: skip
from isonorm.jax._partition import Operation, call, partitioned

MOVABLE = ("x", "weight", "bias", "residual", "gate")  # what has a derivative
# What the derivative is computed from.
KNOWN = ("x", "weight", "bias", "residual", "residual_out", "gate", "cos", "sin", "positions", "mean", "rstd")


linear_p = primitive("isonorm_linear")


def _abstract(*avals: Any, operation: Operation) -> list[Any]:
    rows = avals[0]
    spec = (*rows.sharding.spec[:-1], None)
    return [
        shaped(rows, operation.of_result(name, rows.shape), dtype, operation.of_result(name, spec, ()))
        for name, dtype in zip(operation.result_names, operation.dtypes)
    ]


def _divided(*args: Any, operation: Operation) -> list[Any]:
    return partitioned(operation, tuple(a.ndim for a in args))(*args)


def _whole(*args: Any, operation: Operation) -> list[Any]:
    return call(operation, *args)


_lower_divided, _lower_whole = (mlir.lower_fun(function, multiple_results=True) for function in (_divided, _whole))


def _lower(ctx: Any, *args: Any, operation: Operation) -> Any:
    return (_lower_whole if is_manual(ctx) else _lower_divided)(ctx, *args, operation=operation)


# ------------------------------------------------------------------------------------------------------------------- batches


def _over_items(function: Callable[..., Any], per_item: Sequence[bool]) -> Callable[..., Any]:
    return jax.vmap(function, in_axes=[0 if own else None for own in per_item]) if any(per_item) else function


def _batch(of: Primitive, args: Sequence[Any], dims: Sequence[Any], *, operation: Operation) -> Any:
    """A batch is more rows, unless each of its items has vectors, sums or tables of its own."""
    every, inner = operation.operand_names, operation.item_names
    size = next(a.shape[d] for a, d in zip(args, dims) if d is not None)
    count = [n for i, n in enumerate(args[0].shape) if i != dims[0]][0] if inner else 1
    o = operation.options
    apart = (
        bool(inner)
        or (o.style != 0 and max(a.ndim - (d is not None) for a, d in zip(args, dims)) >= MAX_DIMS)
        or any(name in VECTORS for name in operation.result_names)
        or any(d is not None and name in SHARED for name, d in zip(every, dims))
    )
    moved, items = [], []
    for name, array, dim in zip(every, args, dims):
        if dim is None and name not in inner and (name in SHARED or (apart and name == "positions")):
            moved.append(array)
            continue
        items.append(name)
        array = jnp.broadcast_to(array, (size, *array.shape)) if dim is None else jnp.moveaxis(array, dim, 0)
        if inner:
            if name not in inner:
                array = jnp.broadcast_to(array[:, None], (size, count, *array.shape[1:]))
            array = array.reshape(size * count, *array.shape[2:])
        moved.append(array)
    if apart:
        operation = operation._replace(per_item=mask(operation.kind.operands, items))
    elif o.style and "positions" not in every:
        operation = operation._replace(options=o._replace(position_dim=o.position_dim + 1))
    results = of.bind(*moved, operation=operation)
    if inner:
        results = [r.reshape(size, count, *r.shape[1:]) for r in results]
    return results, [0] * len(results)


def of_rows(name: str) -> Primitive:
    """A primitive whose parameter is an Operation."""
    made = primitive(name)
    made.def_abstract_eval(_abstract)
    mlir.register_lowering(made, elsewhere)
    mlir.register_lowering(made, _lower, platform="cpu")
    dispatch.prim_requires_devices_during_lowering.add(made)  # which custom_partitioning looks at
    batching.primitive_batchers[made] = functools.partial(_batch, made)
    return made


forward_p, backward_p = of_rows("isonorm_forward"), of_rows("isonorm_backward")


# --------------------------------------------------------------------------------------------------------------- derivatives


def _forward_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, operation: Operation) -> Any:
    o = operation.options
    if o.quantized.kind:
        dtype = operation.dtypes[0]
        raise ValueError(f"quantize gives {dtype}, which has no gradient: call it with jax.lax.stop_gradient of its arrays")
    x = primals[0]
    # What gradients are computed from, beside what was asked for.
    more = {"rstd", "mean"} if o.resolved.statistic == "layer" else {"rstd"}
    results = mask(FORWARD_RESULTS, {*operation.result_names, *more})
    dtypes = dict(zip(operation.result_names, operation.dtypes))
    full = operation._replace(results=results)
    full = full._replace(dtypes=tuple(dtypes.get(name, jnp.dtype(wide(x.dtype))) for name in full.result_names))
    sum_is_all = "residual" in operation.operand_names and o.resolved.sum_rounding == "stored"  # that gradients need
    if not sum_is_all:  # they need x, which would have to be copied
        full = full._replace(options=o._replace(overwrite=False))
    found = dict(zip(full.result_names, forward_p.bind(*primals, operation=full)))
    values = dict(zip(operation.operand_names, primals))
    moved = {n: t for n, t in zip(operation.operand_names, tangents) if n in MOVABLE and not isinstance(t, ad.Zero)}
    outputs = [found[name] for name in operation.result_names]
    changes: list[Any] = [ad.Zero(jax.typeof(output).to_tangent_aval()) for output in outputs]
    if moved:
        known = {**values, "mean": found.get("mean"), "rstd": found["rstd"]}
        if sum_is_all:
            del known["x"], known["residual"]
            known["residual_out"] = found["residual_out"]
        if o.resolved.gate_place != "after":
            known.pop("bias", None)
        kept = [name for name in KNOWN if known.get(name) is not None]
        items = set(operation.item_names)
        if items:  # results have them, too
            items |= {"residual_out", "mean", "rstd"}
        linear = Linear(
            o, tuple(moved), tuple(kept), tuple(n in items for n in moved), tuple(n in items for n in kept),
            x.dtype, dtypes["y"], dtypes.get("residual_out"),
        )  # fmt: skip
        derivative = linear_p.bind(*moved.values(), *(known[name] for name in kept), linear=linear)
        for name, change in zip(("y", "residual_out"), derivative):
            changes[operation.result_names.index(name)] = change
    return outputs, changes


ad.primitive_jvps[forward_p] = _forward_jvp


class Linear(NamedTuple):
    """The derivative of a call of `forward_p`: which operands move, what it is computed from, which of both have items, and the
    types of x and of its results."""

    options: Options
    moved: tuple[str, ...]
    known: tuple[str, ...]
    moved_items: tuple[bool, ...]
    known_items: tuple[bool, ...]
    x: Any
    y: Any
    residual_out: Any


def _differential(*args: Any, linear: Linear) -> list[Any]:
    """By the formula: how y, and residual_out if there is one, move."""

    def one(*args: Any) -> list[Any]:
        args = tuple(alike(dict(enumerate(args))).values())
        tangents = dict(zip(linear.moved, args))
        known = dict(zip(linear.known, args[len(linear.moved) :]))
        v = _row(known)
        tables = known.get("cos"), known.get("sin"), known.get("positions")
        moved = {}
        if "x" in tangents or "residual" in tangents:
            moved["v"] = sum(tangents[name].astype(v.dtype) for name in ("x", "residual") if name in tangents)
        moved |= {name: tangents[name] for name in ("weight", "bias", "gate") if name in tangents}
        fixed = {"v": v, **{name: known.get(name) for name in ("weight", "bias", "gate")}}
        if "bias" in moved and fixed["bias"] is None:
            fixed["bias"] = jnp.zeros_like(moved["bias"])  # which the derivative does not depend on

        def y_of(changing: dict[str, Any]) -> Any:
            own = {**fixed, **changing}
            contract = linear.options.resolved
            return _formula.forward(own["v"], own["weight"], own["bias"], own["gate"], tables, contract, linear.options)

        _, y = jax.jvp(y_of, ({name: fixed[name] for name in moved},), (moved,))
        if linear.residual_out is None:
            return [y.astype(linear.y)]
        return [y.astype(linear.y), moved.get("v", jnp.zeros_like(v)).astype(linear.residual_out)]

    return _over_items(one, (*linear.moved_items, *linear.known_items))(*args)


def _row(values: dict[str, Any]) -> Any:
    if "residual_out" in values:
        return _formula.add(values["residual_out"], None)
    return _formula.add(values["x"], values.get("residual"))


def _differential_aval(*avals: Any, linear: Linear) -> list[Any]:
    index = len(linear.moved) + next(i for i, n in enumerate(linear.known) if n in ("x", "residual_out"))
    like = avals[index]
    return [
        shaped(like, like.shape, dtype, like.sharding.spec) for dtype in (linear.y, linear.residual_out) if dtype is not None
    ]


def _transpose(cotangents: Sequence[Any], *args: Any, linear: Linear) -> list[Any]:
    """The gradients, by the kernel."""
    count = len(linear.moved)
    wanted = {name: a.aval for name, a in zip(linear.moved, args) if ad.is_undefined_primal(a)}
    known = dict(zip(linear.known, args[count:]))
    dy = cotangents[0]
    dresidual: Any = cotangents[1] if len(cotangents) > 1 else None
    if isinstance(dresidual, ad.Zero):
        dresidual = None
    gradients: dict[str, Any] = {}
    if isinstance(dy, ad.Zero):  # only residual_out went on
        if dresidual is not None:
            gradients = {name: dresidual.astype(wanted[name].dtype) for name in ("x", "residual") if name in wanted}
    else:
        values = {**known, "dy": dy}
        if dresidual is not None and ("x" in wanted or "residual" in wanted):
            values["dresidual"] = dresidual
        types = {"d" + name: aval.dtype for name, aval in wanted.items()}
        if "dx" in types or "dresidual" in types:
            types["dx"] = linear.x  # of which residual has the gradient, too
        elif "x" not in known:
            values["x"] = known["residual_out"].astype(linear.x)  # whose type counts, and no value
        axes = linear.options.rows_axis
        for name, own in zip(linear.moved, linear.moved_items):  # what is added up is rounded once
            if "d" + name in types and name in ("weight", "bias") and (axes or (not own and any(linear.known_items))):
                types["d" + name] = jnp.dtype(wide(linear.x))
        results = [name for name in BACKWARD_RESULTS if name in types]
        items = {n for n, own in zip(linear.known, linear.known_items) if own}
        if items:
            items |= {"dy", "dresidual", "x"} & values.keys()
        operation = Operation(
            BACKWARD,
            linear.options,
            mask(BACKWARD_OPERANDS, values),
            mask(BACKWARD_OPERANDS, items),
            mask(BACKWARD_RESULTS, results),
            tuple(types[name] for name in results),
        )
        found = dict(zip(results, backward_p.bind(*(values[n] for n in operation.operand_names), operation=operation)))
        for name, of in (("x", "dx"), ("residual", "dx"), ("weight", "dweight"), ("bias", "dbias"), ("gate", "dgate")):
            if name in wanted:
                gradient, dtype = found[of], wanted[name].dtype
                together = gradient.ndim > len(wanted[name].shape)  # the sum of all items
                if axes and of in VECTORS:
                    rows = math.prod(dy.shape[bool(items) : -1])
                    gradient = combined(gradient, rows, axes, gradient.dtype if together else dtype)
                gradient = (gradient.sum(0) if together else gradient).astype(dtype)
                gradients[name] = counted_once(gradient, wanted[name], axes) if axes and of in VECTORS else gradient
    return [gradients.get(n, ad.Zero(wanted[n])) if n in wanted else None for n in linear.moved] + [None] * len(known)


def _linear_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, linear: Linear) -> Any:
    if all(isinstance(t, ad.Zero) for t in tangents[len(linear.moved) :]):
        outputs = linear_p.bind(*primals, linear=linear)
        moved = [ad.instantiate_zeros(t) for t in tangents[: len(linear.moved)]]
        return outputs, linear_p.bind(*moved, *primals[len(linear.moved) :], linear=linear)
    return by_formula(functools.partial(_differential, linear=linear), linear_p, primals, tangents, linear=linear)


def by_formula(formula: Callable[..., Any], of: Primitive, primals: Any, tangents: Any, **params: Any) -> Any:
    """What a primitive gives, and how that moves by the formula for the same."""
    outputs = of.bind(*primals, **params)
    moving = [i for i, t in enumerate(tangents) if not isinstance(t, ad.Zero)]

    def of_moving(*own: Any) -> Any:
        whole = list(primals)
        for i, value in zip(moving, own):
            whole[i] = value
        return formula(*whole)

    _, changes = jax.jvp(of_moving, tuple(primals[i] for i in moving), tuple(tangents[i] for i in moving))
    return outputs, changes


def _linear_batch(args: Sequence[Any], dims: Sequence[Any], *, linear: Linear) -> Any:
    results = jax.vmap(functools.partial(_differential, linear=linear), in_axes=tuple(dims))(*args)
    return results, [0] * len(results)


linear_p.def_abstract_eval(_differential_aval)
mlir.register_lowering(linear_p, mlir.lower_fun(_differential, multiple_results=True))
ad.primitive_jvps[linear_p] = _linear_jvp
ad.primitive_transposes[linear_p] = _transpose
batching.primitive_batchers[linear_p] = _linear_batch


def _gradients(*args: Any, operation: Operation) -> list[Any]:
    """What `backward_p` gives, by the formula."""
    every = operation.operand_names

    def one(*args: Any) -> list[Any]:
        values = alike(dict(zip(every, args)))
        v = _row(values)
        tables = values.get("cos"), values.get("sin"), values.get("positions")
        own: dict[str, Any] = {"v": v, **{name: values[name] for name in ("weight", "bias", "gate") if name in values}}
        if "dbias" in operation.result_names and "bias" not in own:
            own["bias"] = jnp.zeros(v.shape[-1], v.dtype)

        def y_of(own: dict[str, Any]) -> Any:
            contract = operation.options.resolved
            return _formula.forward(
                own["v"], own.get("weight"), own.get("bias"), own.get("gate"), tables, contract, operation.options
            )

        _, pull = jax.vjp(y_of, own)
        (found,) = pull(values["dy"].astype(v.dtype))
        if "dresidual" in values:
            found["v"] = found["v"] + values["dresidual"].astype(v.dtype)
        found["x"] = found["v"]
        return [found[name[1:]].astype(dtype) for name, dtype in zip(operation.result_names, operation.dtypes)]

    return _over_items(one, [name in operation.item_names for name in every])(*args)


def _backward_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, operation: Operation) -> Any:
    # The statistics are those of the row, whose own change the formula sees.
    tangents = [
        ad.Zero(jax.typeof(p).to_tangent_aval()) if name in ("mean", "rstd") else t
        for name, p, t in zip(operation.operand_names, primals, tangents)
    ]
    return by_formula(functools.partial(_gradients, operation=operation), backward_p, primals, tangents, operation=operation)


ad.primitive_jvps[backward_p] = _backward_jvp
