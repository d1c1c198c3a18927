"""Rows of isonorm.jax beside XLA's own loops, both compiled by jax.jit: one norm, its gradients, and many in one program."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import torch_rows
from race import Candidate
from rows import EPS, LARGE, MORE, NUMPY, SHAPES, Against, Data, Row

import isonorm.jax

NORMS = 100  # in one program


def of_xla(x: jax.Array, weight: jax.Array) -> jax.Array:
    """As one writes it: in f32, rounded at the end."""
    wide = x.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(jnp.square(wide), -1, keepdims=True) + EPS)
    return (wide * scale * weight).astype(x.dtype)


def of_isonorm(x: jax.Array, weight: jax.Array) -> jax.Array:
    y: jax.Array = isonorm.jax.rms_norm(x, weight, eps=EPS)
    return y


FUNCTIONS = {"isonorm": of_isonorm, "XLA": of_xla}


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


def rows() -> list[Row]:
    table = []
    for shape in SHAPES:
        for dtype in NUMPY:
            against = (Against("XLA", torch_rows.FRESH if shape == LARGE else 1),)
            table.append(Row("jax", 1, shape, dtype, forward, against, torch_rows.exact(False, False)))
            table.append(Row("jax_backward", 1, shape, dtype, backward, against, torch_rows.exact(False, True)))
    against = (Against("XLA", 1), Against("a program without them", NORMS * 0.5, MORE))  # half a microsecond for each
    table.append(Row(f"jax_{NORMS}_norms", 1, (1, 128), "f32", many, against))
    return table
