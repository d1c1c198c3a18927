"""Calls and programs of JAX, and eight devices, which every file of tests here has that imports this."""

import functools
import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import numpy as np
from face_support import outputs
from jax.sharding import AxisType, Mesh

import isonorm.jax as ij


def mesh_of(devices, name="model", kind=AxisType.Auto):
    return Mesh(np.array(jax.devices()[:devices]), (name,), axis_types=(kind,))


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


class KerasTensor:
    """Looks like what Keras' functional models are made of, which raises where JAX makes an array of it."""

    def __jax_array__(self):
        raise ValueError("many\nlines")


class Foreign:
    """Looks like a tensor of another framework."""

    def __dlpack__(self, **options):
        raise NotImplementedError
