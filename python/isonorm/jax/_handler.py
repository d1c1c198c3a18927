"""Primitives of JAX that call a handler: how they are run, where they may be, and one for handlers that know no more than shapes."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from isonorm.jax._options import attributes


def primitive(name: str) -> Primitive:
    made = Primitive(name)
    made.multiple_results = True

    @functools.lru_cache(maxsize=None)
    def compiled(**params: Any) -> Any:
        return jax.jit(functools.partial(made.bind, **params))

    def impl(*args: Any, **params: Any) -> Any:
        with jax.disable_jit(False):  # there is no other way to a handler
            return compiled(**params)(*args)

    made.def_impl(impl)
    return made


def shaped(like: Any, shape: tuple[int, ...], dtype: Any, spec: tuple[Any, ...]) -> Any:
    sharding = NamedSharding(like.sharding.mesh, PartitionSpec(*spec))
    return like.update(shape=shape, dtype=jnp.dtype(dtype), weak_type=False, sharding=sharding)


def is_manual(ctx: Any) -> bool:
    """Whether arrays are those of one device, as inside of jax.shard_map. XLA cannot divide a call among the axes that a shard_map
    over others leaves: it gathers along them, or, before Shardy, ends the process."""
    context = ctx.module_context.axis_context
    manual = getattr(context, "manual_axes", ())
    shardy = getattr(jax.config, "jax_use_shardy_partitioner", True)
    if manual and set(manual) != set(context.mesh.axis_names) and not shardy:
        raise NotImplementedError(
            f"jax.shard_map is over {', '.join(sorted(manual))} alone, which needs Shardy, the partitioner from jax 0.7 on: "
            "name every axis of the mesh, or set jax_use_shardy_partitioner"
        )
    return bool(manual)


def elsewhere(*_: Any, **__: Any) -> Any:
    raise NotImplementedError(
        "isonorm.jax computes on the CPU: put the arrays there, by jax.device_put(x, jax.devices('cpu')[0])"
    )


class Handler(NamedTuple):
    """A handler and what it is told, and its results: their shapes and types. integers, numbers: as `_options.numbers`
    has them."""

    target: str
    integers: tuple[int, ...]
    numbers: tuple[float, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]


handler_p = primitive("isonorm_handler")


def _abstract(*avals: Any, handler: Handler) -> list[Any]:
    return [shaped(avals[0], shape, dtype, (None,) * len(shape)) for shape, dtype in zip(handler.shapes, handler.dtypes)]


def _lower(ctx: Any, *args: Any, handler: Handler) -> Any:
    is_manual(ctx)
    return jax.ffi.ffi_lowering(handler.target)(ctx, *args, **attributes(handler.integers, handler.numbers))


def _batch(args: Sequence[Any], dims: Sequence[Any], *, handler: Handler) -> Any:
    """Every item is a call of its own."""
    moved = [None if d is None else jnp.moveaxis(a, d, 0) for a, d in zip(args, dims)]

    def one(items: Any) -> Any:
        own = [a if item is None else item for a, item in zip(args, items)]
        return handler_p.bind(*own, handler=handler)

    results = jax.lax.map(one, moved)
    return results, [0] * len(results)


def _no_jvp(*_: Any, **__: Any) -> Any:
    raise NotImplementedError(
        "norms of isonorm.jax.parallel are differentiable once, in reverse mode: isonorm.jax has other derivatives, of whole rows"
    )


handler_p.def_abstract_eval(_abstract)
ad.primitive_jvps[handler_p] = _no_jvp
mlir.register_lowering(handler_p, elsewhere)
mlir.register_lowering(handler_p, _lower, platform="cpu")
batching.primitive_batchers[handler_p] = _batch
