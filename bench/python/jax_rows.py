"""Rows of isonorm.jax beside XLA's own loops, both compiled by jax.jit: one norm, its gradients, and many in one program."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch_rows
from race import Candidate
from rows import EPS, LARGE, MORE, NUMPY, SHAPES, Against, Data, Row

import isonorm
import isonorm.jax

NORMS = 100  # in one program
LAYERS = 8  # in a program of large arrays
IN_PLACE = "isonorm.rms_norm(…, out=x)"


def of_xla(x: jax.Array, weight: jax.Array) -> jax.Array:
    """As one writes it: in f32, rounded at the end."""
    wide = x.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(jnp.square(wide), -1, keepdims=True) + EPS)
    return (wide * scale * weight).astype(x.dtype)


def of_isonorm(x: jax.Array, weight: jax.Array) -> jax.Array:
    y: jax.Array = isonorm.jax.rms_norm(x, weight, eps=EPS)
    return y


def over(x: jax.Array, weight: jax.Array) -> jax.Array:
    y: jax.Array = isonorm.jax.rms_norm(x, weight, eps=EPS, overwrite=True)
    return y


FUNCTIONS = {"isonorm": of_isonorm, "XLA": of_xla}
OVERWRITING = {"isonorm": over, "XLA": of_xla}  # which does so by itself


def on_one_thread() -> None:
    """XLA has as many threads as there are CPUs when it is first used."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    jax.devices("cpu")
    os.sched_setaffinity(0, cpus)


def forward(data: Data, quick: bool) -> list[Candidate]:
    on_one_thread()
    x, weight = jnp.asarray(data.x), jnp.asarray(data.weight)
    return [
        Candidate(name, "norm(x, weight).block_until_ready()", {"norm": jax.jit(norm), "x": x, "weight": weight})
        for name, norm in FUNCTIONS.items()
    ]


def step_of(norm: Callable[..., jax.Array]) -> Callable[..., Any]:
    def step(x: jax.Array, weight: jax.Array, dy: jax.Array) -> tuple[jax.Array, ...]:
        y, pull = jax.vjp(norm, x, weight)
        return (y, *pull(dy))

    return jax.jit(step)


def backward(data: Data, quick: bool) -> list[Candidate]:
    on_one_thread()
    arrays = {"x": jnp.asarray(data.x), "weight": jnp.asarray(data.weight), "dy": jnp.asarray(data.dy)}
    names = {**arrays, "wait": jax.block_until_ready}
    return [Candidate(name, "wait(step(x, weight, dy))", {**names, "step": step_of(norm)}) for name, norm in FUNCTIONS.items()]


def many(data: Data, quick: bool) -> list[Candidate]:
    """One after the other; beside a program that does nothing else. The weight is 1: the 100th power of others is too large."""
    on_one_thread()
    x, weight = jnp.asarray(data.x), jnp.ones_like(data.weight)

    def program(norm: Callable[..., jax.Array], count: int) -> Callable[..., jax.Array]:
        def repeated(x: jax.Array, weight: jax.Array) -> jax.Array:
            for _ in range(count):
                x = norm(x, weight)
            return x + 1

        return jax.jit(repeated)

    programs = {name: program(norm, NORMS) for name, norm in FUNCTIONS.items()}
    programs["a program without them"] = program(of_isonorm, 0)
    return [
        Candidate(name, "program(x, weight).block_until_ready()", {"program": program, "x": x, "weight": weight})
        for name, program in programs.items()
    ]


def owned(array: np.ndarray) -> jax.Array:
    """Memory of JAX's own, which may be donated."""
    return jnp.array(array, copy=True)


def in_turn(norm: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Norms with what XLA may not look through between them, as matrix products are."""

    def repeated(x: jax.Array, weight: jax.Array) -> jax.Array:
        for _ in range(LAYERS):
            x = jax.lax.optimization_barrier(norm(x, weight))
        return x

    return repeated


def in_place(data: Data, calls: int) -> Candidate:
    """The library itself, into memory that is there: what the others could take at best."""
    x, ones = data.x.copy(), np.ones_like(data.weight)
    statement = f"for _ in range({calls}): norm(x, ones, eps={EPS}, out=x)"
    return Candidate(
        IN_PLACE, statement, {"norm": isonorm.rms_norm, "x": x, "ones": ones},
        lambda: (isonorm.rms_norm(data.x, data.weight, eps=EPS),),
    )  # fmt: skip


def donated(repeat: bool) -> Callable[[Data, bool], list[Candidate]]:
    """One norm, or several in one program, of an array that was donated: the result is what the next call is donated. The weight
    is 1, as others would let all but one column vanish."""

    def make(data: Data, quick: bool) -> list[Candidate]:
        on_one_thread()
        candidates = []
        for name, norm in OVERWRITING.items():
            compiled = jax.jit(in_turn(norm) if repeat else norm, donate_argnums=0)
            candidates.append(Candidate(
                name, "xs[0] = norm(xs[0], ones); xs[0].block_until_ready()",
                {"norm": compiled, "xs": [owned(data.x)], "ones": jnp.ones_like(data.weight)},
                lambda compiled=compiled: (compiled(owned(data.x), data.weight),),
            ))  # fmt: skip
        return [*candidates, in_place(data, LAYERS if repeat else 1)]

    return make


Step = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]


def one_step(norm: Callable[..., jax.Array]) -> Step:
    """dx stands first: XLA gives donated memory to the first result of its shape."""

    def step(x: jax.Array, weight: jax.Array, dy: jax.Array) -> tuple[jax.Array, ...]:
        y, pull = jax.vjp(norm, x, weight)
        return (*pull(dy), y)

    return step


def steps_in_turn(norm: Callable[..., jax.Array]) -> Step:
    """A loop whose body has memory that every turn uses again: y and the gradients of one x, dx being the next dy."""
    step = one_step(norm)

    def steps(x: jax.Array, weight: jax.Array, dy: jax.Array) -> tuple[jax.Array, ...]:
        def turn(_: Any, carried: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            dx, dweight, y = jax.lax.optimization_barrier(step(x, weight, carried[0]))
            return dx, carried[1] + dweight + y[0]

        found: tuple[jax.Array, ...] = jax.lax.fori_loop(0, LAYERS, turn, (dy, jnp.zeros_like(weight)))
        return found

    return steps


def donated_backward(made: Callable[..., Step]) -> Callable[[Data, bool], list[Candidate]]:
    """With backward: the gradient of y is donated, and that of x what the next call is donated."""

    def make(data: Data, quick: bool) -> list[Candidate]:
        on_one_thread()
        ones = jnp.ones_like(data.weight)
        x = of_isonorm(jnp.asarray(data.x), ones)  # whose rstd is 1, so that gradients neither grow nor vanish
        candidates = []
        for name, norm in OVERWRITING.items():
            compiled = jax.jit(made(norm), donate_argnums=2)

            def outputs(compiled: Any = compiled) -> tuple[Any, ...]:
                dx, dweight, *y = compiled(data.x, data.weight, owned(data.dy))
                return (*y, dx, dweight)

            names = {"step": compiled, "x": x, "ones": ones, "dys": [owned(data.dy)], "wait": jax.block_until_ready}
            statement = "found = step(x, ones, dys[0]); dys[0] = wait(found)[0]; del found"
            candidates.append(Candidate(name, statement, names, outputs))
        return candidates

    return make


def rows_of_memory() -> list[Row]:
    """Where results may lie over what is not needed any more."""
    table = []
    for dtype in NUMPY:
        # For bf16 in a program the library's own time stands for a goal of 4 × that is out of its reach: docs/speed-python.md.
        goal, inside, bound = (2.0, 2.0, None) if dtype == "f32" else (4.0, None, 0.95)
        exact, of_gradients = torch_rows.exact(False, False), torch_rows.exact(False, True)
        table += [
            Row("jax_donated", 1, LARGE, dtype, donated(False), (Against("XLA", goal), Against(IN_PLACE)), exact),
            Row("jax_donated_backward", 1, LARGE, dtype, donated_backward(one_step), (Against("XLA", 3),), of_gradients),
            Row(f"jax_{LAYERS}_large", 1, LARGE, dtype, donated(True), (Against("XLA", inside), Against(IN_PLACE, bound))),
            Row(f"jax_{LAYERS}_large_backward", 1, LARGE, dtype, donated_backward(steps_in_turn), (Against("XLA", 3),)),
        ]
    return table


def rows() -> list[Row]:
    table = []
    for shape in SHAPES:
        for dtype in NUMPY:
            against = (Against("XLA", torch_rows.FRESH if shape == LARGE else 1),)
            table.append(Row("jax", 1, shape, dtype, forward, against, torch_rows.exact(False, False)))
            table.append(Row("jax_backward", 1, shape, dtype, backward, against, torch_rows.exact(False, True)))
    against = (Against("XLA", 1), Against("a program without them", NORMS * 0.5, MORE))  # half a microsecond for each
    table.append(Row(f"jax_{NORMS}_norms", 1, (1, 128), "f32", many, against))
    return table + rows_of_memory()
