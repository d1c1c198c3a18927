"""jit, grad, vmap, scan, remat, forward mode; programs that run on several devices; threads."""

import functools
import math
import os
import pathlib

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import BF16, F16, F32, random
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from face_support import numpy_rope, same
from jax_support import collectives

import isonorm
import isonorm.jax as ij

EPS = 1e-6
ROWS, COLS = 16, 96
X, W, DY = random((ROWS, COLS)), random(COLS, seed=1), random((ROWS, COLS), seed=2)
Y, (DX, DWEIGHT) = isonorm.rms_norm(X, W, eps=EPS), isonorm.rms_norm_backward(DY, X, W, eps=EPS)


def norm(x, weight):
    return ij.rms_norm(x, weight, eps=EPS)


def loss(x, weight, dy):
    return (norm(x, weight) * dy).sum()


def calls(function, *args):
    """How many calls of handlers there are in what a function is traced to."""
    text = str(jax.make_jaxpr(function)(*args))
    return text.count("isonorm_forward[") + text.count("isonorm_backward[") + text.count("isonorm_linear[")


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint, lambda f: jax.jit(jax.checkpoint(f))],
                         ids=["eager", "jit", "checkpoint", "jit of checkpoint"])  # fmt: skip
def test_gradients(wrap):
    function = wrap(loss)
    gradients = jax.grad(function, (0, 1))(X, W, DY)
    assert same(gradients[0], DX) and same(gradients[1], DWEIGHT)
    with jax.disable_jit():
        assert same(norm(X, W), Y)
        assert same(jax.grad(loss)(X, W, DY), DX)


def test_only_what_is_asked_for():
    """A gradient of one argument is one call for one gradient."""
    text = str(jax.make_jaxpr(jax.grad(loss))(X, W, DY))
    assert "results=1" in text.partition("isonorm_backward[")[2]
    assert calls(jax.grad(loss), X, W, DY) == 2 and calls(loss, X, W, DY) == 1


def test_export():
    checks = [jax.export.DisabledSafetyCheck.custom_call(f"isonorm_jax_{name}") for name in ("forward", "backward")]
    exported = jax.export.export(jax.jit(jax.grad(loss, (0, 1))), disabled_checks=checks)(X, W, DY)
    gradients = jax.export.deserialize(exported.serialize()).call(X, W, DY)
    assert same(gradients[0], DX) and same(gradients[1], DWEIGHT)


def test_scan():
    def layers(x, weights):
        return jax.lax.scan(lambda x, weight: (norm(x, weight), None), x, weights)[0]

    weights = np.stack([W, random(COLS, seed=3)])
    middle = isonorm.rms_norm(X, weights[0], eps=EPS)
    assert same(jax.jit(layers)(X, weights), isonorm.rms_norm(middle, weights[1], eps=EPS))
    dx, dweights = jax.jit(jax.grad(lambda x, w: (layers(x, w) * DY).sum(), (0, 1)))(X, weights)
    back, second = isonorm.rms_norm_backward(DY, middle, weights[1], eps=EPS)
    expected, first = isonorm.rms_norm_backward(np.asarray(back), X, weights[0], eps=EPS)
    assert same(dx, expected) and same(dweights, np.stack([first, second]))


def test_a_batch_is_rows():
    batch = X.reshape(4, 2, 2, COLS)
    for axes in ((0, None), (1, None), (2, None)):
        mapped = jax.vmap(norm, axes, axes[0])
        assert same(mapped(batch, W), Y.reshape(batch.shape)) and calls(mapped, batch, W) == 1
    twice = jax.vmap(jax.vmap(norm, (0, None)), (1, None), 1)
    assert same(twice(batch, W), Y.reshape(batch.shape)) and calls(twice, batch, W) == 1
    gradients = jax.grad(lambda x, w, dy: (jax.vmap(norm, (0, None))(x, w) * dy).sum(), (0, 1))
    dx, dweight = gradients(batch, W, DY.reshape(batch.shape))
    assert same(dx, DX.reshape(batch.shape)) and same(dweight, DWEIGHT)


def test_items_with_weights_and_sums_of_their_own():
    batch, dy, weights = X.reshape(2, 4, 2, COLS), DY.reshape(2, 4, 2, COLS), random((4, COLS), seed=5)
    mapped = jax.vmap(jax.vmap(jax.grad(loss, (0, 1)), (0, 0, 0)), (0, None, 0))
    assert calls(mapped, batch, weights, dy) == 2
    dx, dweight = jax.jit(mapped)(batch, weights, dy)
    forward = jax.vmap(jax.vmap(norm), (0, None))(batch, weights)
    single = jax.vmap(jax.grad(loss, (0, 1)), (0, None, 0))(X[:, None], W, DY[:, None])
    for i in range(2):
        for j in range(4):
            expected = isonorm.rms_norm_backward(dy[i, j], batch[i, j], weights[j], eps=EPS)
            assert same(dx[i, j], expected.dx) and same(dweight[i, j], expected.dweight)
            assert same(forward[i, j], isonorm.rms_norm(batch[i, j], weights[j], eps=EPS))
    assert same(single[0][:, 0], DX) and same(single[1][3], isonorm.rms_norm_backward(DY[3:4], X[3:4], W, eps=EPS).dweight)


@pytest.mark.parametrize("given", ["offset", "positions", "tables"])
def test_a_batch_of_rotations(given):
    """Rows of a batch are rows of a call, unless they have tables of their own."""
    q, weight, dy = random((3, 5, 2, 8)), random(8, seed=1), random((3, 5, 2, 8), seed=4)
    cos, sin = random((3, 9, 3), seed=2), random((3, 9, 3), seed=3)
    positions = np.random.default_rng(0).integers(0, 9, (3, 5)).astype(np.int32)
    cases = {
        "offset": (ij.Rope(cos[0], sin[0], position_offset=2), None),
        "positions": (ij.Rope(cos[0], sin[0], positions), ij.Rope(None, None, 0)),
        "tables": (ij.Rope(cos, sin), 0),
    }
    rope, axes = cases[given]

    def rotated(q, weight, rope):
        return ij.rms_norm(q, weight, eps=EPS, rope=rope, contract="llama")

    y, pull = jax.vjp(lambda q, w: jax.vmap(rotated, (0, None, axes))(q, w, rope), q, weight)
    dq, dweight = pull(jnp.asarray(dy))
    options = {"eps": EPS, "contract": "llama"}
    if given != "tables":
        whole = isonorm.Rope(cos[0], sin[0], positions if given == "positions" else None, 1, rope.position_offset)
        expected = isonorm.rms_norm_backward(dy, q, weight, rope=whole, **options)
        assert same(y, isonorm.rms_norm(q, weight, rope=whole, **options))
        assert same(dq, expected.dx) and same(dweight, expected.dweight)
        return
    ropes = [isonorm.Rope(*tables) for tables in zip(cos, sin)]
    items = [isonorm.rms_norm_backward(dy[i], q[i], weight, rope=ropes[i], **options) for i in range(3)]
    assert same(y, np.stack([isonorm.rms_norm(q[i], weight, rope=ropes[i], **options) for i in range(3)]))
    assert same(dq, np.stack([item.dx for item in items]))
    # A sum of three in any order is off by two roundings.
    parts = np.stack([item.dweight for item in items]).astype(np.float64)
    assert (np.abs(dweight - parts.sum(0)) <= 2 * 2.0**-24 * np.abs(parts).sum(0)).all()


def test_sums_of_items_are_rounded_once():
    """Items with tables of their own share a weight of bf16. The sum of an item is 257 plus a multiple of 4, which float32 holds
    and bf16 rounds down."""
    items, cols = 64, 8
    x = np.ones((items, 2, cols), BF16)
    cos, sin = np.ones((items, 2, 4), F32), np.zeros((items, 2, 4), F32)
    dy = (2 * np.arange(items).reshape(items, 1, 1) + np.array([128, 129]).reshape(1, 2, 1) + np.zeros(cols)).astype(BF16)

    def turned(x, weight, cos, sin):
        return ij.rms_norm(x, weight, eps=0.0, rope=ij.Rope(cos, sin))

    weight = np.ones(cols, BF16)
    _, pull = jax.vjp(lambda w: jax.vmap(turned, (0, None, 0, 0))(x, w, cos, sin), weight)
    expected = dy.astype(np.float64).sum((0, 1)).astype(BF16)
    assert same(pull(jnp.asarray(dy))[0], expected)


def test_programs_may_forbid_the_promotion_of_ranks():
    q, dq = X.reshape(2, 8, 96), DY.reshape(2, 8, 96)
    rope = ij.Rope(random((8, 2), seed=4), random((8, 2), seed=5), position_axis=1)

    def moved():
        turned = functools.partial(ij.rms_norm, eps=EPS, rope=rope)
        biased = functools.partial(ij.layer_norm, eps=EPS, groups=3)
        plain = jax.jvp(lambda x: norm(x, W), (X,), (DY,))
        return plain, jax.jvp(lambda x: turned(x, W), (q,), (dq,)), jax.jvp(lambda x: biased(x, W, W), (X,), (DY,))

    with jax.numpy_rank_promotion("raise"):
        found = moved()
        assert jax.hessian(lambda w: norm(X[0], w).sum())(W).shape == (COLS, COLS)
    assert all(same(a, b) for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(moved())))


# ------------------------------------------------------------------------------------------------------------------ devices

KINDS = [AxisType.Auto, AxisType.Explicit]


def mesh_of(kind, shape=(4,), names=("data",)):
    return Mesh(np.array(jax.devices()[: math.prod(shape)]).reshape(shape), names, axis_types=(kind,) * len(names))


def put(mesh, array, *spec):
    return jax.device_put(array, NamedSharding(mesh, P(*spec)))


def spec_of(array):
    """Where each dimension is, None for those that are whole."""
    return tuple(array.sharding.spec) + (None,) * (array.ndim - len(array.sharding.spec))


def sum_bound(exact):
    """How far dweight may be from itself, with its sums of rows in another order: a rounding of each sum and product."""
    return 2 * (ROWS + 3) * 2.0**-24 * exact


TERMS = np.abs(DY * isonorm.rms_norm(X, eps=EPS)).sum(0)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_rows_stay_where_they_are(kind):
    mesh = mesh_of(kind)
    x, dy, weight = put(mesh, X, "data", None), put(mesh, DY, "data", None), put(mesh, W)
    compiled = jax.jit(norm).lower(x, weight).compile()
    y = compiled(x, weight)
    assert same(y, Y) and spec_of(y) == ("data", None) and collectives(compiled) == {}
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(x, weight, dy).compile()
    dx, dweight = compiled(x, weight, dy)
    assert same(dx, DX) and spec_of(dx) == ("data", None) and spec_of(dweight) == (None,)
    assert collectives(compiled) == {"all-reduce": 1}  # that of dweight
    assert (np.abs(dweight - DWEIGHT) <= sum_bound(TERMS)).all()


def test_every_option_stays_where_it_is():
    """A residual, statistics, groups, gates and rotations, over two axes of a mesh; what has to be whole becomes so."""
    mesh = mesh_of(AxisType.Auto, (2, 2), ("data", "model"))
    x, r = random((4, 6, 8), seed=1), random((4, 6, 8), seed=2)
    weight = random(8, seed=3)
    sharded = [put(mesh, a, "data", "model", None) for a in (x, r)]

    def added(x, r):
        return ij.layer_norm(x, weight, eps=EPS, residual=r, groups=2, return_rstd=True, return_mean=True)

    compiled = jax.jit(added).lower(*sharded).compile()
    got = compiled(*sharded)
    expected = isonorm.layer_norm(x, weight, eps=EPS, residual=r, groups=2, return_rstd=True, return_mean=True)
    assert all(same(a, b) for a, b in zip(got, expected)) and collectives(compiled) == {}
    assert [spec_of(a)[:2] for a in got] == [("data", "model")] * 4

    def gated(x, r):
        return ij.rms_norm(x, weight, eps=EPS, gate=r, contract="mamba2")

    assert same(jax.jit(gated)(*sharded), isonorm.rms_norm(x, weight, eps=EPS, gate=r, contract="mamba2"))
    cos, sin = random((9, 4), seed=4), random((9, 4), seed=5)
    positions = np.arange(24, dtype=np.int32).reshape(4, 6) % 9
    for rope in (ij.Rope(cos, sin, position_axis=0), ij.Rope(cos, sin, position_axis=1), ij.Rope(cos, sin, positions)):
        y = jax.jit(lambda x, rope: ij.rms_norm(x, weight, eps=EPS, rope=rope))(sharded[0], rope)
        assert same(y, isonorm.rms_norm(x, weight, eps=EPS, rope=numpy_rope(rope)))
    columns = put(mesh, x, None, "data", "model")
    assert same(jax.jit(norm)(columns, weight), isonorm.rms_norm(x, weight, eps=EPS))
    items = jax.vmap(jax.grad(loss, (0, 1)), (0, None, 0))
    dx, dweight = jax.jit(items)(sharded[0], weight, put(mesh, r, "data", "model", None))
    for i in range(4):
        expected = isonorm.rms_norm_backward(r[i], x[i], weight, eps=EPS)
        assert same(dx[i], expected.dx)
        terms = np.abs(r[i] * isonorm.rms_norm(x[i], eps=EPS)).sum(0)
        assert (np.abs(dweight[i] - expected.dweight) <= sum_bound(terms)).all()


@pytest.mark.parametrize("rows", [1, 5, 6, 7])
def test_rows_that_devices_do_not_divide(rows):
    """XLA pads them with the rows that were cut off: no sum may see those, and no handler their positions."""
    mesh = mesh_of(AxisType.Auto)
    x, dy, length = X[:8], DY[:8], 4
    cos, sin = random((length, 4), seed=4), random((length, 4), seed=5)
    positions = np.where(np.arange(8) < rows, np.arange(8) % length, 99).astype(np.int32)

    def turned(x, weight, positions):
        return ij.rms_norm(x[:rows], weight, eps=EPS, rope=ij.Rope(cos, sin, positions[:rows]))

    def pulled(x, weight, dy):
        return loss(x[:rows], weight, dy[:rows])

    dx, dweight = jax.jit(jax.grad(pulled, (0, 1)))(put(mesh, x, "data", None), W, put(mesh, dy, "data", None))
    expected = isonorm.rms_norm_backward(DY[:rows], X[:rows], W, eps=EPS)
    assert same(dx[:rows], expected.dx) and not dx[rows:].any()
    terms = np.abs(DY[:rows] * isonorm.rms_norm(X[:rows], eps=EPS)).sum(0)
    assert (np.abs(dweight - expected.dweight) <= sum_bound(terms)).all()
    y = jax.jit(turned)(put(mesh, x, "data", None), W, put(mesh, positions, "data"))
    assert same(y, isonorm.rms_norm(X[:rows], W, eps=EPS, rope=isonorm.Rope(cos, sin, positions[:rows], 0)))


def test_gathered_columns_are_counted():
    """That the count above would see a gather: where the columns are divided, there is one."""
    mesh = mesh_of(AxisType.Auto)
    compiled = jax.jit(norm).lower(put(mesh, X, None, "data"), put(mesh, W)).compile()
    assert set(collectives(compiled)) & {"all-gather", "all-to-all"}


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_shard_map(kind, check_vma):
    mesh = mesh_of(kind)
    x, dy, weight = put(mesh, X, "data", None), put(mesh, DY, "data", None), put(mesh, W)
    mapped = jax.shard_map(
        norm, mesh=mesh, in_specs=(P("data", None), P()), out_specs=P("data", None), check_vma=check_vma
    )
    y, pull = jax.vjp(jax.jit(mapped), x, weight)
    dx, dweight = pull(dy)
    assert same(y, Y) and same(dx, DX) and (np.abs(dweight - DWEIGHT) <= sum_bound(TERMS)).all()
    tangent = jax.jvp(mapped, (x, weight), (dy, weight))[1]
    whole = jax.jvp(norm, (X, W), (DY, W))[1]
    # One derivative by the same formula in float32, compiled twice: `bound` in test_jax_derivatives.py.
    assert np.abs(tangent - whole).max() <= 2 * 2 * (COLS + 4) * (COLS + 1) * 2.0**-24 * np.abs(whole).max()


def test_shard_map_over_some_axes():
    mesh = mesh_of(AxisType.Auto, (2, 2), ("data", "model"))
    x, weight = put(mesh, X, ("data", "model"), None), put(mesh, W)
    mapped = jax.shard_map(norm, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"), axis_names={"data"})
    if not jax.config.jax_use_shardy_partitioner:  # before jax 0.7
        with pytest.raises(NotImplementedError, match="^jax.shard_map is over data alone, which needs Shardy, the "):
            jax.jit(mapped)(x, weight)
        return
    y, pull = jax.vjp(jax.jit(mapped), x, weight)
    dx, dweight = pull(put(mesh, DY, "data", None))
    assert same(y, Y) and same(dx, DX) and (np.abs(dweight - DWEIGHT) <= sum_bound(TERMS)).all()


def test_explicit_axes_have_types():
    """What comes out of a norm is known to be where its rows are, before anything is compiled."""
    mesh = mesh_of(AxisType.Explicit, (2, 2), ("data", "model"))
    x, weight = put(mesh, X.reshape(4, 4, COLS), "data", "model", None), put(mesh, W)

    def types(function):
        return [jax.typeof(leaf).sharding.spec for leaf in jax.tree.leaves(jax.jit(function)(x, weight))]

    total = lambda x, weight: (norm(x, weight) ** 2).sum()  # noqa: E731
    assert types(norm) == types(jax.vmap(norm, (0, None))) == [P("data", "model", None)]
    assert types(jax.grad(total, (0, 1))) == [P("data", "model", None), P(None)]
    assert types(jax.vmap(jax.grad(total, (0, 1)), (0, None))) == [P("data", "model", None), P("data", None)]
    assert types(lambda x, weight: jax.jvp(norm, (x, weight), (x, weight))[1]) == [P("data", "model", None)]
    statistics = lambda x, weight: ij.layer_norm(x, weight, eps=EPS, groups=3, return_rstd=True)  # noqa: E731
    assert types(statistics) == [P("data", "model", None)] * 2


def test_what_is_divided_along_a_row_is_an_error():
    mesh = mesh_of(AxisType.Explicit)
    with pytest.raises(ValueError, match="^x is divided along axis 1 by mesh axis 'data', but a norm needs whole rows: "):
        norm(put(mesh, X, None, "data"), W)
    with pytest.raises(ValueError, match="^weight is divided along axis 0 by mesh axis 'data'"):
        norm(put(mesh, X, "data"), put(mesh, W, "data"))


# ------------------------------------------------------------------------------------------------------------------ threads


@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=str)
def test_many_at_once(dtype):
    """Calls on all devices at once, which share the threads of XLA: nobody waits for what waits itself."""
    x, weight = random((512, 1024), dtype), random(1024, dtype, 1)
    expected = isonorm.rms_norm(x, weight, eps=EPS)
    arrays = [jax.device_put(x, device) for device in jax.devices()[:4]]
    function = jax.jit(lambda x: [norm(x, weight) for _ in range(8)])
    for results in [function(x) for x in arrays * 2]:
        assert all(same(y, expected) for y in results)


def test_threads_of_xla_compute():
    """Of one call that is large enough for several."""

    def seconds():
        files = pathlib.Path("/proc/self/task").glob("*/schedstat")
        return {path.parent.name: int(path.read_text().split()[0]) / 1e9 for path in files}

    x, function = jnp.ones((8192, 1024)), jax.jit(norm)
    function(x, W[:1].repeat(1024)).block_until_ready()
    before, busy = seconds(), {}
    for _ in range(100):
        function(x, W[:1].repeat(1024)).block_until_ready()
        busy = {thread: s - before.get(thread, 0) for thread, s in seconds().items()}
        if sum(s > 0.02 for s in busy.values()) > 1:
            break
    assert (sum(s > 0.02 for s in busy.values()) > 1) == (len(os.sched_getaffinity(0)) > 1), busy
