"""A small network trained in JAX with isonorm's norm, in one compiled step, by optax.

You learn how a residual stream goes through pre-norm blocks where each add and the norm behind it are one call, how that sits
in jax.jit, jax.value_and_grad and jax.vmap, and that bits do not depend on it: the gradients of a norm inside of a compiled
program are those of isonorm for NumPy, which knows nothing of the program around them.

The task: of two numbers below 23, given as symbols, say which is larger, or neither. A third of all pairs are learned, the
others are asked.

pip install '.[jax]' optax   # in a checkout
python train_jax.py
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import isonorm
import isonorm.jax

NUMBERS, WIDTH, BLOCKS, STEPS, EPS = 23, 64, 2, 200, 1e-6
optimizer = optax.adamw(3e-3, weight_decay=0.1)


def first_parameters(key: jax.Array) -> dict[str, Any]:
    keys = iter(jax.random.split(key, 3 + 2 * BLOCKS))

    def matrix(rows: int, cols: int) -> jax.Array:
        return jax.random.normal(next(keys), (rows, cols)) / rows**0.5

    return {
        "embeddings": matrix(2 * NUMBERS, WIDTH) * NUMBERS**0.5,
        "blocks": [
            {"norm": jnp.ones(WIDTH), "up": matrix(WIDTH, 2 * WIDTH), "down": matrix(2 * WIDTH, WIDTH)} for _ in range(BLOCKS)
        ],
        "norm": jnp.ones(WIDTH),
        "out": matrix(WIDTH, 3),
    }


def logits(parameters: dict[str, Any], pair: jax.Array) -> jax.Array:
    """Of one pair; jax.vmap makes more rows of it, and still one call of each norm."""
    stream = parameters["embeddings"][pair[0]]
    step = parameters["embeddings"][NUMBERS + pair[1]]
    for block in parameters["blocks"]:
        # The add of what the last block found and the norm: one call with two results.
        x, stream = isonorm.jax.rms_norm(step, block["norm"], eps=EPS, residual=stream)
        step = jax.nn.silu(x @ block["up"]) @ block["down"]
    x, _ = isonorm.jax.rms_norm(step, parameters["norm"], eps=EPS, residual=stream)
    return x @ parameters["out"]


def loss_of(parameters: dict[str, Any], pairs: jax.Array, answers: jax.Array) -> jax.Array:
    found = jax.vmap(logits, (None, 0))(parameters, pairs)
    return optax.softmax_cross_entropy_with_integer_labels(found, answers).mean()


@jax.jit
def train(parameters: dict[str, Any], state: Any, pairs: jax.Array, answers: jax.Array) -> tuple[Any, Any, jax.Array]:
    loss, gradients = jax.value_and_grad(loss_of)(parameters, pairs, answers)
    changes, state = optimizer.update(gradients, state, parameters)
    return optax.apply_updates(parameters, changes), state, loss


@jax.jit
def share_right(parameters: dict[str, Any], pairs: jax.Array, answers: jax.Array) -> jax.Array:
    return (jax.vmap(logits, (None, 0))(parameters, pairs).argmax(-1) == answers).mean()


@jax.jit
def norm_in_a_program(x: jax.Array, weight: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The gradients of one norm, for all rows at once, where XLA may put them together with what is around."""

    def total(x: jax.Array, weight: jax.Array) -> jax.Array:
        rows = jax.vmap(lambda row: isonorm.jax.rms_norm(row, weight, eps=EPS))(x)
        return (rows * dy).sum()

    return jax.grad(total, (0, 1))(x, weight)


def main() -> None:
    pairs = np.stack(np.meshgrid(np.arange(NUMBERS), np.arange(NUMBERS)), -1).reshape(-1, 2)
    pairs = np.random.default_rng(0).permutation(pairs)
    answers = np.sign(pairs[:, 0] - pairs[:, 1]) + 1
    third = len(pairs) // 3
    learned, asked = (pairs[:third], answers[:third]), (pairs[third:], answers[third:])
    parameters = first_parameters(jax.random.key(0))
    state = optimizer.init(parameters)
    print("step      loss   right of those learned   of those asked")
    for step in range(STEPS + 1):
        if step % 50 == 0:
            loss = float(loss_of(parameters, *learned))
            shares = [float(share_right(parameters, *rows)) for rows in (learned, asked)]
            print(f"{step:>4} {loss:>9.4f} {shares[0]:>16.0%} {shares[1]:>22.0%}")
        parameters, state, _ = train(parameters, state, *learned)

    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, third, WIDTH), np.float32)
    weight = np.asarray(parameters["norm"])
    compiled = norm_in_a_program(x, weight, dy)
    plain = isonorm.rms_norm_backward(dy, x, weight, eps=EPS)
    same = all(np.array_equal(np.asarray(a).view(np.uint32), b.view(np.uint32)) for a, b in zip(compiled, plain))
    print(f"gradients of a norm in a compiled program have the bits of NumPy's face: {same}")


if __name__ == "__main__":
    main()
