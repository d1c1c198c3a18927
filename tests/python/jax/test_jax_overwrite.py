"""`overwrite=True`: the same results, without memory of their own where XLA has no more use for that of an operand."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import BF16, F16, F32, random
from face_support import option_calls, same
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from jax_support import gradients, norm_of

import isonorm
import isonorm.jax as ij

# XLA says which arrays it was given in vain: weights, and what has no result of its shape.
pytestmark = pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")

EPS = 1e-6
ROWS, COLS = 64, 96
X, R, W, DY = random((ROWS, COLS)), random((ROWS, COLS), seed=1), random(COLS, seed=2), random((ROWS, COLS), seed=3)
norm = functools.partial(ij.rms_norm, eps=EPS, overwrite=True)
plain = functools.partial(ij.rms_norm, eps=EPS)


def fresh(*arrays):
    """Arrays of JAX that own their memory."""
    return [jnp.array(a, copy=True) for a in arrays]


def copied(compiled, of=X):
    """How many copies of arrays of that shape a program makes."""
    kind = {F32: "f32", BF16: "bf16", F16: "f16"}[np.dtype(of.dtype)]
    shape = f"{kind}[{','.join(map(str, of.shape))}]"
    return sum(f"= {shape}" in line and " copy(" in line for line in compiled.as_text().splitlines())


def equal(found, expected):
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    return len(found) == len(expected) and all(same(a, b) for a, b in zip(found, expected))


def pulled(of, *arrays):
    """The results of a function of all but the last array, which is the gradient of the first result, and its gradients."""
    results, pull = jax.vjp(of, *arrays[:-1])
    leaves, tree = jax.tree.flatten(results)
    return results, pull(jax.tree.unflatten(tree, [arrays[-1], *(jnp.ones_like(leaf) for leaf in leaves[1:])]))


# --------------------------------------------------------------------------------------------------------------------- bits


@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=str)
def test_every_option_has_the_same_bits(dtype):
    """Of arrays that are donated, that are not, and that are read afterwards; and their gradients."""
    for arrays, options in option_calls(dtype):
        arrays = dict(zip(("x", "weight", "bias"), arrays))
        arrays |= {name: options.pop(name) for name in ("residual", "gate") if name in options}
        options = {"eps": EPS, **options}
        before, over = norm_of(arrays, options), norm_of(arrays, {**options, "overwrite": True})
        expected = before(*arrays.values())
        everything = tuple(range(len(arrays)))
        assert equal(over(*arrays.values()), expected)
        assert equal(jax.jit(over, donate_argnums=everything)(*fresh(*arrays.values())), expected)
        kept = jax.jit(lambda *a, over=over: (over(*a), [value + 1 for value in a]))
        assert equal(kept(*arrays.values()), (expected, [jnp.asarray(value) + 1 for value in arrays.values()]))
        leaves = jax.tree.leaves(expected)
        count = 1 + ("residual" in arrays)
        cotangents = [random(leaf.shape, leaf.dtype, 7 + i) for i, leaf in enumerate(leaves[:count])]
        assert equal(gradients(arrays, {**options, "overwrite": True}, cotangents), gradients(arrays, options, cotangents))


@pytest.mark.parametrize("options", [
    {"quantize": isonorm.Quantization("int8")}, {"residual": R, "quantize": isonorm.Quantization("float8_e4m3fn")}, {"axis": 0},
    {"dtype": BF16}, {"rope": ij.Rope(random((ROWS, 8)), random((ROWS, 8), seed=1))},
], ids=["int8", "fp8 and residual", "axis", "dtype", "rope"])  # fmt: skip
def test_types_and_axes(options):
    weight = W[:ROWS] if "axis" in options else W
    compiled = jax.jit(functools.partial(norm, **options), donate_argnums=0)
    assert equal(compiled(*fresh(X), weight), plain(X, weight, **options))


def test_one_array_twice():
    """As x and residual, and as x and the gradient of y: it may be overwritten once."""
    twice = jax.jit(lambda x: norm(x, W, residual=x), donate_argnums=0)
    assert equal(twice(*fresh(X)), plain(X, W, residual=X))
    both = jax.jit(lambda x: pulled(lambda x: norm(x, W), x, x), donate_argnums=0)
    assert equal(both(*fresh(X)), pulled(lambda x: plain(x, W), X, jnp.asarray(X)))


def test_arrays_stay_as_they_are():
    x, r, dy = fresh(X, R, DY)
    norm(x, W, residual=r)
    jax.jit(lambda x, r, dy: pulled(lambda x, r: norm(x, W, residual=r), x, r, dy))(x, r, dy)
    given = X.copy()
    norm(given, W)
    assert same(x, X) and same(r, R) and same(dy, DY) and same(given, X)


# ------------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=str)
@pytest.mark.parametrize("name, options", [("rms_norm", {}), ("layer_norm", {}), ("rms_norm", {"contract": "llama"})],
                         ids=["rms_norm", "layer_norm", "llama"])  # fmt: skip
def test_a_donated_array_is_written_over(name, options, dtype):
    x = X.astype(dtype)

    def compiled(overwrite):
        function = functools.partial(getattr(ij, name), eps=EPS, overwrite=overwrite, **options)
        return jax.jit(function, donate_argnums=0).lower(x, W).compile()

    over, apart = compiled(True), compiled(False)
    assert copied(over, x) == 0 and over.memory_analysis().temp_size_in_bytes < x.nbytes
    # That this would see it: y has to come into the memory of x, which the norm was computed beside.
    assert copied(apart, x) == 1 and apart.memory_analysis().temp_size_in_bytes >= x.nbytes
    (given,) = fresh(x)
    place = given.unsafe_buffer_pointer()
    y = over(given, W)
    assert y.unsafe_buffer_pointer() == place and given.is_deleted()
    assert same(y, getattr(isonorm, name)(x, W, eps=EPS, **options))


def test_the_sum_is_written_over_the_residual():
    """And where gradients are wanted, as they need the sum alone."""

    def added(x, residual):
        return norm(x, W, residual=residual)

    assert copied(jax.jit(added, donate_argnums=(0, 1)).lower(X, R).compile()) == 0
    x, residual = fresh(X, R)
    places = [a.unsafe_buffer_pointer() for a in (x, residual)]
    results = jax.jit(added, donate_argnums=(0, 1))(x, residual)
    assert [a.unsafe_buffer_pointer() for a in results] == places and equal(results, plain(X, W, residual=R))
    step = jax.jit(lambda x, r, dy: pulled(added, x, r, dy), donate_argnums=(0, 1, 2)).lower(X, R, DY).compile()
    text = step.as_text()
    assert text.count("output_to_operand_aliasing={{0}: (0, {}), {1}: (2, {})}") == 1, text


def test_the_gradient_of_x_is_written_over_that_of_y():
    def compiled(of):
        return jax.jit(lambda x, w, dy: pulled(of, x, w, dy), donate_argnums=(0, 2)).lower(X, W, DY).compile()

    over, apart = compiled(norm), compiled(plain)
    assert copied(over) == copied(apart) - 1 and equal(over(*fresh(X, W, DY)), apart(*fresh(X, W, DY)))
    assert over.memory_analysis().temp_size_in_bytes <= apart.memory_analysis().temp_size_in_bytes - X.nbytes
    x, dy = fresh(X, DY)
    place = dy.unsafe_buffer_pointer()
    _, (dx, _) = over(x, W, dy)
    assert dx.unsafe_buffer_pointer() == place


def test_what_gradients_need_is_not_copied():
    """x, which backward reads: y has memory of its own then. XLA gives donated memory to the first result of its shape."""
    step = jax.jit(lambda x, dy: pulled(lambda x: norm(x, W), x, dy)[::-1], donate_argnums=1).lower(X, DY).compile()
    assert copied(step) == 0 and step.memory_analysis().temp_size_in_bytes < X.nbytes


def test_norms_in_a_program_need_no_memory():
    """Each between operations of its own, as XLA does not know what a norm is."""

    def program(of, x):
        for _ in range(8):
            x = of(x * 2, W)
        return x

    over, apart = (jax.jit(functools.partial(program, of), donate_argnums=0).lower(X).compile() for of in (norm, plain))
    assert over.memory_analysis().temp_size_in_bytes < X.nbytes <= apart.memory_analysis().temp_size_in_bytes
    assert same(over(*fresh(X)), apart(*fresh(X)))


def test_qk_norm():
    q, k = X.reshape(16, 4, COLS), R.reshape(16, 4, COLS)
    both = jax.jit(functools.partial(ij.qk_norm, eps=EPS, overwrite=True), donate_argnums=(0, 1))
    assert copied(both.lower(q, k).compile(), q) == 0 and equal(both(*fresh(q, k)), ij.qk_norm(q, k, eps=EPS))


# --------------------------------------------------------------------------------------------------------------- transforms


def in_turn(of, x, weights):
    return jax.lax.scan(lambda x, weight: (of(x, weight), None), x, weights)[0]


FUNCTIONS = {
    "scan": in_turn,
    "checkpoint": lambda of, x, weights: in_turn(jax.checkpoint(of), x, weights),
    "vmap": lambda of, x, weights: jax.vmap(of, (0, None))(jnp.stack([x, x + 1]), weights[0]),
    "weights of items": lambda of, x, weights: jax.vmap(of, (None, 0))(x, weights),
    "residual": lambda of, x, weights: of(x, weights[0], residual=x * 2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_transforms(name):
    weights = np.stack([W, W + 1])
    forward, reverse = {}, {}
    for of in (norm, plain):
        function = functools.partial(FUNCTIONS[name], of)
        forward[of] = jax.jit(function, donate_argnums=0)(*fresh(X), weights)
        dy = random(jax.tree.leaves(forward[of])[0].shape, seed=5)
        reverse[of] = jax.jit(functools.partial(pulled, function), donate_argnums=(0, 2))(*fresh(X), weights, *fresh(dy))
    assert equal(forward[norm], forward[plain]) and equal(reverse[norm], reverse[plain])


def test_derivatives_by_the_formula():
    def second(of):
        gradient = jax.grad(lambda x: (of(x, W) * DY).sum())
        return jax.jit(lambda x: (jax.jvp(functools.partial(of, weight=W), (x,), (DY,)), jax.jvp(gradient, (x,), (DY,))))(X)

    assert equal(second(norm), second(plain))


def test_a_scan_writes_over_what_it_carries():
    over = jax.jit(functools.partial(in_turn, norm), donate_argnums=0)
    assert copied(over.lower(X, np.stack([W, W])).compile()) == 0


def test_export():
    checks = [jax.export.DisabledSafetyCheck.custom_call("isonorm_jax_forward")]
    exported = jax.export.export(jax.jit(norm), disabled_checks=checks)(X, W)
    assert same(jax.export.deserialize(exported.serialize()).call(X, W), plain(X, W))


@pytest.mark.parametrize("manual", [False, True], ids=["partitioned", "shard_map"])
def test_devices(manual):
    """Each overwrites its own rows."""
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, P("data"))

    def divided(of):
        specs = {"in_specs": (P("data"), P()), "out_specs": P("data")}
        function = jax.shard_map(of, mesh=mesh, **specs) if manual else of
        return jax.jit(lambda x, w, dy: pulled(function, x, w, dy)[1], donate_argnums=2), jax.jit(function, donate_argnums=0)

    def given(*arrays):
        return [jax.device_put(a, rows, may_alias=False) for a in arrays]

    (back, forward), (expected_back, expected) = divided(norm), divided(plain)
    assert same(forward(*given(X), W), expected(*given(X), W))
    for a, b in zip(back(*given(X), W, *given(DY)), expected_back(*given(X), W, *given(DY))):
        assert same(a, b)
    piece = X[: ROWS // 4]
    compiled = forward.lower(*given(X), W).compile()
    assert copied(compiled, piece) == 0 and compiled.memory_analysis().temp_size_in_bytes < piece.nbytes
