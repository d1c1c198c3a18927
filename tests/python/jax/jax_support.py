"""Calls and programs of JAX."""

import functools

import jax
import numpy as np
from face_support import outputs

import isonorm.jax as ij


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
