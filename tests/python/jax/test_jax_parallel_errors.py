"""What norms that the devices of a mesh compute together refuse: in one sentence, when the call is traced."""

import functools

import jax
import numpy as np
import pytest
from conftest import F32
from jax.sharding import PartitionSpec as P
from jax_support import mesh_of

import isonorm.jax as ij
from isonorm.jax import parallel

EPS = 1e-6
COLUMNS = P(None, "model")


def mapped_of(devices, cols, **options):
    norm = functools.partial(parallel.rms_norm, **{"eps": EPS, "axis_name": "model", **options})
    mapped = jax.shard_map(norm, mesh=mesh_of(devices), in_specs=(COLUMNS, P("model")), out_specs=COLUMNS)
    return jax.jit(mapped).trace(np.ones((2, cols), F32), np.ones(cols, F32))


def vmapped_of(axis_name):
    norm = jax.vmap(functools.partial(parallel.rms_norm, eps=EPS, axis_name=axis_name), axis_name="v")
    whole = P(None, None, "model")
    return jax.shard_map(norm, mesh=mesh_of(2), in_specs=whole, out_specs=whole)(np.ones((2, 2, 512), F32))


WRONG = {
    "three": (lambda: mapped_of(3, 768), ValueError, "axis_name is 'model', whose 3 devices cannot share rows of 768 columns "
              "(256 on each): that takes a power of two of them, at most 8"),
    "too many": (lambda: mapped_of(8, 512), ValueError, "axis_name is 'model', whose 8 devices cannot share rows of 512 columns "
                 "(64 on each): that takes a power of two of them, at most 4"),
    "unknown": (lambda: mapped_of(2, 512, axis_name="mode"), ValueError, "axis_name is 'mode', but has to be an axis of the mesh"),
    "no axis": (lambda: mapped_of(2, 512, axis_name=None), TypeError, "axis_name is None, but has to name an axis of a mesh"),
    "number": (lambda: mapped_of(2, 512, axis_name=0), TypeError, "axis_name is a int, but has to be the name of an axis of a mesh"),
    "empty": (lambda: mapped_of(2, 512, axis_name=()), ValueError, "axis_name is (), but has to name one axis or more, each once"),
    "unknown rows": (lambda: mapped_of(2, 512, rows_axis="data"), ValueError, "rows_axis is 'data', but has to be an axis of the me"),
    "one axis for both": (lambda: mapped_of(2, 512, rows_axis="model"), ValueError, "rows_axis is 'model', but has to differ from "),
    "outside": (lambda: ij.rms_norm(np.ones((2, 8), F32), eps=EPS, rows_axis="data"), ValueError, "rows_axis is 'data', but has to "),
    "a vmap": (lambda: jax.vmap(functools.partial(parallel.rms_norm, eps=EPS, axis_name="v"), axis_name="v")(np.ones((2, 2, 512), F32)),
               ValueError, "axis_name is 'v', of which 'v' is an axis of a jax.vmap, but has to be an axis of the mesh of a jax.shard_"),
    "rows of a vmap": (lambda: jax.vmap(functools.partial(ij.rms_norm, eps=EPS, rows_axis="v"), axis_name="v")(np.ones((2, 32, 8), F32)),
                       ValueError, "rows_axis is 'v', of which 'v' is an axis of a jax.vmap, but has to be an axis of the mesh of a"),
    "a vmap and a mesh": (lambda: vmapped_of(("v", "model")), ValueError,
                          "axis_name is ('v', 'model'), of which 'v' is an axis of a jax.vmap, but has to be an axis of the mesh of a"),
    "eps": (lambda: mapped_of(2, 512, eps=-1.0), ValueError, "eps is -1, but must be 0 or more and finite in the compute type."),
    "residual": (lambda: mapped_of(2, 512, residual=np.ones((1, 4), F32)), ValueError, "residual has shape (1, 4), but x has "),
    "no mean": (lambda: mapped_of(2, 512, return_mean=True), ValueError, "mean"),
    "layer": (lambda: parallel.layer_norm(np.ones((2, 8), F32), eps=EPS, axis_name="model", contract="torch"), ValueError,
              "contract 'torch' has no mean: use rms_norm"),
}  # fmt: skip


def test_a_named_vmap_within_a_map():
    assert vmapped_of("model").shape == (2, 2, 512)


def test_columns_are_differentiable_once():
    mapped = jax.shard_map(
        functools.partial(parallel.rms_norm, eps=EPS, axis_name="model"), mesh=mesh_of(2), in_specs=COLUMNS, out_specs=COLUMNS
    )
    gradient = jax.grad(lambda x: mapped(x).sum())
    with pytest.raises(NotImplementedError, match="^norms of isonorm.jax.parallel are differentiable once, in reverse mode"):
        jax.grad(lambda x: gradient(x).sum())(np.ones((2, 512), F32))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(mapped, *[(np.ones((2, 512), F32),)] * 2)


@pytest.mark.parametrize("wrong", WRONG)
def test_sentences(wrong):
    """When the call is traced, once for all devices."""
    call, kind, sentence = WRONG[wrong]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value), str(caught.value)
