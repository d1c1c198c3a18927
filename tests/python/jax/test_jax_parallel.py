"""Norms that the devices of a mesh compute together have the bits of one device, and send what docs/parallel.md says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import BF16, F16, F32, F64, random
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from face_support import outputs, same
from jax_support import collectives, mesh_of

import isonorm
import isonorm.jax as ij
from isonorm.jax import parallel

JAX_CONFIG = {"jax_enable_x64": True}

EPS = 1e-6
ROWS, COLS = 6, 1024
COLUMNS = P(None, "model")
RMS = [name for name in isonorm.contracts.names() if getattr(isonorm.contracts, name).statistic == "rms"]
GATED = [name for name in isonorm.contracts.names() if getattr(isonorm.contracts, name).gate_place != "none"]


def spread(function, mesh, arrays, check_vma=True):
    """A function of arrays by name, which gives one array or several by name: rows whole, columns of the mesh's axis `model`."""

    def spec(array, whole):
        return P("model") if array.ndim == 1 and array.shape[0] == whole else P(None) if array.ndim == 1 else COLUMNS

    whole = arrays["x"].shape[-1]
    shapes = jax.eval_shape(lambda a: outputs(getattr(ij, function.func.__name__)(**a, **without_axis(function))), arrays)
    return jax.shard_map(
        lambda a: outputs(function(**a)),
        mesh=mesh,
        in_specs=({name: spec(a, whole) for name, a in arrays.items()},),
        out_specs={name: spec(s, whole) for name, s in shapes.items()},
        check_vma=check_vma,
    )


def without_axis(function):
    return {name: value for name, value in function.keywords.items() if name != "axis_name"}


def check(devices, arrays, norm="rms_norm", check_vma=True, **options):
    """Results and gradients, beside those of one device and of NumPy's face."""
    function = functools.partial(getattr(parallel, norm), axis_name="model", **options)
    mapped = spread(function, mesh_of(devices), arrays, check_vma)

    @jax.jit
    def all_of(arrays, cotangents):
        results, pull = jax.vjp(mapped, arrays)
        whole = {name: cotangents.get(name, jnp.zeros_like(a)) for name, a in results.items()}
        return results, pull(whole)[0]

    @jax.jit
    def of_one(arrays, cotangents):
        results, pull = jax.vjp(lambda a: outputs(getattr(ij, norm)(**a, **options)), arrays)
        whole = {name: cotangents.get(name, jnp.zeros_like(a)) for name, a in results.items()}
        return results, pull(whole)[0]

    expected = outputs(getattr(isonorm, norm)(**arrays, **options))
    dtype = expected["y"].dtype
    cotangents = {"y": random(arrays["x"].shape, dtype, 7)}
    if "residual" in arrays:
        cotangents["residual_out"] = random(arrays["x"].shape, arrays["residual"].dtype, 8)
    results, gradients = all_of(arrays, cotangents)
    one, of_arrays = of_one(arrays, cotangents)
    assert list(results) == list(one) and list(gradients) == list(of_arrays)
    for name in results:
        assert same(results[name], expected[name]) and same(results[name], one[name]), name
    for name in gradients:
        assert same(gradients[name], of_arrays[name]), name
    return gradients


def arrays_of(dtype, *names, rows=ROWS, cols=COLS, parameter=None):
    shapes = {"weight": cols, "bias": cols}
    return {
        name: random(shapes.get(name, (rows, cols)), parameter or dtype if name in shapes else dtype, i)
        for i, name in enumerate(("x", *names))
    }


@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_bits(devices, dtype):
    check(devices, arrays_of(dtype, "weight"), eps=EPS)
    check(devices, arrays_of(dtype, "weight", "bias", "residual"), eps=EPS, return_rstd=True, check_vma=False)
    check(devices, arrays_of(dtype, "weight", "bias"), "layer_norm", eps=EPS)
    check(devices, arrays_of(dtype, "weight", "bias", "residual"), "layer_norm", eps=EPS)


@pytest.mark.parametrize("contract", RMS)
def test_contracts(contract):
    more = ("gate",) if contract in GATED else ()
    if getattr(isonorm.contracts, contract).gate_place != "before":  # which takes no residual
        more = ("residual", *more)
    check(8, arrays_of(BF16, "weight", "bias", *more, parameter=F32), eps=EPS, contract=contract)
    check(2, arrays_of(F16, *more), eps=EPS, contract=contract, dtype=np.float32)


@pytest.mark.parametrize("check_vma", [True, False])
def test_statistics(check_vma):
    """Which are the same on all devices; JAX cannot know that of what was gathered."""
    x, weight = random((2, 3, COLS)), random(COLS, seed=1)
    expected = isonorm.layer_norm(x, weight, eps=EPS, return_rstd=True, return_mean=True)

    def normed(x, weight):
        y, mean, rstd = parallel.layer_norm(x, weight, eps=EPS, axis_name="model", return_rstd=True, return_mean=True)
        return y, mean[None], rstd[None]

    specs = P(None, None, "model"), P("model")
    mapped = jax.shard_map(normed, mesh=mesh_of(4), in_specs=specs, out_specs=(specs[0], specs[1], specs[1]), check_vma=check_vma)
    y, mean, rstd = mapped(x, weight)
    assert same(y, expected.y)
    assert all(same(mean[i], expected.mean) and same(rstd[i], expected.rstd) for i in range(4))


@pytest.mark.parametrize("norm", ["rms_norm", "layer_norm"])
@pytest.mark.parametrize("eps", [0.0, EPS])
def test_rows_that_take_more_turns(eps, norm):
    """Squares that overflow or vanish, zeros, and rows that are not finite."""
    arrays = arrays_of(F32, "weight", rows=8)
    arrays["x"] *= np.float32([1, 1e30, 1e-30, 0, 1, 1, 1e-38, 1])[:, None]
    arrays["x"][4, 5], arrays["x"][5, 700] = np.inf, np.nan
    with np.errstate(all="ignore"):
        check(8, arrays, norm, eps=eps)
    check(8, {"x": arrays["x"][:0], "weight": arrays["weight"]}, norm, eps=eps)


def test_gradients_of_some():
    """Only what is asked for is computed: of a weight alone nothing is sent, of residual_out alone it is what came."""
    arrays = arrays_of(F32, "weight", "residual")
    mapped = spread(functools.partial(parallel.rms_norm, eps=EPS, axis_name="model"), mesh_of(8), arrays)
    dy = random((ROWS, COLS), seed=7)

    def loss(name, value, which):
        return (mapped({**arrays, name: value})[which] * dy).sum()

    of_weight = jax.jit(jax.grad(functools.partial(loss, "weight", which="y")))
    expected = isonorm.rms_norm_backward(dy, **arrays, eps=EPS)
    assert same(of_weight(arrays["weight"]), expected.dweight)
    assert same(jax.grad(functools.partial(loss, "x", which="y"))(arrays["x"]), expected.dx)
    assert same(jax.grad(functools.partial(loss, "residual", which="residual_out"))(arrays["residual"]), dy)
    assert in_entry(of_weight.lower(arrays["weight"]).compile()) == {"all-gather": 1}  # that of the forward pass


def test_gradients_of_others_in_turn():
    """Programs that share what was traced, but want the gradients of other arrays."""
    arrays, dy = arrays_of(F32, "weight", "residual"), random((ROWS, COLS), seed=7)
    mapped = spread(functools.partial(parallel.rms_norm, eps=EPS, axis_name="model"), mesh_of(4), arrays)
    expected = isonorm.rms_norm_backward(dy, **arrays, eps=EPS)
    of = {"x": expected.dx, "weight": expected.dweight, "residual": expected.dx}
    for names in (("x", "weight"), ("weight",), ("x", "weight"), ("x",), ("residual", "weight"), ("weight",), ("x", "weight")):

        def y_of(*values, names=names):
            return mapped({**arrays, **dict(zip(names, values))})["y"]

        found = jax.jit(lambda *values, y_of=y_of: jax.vjp(y_of, *values)[1](jnp.asarray(dy)))(*(arrays[n] for n in names))
        assert all(same(gradient, of[name]) for name, gradient in zip(names, found)), names


# ------------------------------------------------------------------------------------------------------------ what is sent


def in_entry(compiled):
    """The collectives that run whatever the rows hold: those outside of the loop of further turns."""

    class Entry:
        def as_text(self):
            return compiled.as_text().partition("\nENTRY ")[2]

    return collectives(Entry())


@pytest.mark.parametrize("norm, forward", [("rms_norm", 1), ("layer_norm", 2)])
def test_one_number_of_each_row(norm, forward):
    arrays = arrays_of(BF16, "weight")
    mapped = spread(functools.partial(getattr(parallel, norm), eps=EPS, axis_name="model"), mesh_of(8), arrays)
    compiled = jax.jit(mapped).lower(arrays).compile()
    assert in_entry(compiled) == {"all-gather": forward}
    assert collectives(compiled) == {"all-gather": forward + 1}  # of the loop
    values = forward  # which LayerNorm has two of
    assert f"f32[8,{ROWS},{values}]" in compiled.as_text().partition("\nENTRY ")[2]
    gradients = jax.jit(jax.grad(lambda a: mapped(a)["y"].astype(jnp.float32).sum())).lower(arrays).compile()
    assert in_entry(gradients) == {"all-gather": forward + 1}


# -------------------------------------------------------------------------------------------------------------- transforms


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_kinds_of_mesh(kind):
    mesh = mesh_of(8, kind=kind)
    arrays = arrays_of(F32, "weight")
    placed = {n: jax.device_put(a, NamedSharding(mesh, COLUMNS if n == "x" else P("model"))) for n, a in arrays.items()}
    mapped = spread(functools.partial(parallel.rms_norm, eps=EPS, axis_name="model"), mesh, arrays)
    y = jax.jit(mapped)(placed)["y"]
    assert same(y, isonorm.rms_norm(**arrays, eps=EPS)) and y.sharding.spec == COLUMNS
    assert same(mapped(placed)["y"], y)  # eagerly


def test_scan_remat_and_vmap():
    mesh, weights = mesh_of(8), random((3, COLS), seed=5)
    norm = functools.partial(parallel.rms_norm, eps=0.0, axis_name="model")
    x = random((4, ROWS, COLS)) * np.float32([1, 1, 1e30, 1])[:, None, None]
    specs = P(None, None, "model")
    mapped = jax.shard_map(jax.vmap(norm, (0, None)), mesh=mesh, in_specs=(specs, P("model")), out_specs=specs)
    assert same(jax.jit(mapped)(x, weights[0]), isonorm.rms_norm(x, weights[0], eps=0.0))

    def layers(x, weights):
        return jax.lax.scan(jax.checkpoint(lambda x, weight: (norm(x, weight), None)), x, weights)[0]

    mapped = jax.shard_map(layers, mesh=mesh, in_specs=(COLUMNS, COLUMNS), out_specs=COLUMNS)
    y, pull = jax.vjp(jax.jit(mapped), x[0], weights)
    rows, dy = [x[0]], random((ROWS, COLS), seed=7)
    for weight in weights:
        rows.append(isonorm.rms_norm(rows[-1], weight, eps=0.0))
    assert same(y, rows[-1])
    dx, dweights = pull(jnp.asarray(dy))
    for i in (2, 1, 0):
        dy, dweight = isonorm.rms_norm_backward(dy, rows[i], weights[i], eps=0.0)
        assert same(dweights[i], dweight)
    assert same(dx, dy)


def test_many_at_once():
    """Calls that several threads share while other devices wait for what they send: nobody waits for what waits itself."""
    x, weight = random((128, 8192)), random(8192, seed=1)
    norm = functools.partial(parallel.layer_norm, eps=EPS, axis_name="model")
    scales = np.float32([1, 2, 3])
    mapped = jax.jit(
        jax.shard_map(
            lambda x, w: [norm(x * s, w) for s in scales], mesh=mesh_of(8), in_specs=(COLUMNS, P("model")), out_specs=COLUMNS
        )
    )
    expected = [isonorm.layer_norm(x * s, weight, eps=EPS) for s in scales]
    for found in [mapped(x, weight) for _ in range(8)]:
        assert all(same(a, b) for a, b in zip(found, expected))


# -------------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=str)
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_sums_over_rows_of_all_devices(devices, dtype, check_vma):
    x, weight, bias, dy = (random(s, dtype, i) for i, s in enumerate([(256, 40), 40, 40, (256, 40)]))
    expected = isonorm.layer_norm_backward(dy, x, weight, bias, eps=EPS)
    mapped = jax.shard_map(
        functools.partial(ij.layer_norm, eps=EPS, rows_axis="data"),
        mesh=mesh_of(devices, "data"), in_specs=(P("data"), P(), P()), out_specs=P("data"), check_vma=check_vma,
    )  # fmt: skip
    y, pull = jax.vjp(jax.jit(mapped), x, weight, bias)
    assert same(y, isonorm.layer_norm(x, weight, bias, eps=EPS))
    assert all(same(a, b) for a, b in zip(pull(jnp.asarray(dy)), expected))


@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=str)
def test_small_gradients(dtype):
    """Which XLA's sums would make 0 of: XLA computes without subnormal numbers."""
    x, weight, dy = (random(s, dtype, i) for i, s in enumerate([(64, 40), 40, (64, 40)]))
    dy = (dy.astype(F64) * 8 * float(np.finfo(np.float16).smallest_subnormal if dtype == F16 else 2.0**-133)).astype(dtype)
    mapped = jax.shard_map(
        functools.partial(ij.rms_norm, eps=EPS, rows_axis="data"), mesh=mesh_of(2, "data"), in_specs=(P("data"), P()), out_specs=P("data")
    )
    dweight = jax.vjp(jax.jit(mapped), x, weight)[1](jnp.asarray(dy))[1]
    assert same(dweight, isonorm.rms_norm_backward(dy, x, weight, eps=EPS).dweight) and np.asarray(dweight).any()


def test_other_devices_add_other_bits():
    """That the test above would see a sum in another order: the sums of JAX alone have other bits."""
    x, weight, dy = (random(s, F32, i) for i, s in enumerate([(256, 40), 40, (256, 40)]))
    found = []
    for devices in (1, 8):
        mapped = jax.shard_map(
            functools.partial(ij.rms_norm, eps=EPS), mesh=mesh_of(devices, "data"), in_specs=(P("data"), P()), out_specs=P("data")
        )
        found.append(jax.grad(lambda w, mapped=mapped: (mapped(x, w) * dy).sum())(weight))
    assert not same(*found)


@pytest.mark.parametrize("check_vma", [True, False])
def test_rows_and_columns(check_vma):
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "model"))
    x, weight, dy = (random(s, BF16, i) for i, s in enumerate([(128, COLS), COLS, (128, COLS)]))
    norm = functools.partial(parallel.rms_norm, eps=EPS, axis_name="model", rows_axis="data")
    rows = P("data", "model")
    mapped = jax.shard_map(norm, mesh=mesh, in_specs=(rows, P("model")), out_specs=rows, check_vma=check_vma)
    y, pull = jax.vjp(jax.jit(mapped), x, weight)
    assert same(y, isonorm.rms_norm(x, weight, eps=EPS))
    expected = isonorm.rms_norm_backward(dy, x, weight, eps=EPS)
    assert all(same(a, b) for a, b in zip(pull(jnp.asarray(dy)), expected))

    def inside(x, weight, dy):
        return jax.grad(lambda x, w: (norm(x, w) * dy).sum(), (0, 1))(x, weight)

    if check_vma:
        found = jax.jit(jax.shard_map(inside, mesh=mesh, in_specs=(rows, P("model"), rows), out_specs=(rows, P("model"))))
        assert all(same(a, b) for a, b in zip(found(x, weight, dy), expected))


def test_heads_over_rows_along_two_axes():
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("pod", "data"))
    q, k, weights, dq, dk = (random(s, F32, i) for i, s in enumerate([(64, 4, 16), (64, 2, 16), (2, 16), (64, 4, 16), (64, 2, 16)]))
    rows = P(("pod", "data"))
    mapped = jax.shard_map(
        lambda q, k, w: ij.qk_norm(q, k, w[0], w[1], eps=EPS, rows_axis=("pod", "data")),
        mesh=mesh, in_specs=(rows, rows, P()), out_specs=rows,
    )  # fmt: skip
    with pytest.raises(ValueError, match="^rows_axis is 'pod', 'data', whose 8 devices have 16 rows each, but that has to be 32 t"):
        jax.vjp(mapped, q, k, weights)[1]((jnp.asarray(dq), jnp.asarray(dk)))
    q, k, dq, dk = (np.concatenate([a, a * 2]) for a in (q, k, dq, dk))
    dweights = jax.vjp(jax.jit(mapped), q, k, weights)[1]((jnp.asarray(dq), jnp.asarray(dk)))[2]
    for i, (dy, x) in enumerate([(dq, q), (dk, k)]):
        assert same(dweights[i], isonorm.rms_norm_backward(dy, x, weights[i], eps=EPS).dweight)


def test_batches_of_rows():
    """Items of a batch are rows of one sum, or have sums of their own."""
    x, weights, dy = random((4, 64, 24)), random((4, 24), seed=1), random((4, 64, 24), seed=2)
    norm = functools.partial(ij.rms_norm, eps=EPS, rows_axis="data")
    rows = P(None, "data")

    def mapped(axis):
        inner = jax.vmap(norm, (0, axis))
        return jax.shard_map(inner, mesh=mesh_of(2, "data"), in_specs=(rows, P()), out_specs=rows)

    _, pull = jax.vjp(jax.jit(mapped(0)), x, weights)
    for i, dweight in enumerate(pull(jnp.asarray(dy))[1]):
        assert same(dweight, isonorm.rms_norm_backward(dy[i], x[i], weights[i], eps=EPS).dweight)
    # The first device has the first half of each item: that is the order of its rows.
    _, pull = jax.vjp(jax.jit(mapped(None)), x, weights[0])
    ordered = [np.concatenate(np.split(a, 2, 1)).reshape(256, 24) for a in (dy, x)]
    assert same(pull(jnp.asarray(dy))[1], isonorm.rms_norm_backward(*ordered, weights[0], eps=EPS).dweight)


@pytest.mark.parametrize("outer", [jax.jacrev, jax.jacfwd])
def test_second_derivatives_over_rows(outer):
    x, weight = random((64, 8)), random(8, seed=1)
    mapped = jax.shard_map(
        functools.partial(ij.rms_norm, eps=EPS, rows_axis="data"),
        mesh=mesh_of(2, "data"), in_specs=(P("data"), P()), out_specs=P("data"),
    )  # fmt: skip
    found, whole = (
        outer(jax.grad(lambda w, norm=norm: (norm(x, w) ** 2).sum()))(weight)
        for norm in (mapped, functools.partial(ij.rms_norm, eps=EPS))
    )
    # Sums of 64 terms of one sign, in two orders, of products that are rounded three times.
    assert (np.abs(found - whole) <= 2 * (64 + 3) * 2.0**-24 * np.abs(whole)).all() and np.asarray(whole).any()
