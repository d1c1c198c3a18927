"""Arrays of JAX beside arrays of NumPy: the same bits, compared as integers."""

import functools

import jax
import numpy as np
from conftest import bits

import isonorm
import isonorm.jax as ij


def same(array, expected):
    """Whether an array of JAX has the type, the shape and the bits of another one, or of one of NumPy."""
    array, expected = np.asarray(array), np.asarray(expected)
    return array.dtype == expected.dtype and array.shape == expected.shape and bool((bits(array) == bits(expected)).all())


def outputs(result, only="y"):
    """One result, or a named tuple of several, by name."""
    return result._asdict() if hasattr(result, "_asdict") else {only: result}


def numpy_rope(rope):
    positions = None if rope.positions is None else np.asarray(rope.positions)
    cos, sin = np.asarray(rope.cos), np.asarray(rope.sin)
    return isonorm.Rope(cos, sin, positions, rope.position_axis, rope.position_offset, rope.style)


def collectives(compiled):
    """How many of each collective operation a program has."""
    text = compiled.as_text()
    names = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
    return {name: n for name in names if (n := text.count(f" {name}(") + text.count(f" {name}-start("))}


def norm_of(arrays, fixed, norm="rms_norm"):
    """The norm as a function of the arrays of that dictionary, in its order."""
    names = tuple(arrays)
    return functools.partial(_call, names, norm, fixed)


def _call(names, norm, fixed, *values):
    return getattr(ij, norm)(**dict(zip(names, values)), **fixed)


def gradients(arrays, fixed, cotangents, norm="rms_norm"):
    """The results, and the gradients of all arrays, by name."""

    @jax.jit
    def pull(values, cotangents):
        results, back = jax.vjp(norm_of(arrays, fixed, norm), *values)
        leaves, tree = jax.tree.flatten(results)
        whole = [np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
        for i, c in enumerate(cotangents):
            whole[i] = c
        return results, back(jax.tree.unflatten(tree, whole))

    results, found = pull(tuple(arrays.values()), tuple(cotangents))
    return outputs(results), dict(zip(arrays, found))
