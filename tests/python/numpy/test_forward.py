"""Forward: the bits of the command, whatever the axes, strides, threads and batch."""

import dataclasses
import itertools

import numpy as np
import pytest
from conftest import BF16, E4M3, E5M2, F16, F32, F64, random, same

import isonorm

PLAIN = ["torch", "llama", "onnx", "t5", "gemma", "paper", "microgpt"]
WIDTHS = [1, 2, 7, 63, 64, 65, 127, 128, 129, 257, 2880, 5121]


@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
@pytest.mark.parametrize("contract", [*PLAIN, "layer_norm"])
def test_the_bits_of_the_command(apply, contract, dtype):
    for cols, rows in itertools.product((1, 65, 2880), (1, 5)):
        x, weight = random((rows, cols), dtype, 1), random(cols, dtype, 2)
        theirs = apply({"x": x, "w": weight}, "--contract", contract, "--eps", 1e-5, "--weight", "w")["x"]
        assert same(isonorm.rms_norm(x, weight, eps=1e-5, contract=contract), theirs)


@pytest.mark.parametrize("types", list(itertools.product([F32, BF16, F16], repeat=3)), ids=lambda t: "-".join(map(str, t)))
def test_types_in_any_mix(apply, types):
    x, weight = random((3, 129), types[0], 3), random(129, types[1], 4)
    word = {F32: "f32", BF16: "bf16", F16: "f16"}[types[2]]
    theirs = apply({"x": x, "w": weight}, "--contract", "llama", "--eps", 1e-6, "--weight", "w", "--out-dtype", word)["x"]
    assert same(isonorm.rms_norm(x, weight, eps=1e-6, contract="llama", dtype=types[2]), theirs)


def test_f64_may_give_f32(apply):
    x = random((2, 100), F64)
    theirs = apply({"x": x}, "--contract", "torch", "--eps", 0, "--out-dtype", "f32")["x"]
    assert same(isonorm.rms_norm(x, eps=0, dtype=np.float32), theirs)


def test_residual(apply):
    x, residual, weight = random((4, 130), BF16, 1), random((4, 130), BF16, 2), random(130, F32, 3)
    theirs = apply(
        {"x": x, "r": residual, "w": weight},
        *("--contract", "llama", "--eps", 1e-6, "--weight", "w", "--residual", "r", "--residual-out", "sum"),
    )
    ours = isonorm.rms_norm(x, weight, eps=1e-6, contract="llama", residual=residual)
    assert ours._fields == ("y", "residual_out")
    assert same(ours.y, theirs["x"]) and same(ours.residual_out, theirs["sum"])
    kept = dataclasses.replace(isonorm.contracts.llama, sum_rounding="kept")
    theirs = apply(
        {"x": x, "r": residual, "w": weight},
        *("--contract", "llama", "--eps", 1e-6, "--weight", "w", "--residual", "r", "--sum-rounding", "kept"),
    )
    assert same(isonorm.rms_norm(x, weight, eps=1e-6, contract=kept, residual=residual).y, theirs["x"])


@pytest.mark.parametrize("contract, groups", [("mamba2", 1), ("mamba2", 4), ("qwen3_next_gated", 1)])
def test_gates(apply, contract, groups):
    x, gate, weight = random((5, 128), BF16, 1), random((5, 128), BF16, 2), random(128, F32, 3)
    theirs = apply(
        {"x": x, "g": gate, "w": weight},
        *("--contract", contract, "--eps", 1e-6, "--weight", "w", "--gate", "g", "--groups", groups),
    )["x"]
    assert same(isonorm.rms_norm(x, weight, eps=1e-6, contract=contract, gate=gate, groups=groups), theirs)


def test_window_bias_and_groups(apply):
    x, weight, bias = random((3, 96), F32, 1), random(96, F32, 2), random(96, F32, 3)
    tensors = {"x": x, "w": weight, "b": bias}
    theirs = apply(tensors, "--contract", "paper", "--eps", 1e-3, "--weight", "w", "--bias", "b", "--groups", 3, "--window", 8)[
        "x"
    ]
    ours, rstd = isonorm.rms_norm(x, weight, bias, eps=1e-3, contract="paper", groups=3, window=8, return_rstd=True)
    assert same(ours, theirs) and rstd.shape == (3, 3)


@pytest.mark.parametrize("word, dtype", [("i8", np.dtype(np.int8)), ("e4m3", E4M3), ("e5m2", E5M2)])
@pytest.mark.parametrize("kind", ["dynamic", "power_of_two", "static"])
@pytest.mark.parametrize("group", [0, 32])
def test_quantised(apply, word, dtype, kind, group):
    if kind == "static" and group:
        group = 0
    x, weight = random((3, 128), BF16, 1), random(128, BF16, 2)
    options = [
        "--contract",
        "torch",
        "--eps",
        1e-6,
        "--weight",
        "w",
        "--out-dtype",
        word,
        "--scale-kind",
        kind,
        "--round-to",
        "bf16",
    ]
    options += ["--scale-group", group] if group else []
    options += ["--scale", 0.03125] if kind == "static" else []
    theirs = apply({"x": x, "w": weight}, *options)
    scale = 0.03125 if kind == "static" else kind
    quantize = isonorm.Quantization(dtype.name, scale, group_cols=group, rounded_to="bfloat16")
    ours = isonorm.rms_norm(x, weight, eps=1e-6, quantize=quantize)
    if kind == "static":
        assert same(ours, theirs["x"])
        return
    assert ours._fields == ("y", "scale") and same(ours.y, theirs["x"])
    scales = theirs["x_scale"]
    assert (ours.scale.view(f"u{ours.scale.itemsize}").ravel() == scales.view(f"u{scales.itemsize}").ravel()).all()
    assert ours.scale.shape == ((3, 4) if group else (3,))


@pytest.mark.parametrize("cols", WIDTHS)
def test_a_row_alone_is_the_row_in_its_batch(cols):
    x, weight = random((67, cols), BF16, cols), random(cols, F32, 2)
    for contract in ("torch", "llama", "layer_norm"):
        whole = isonorm.rms_norm(x, weight, eps=1e-6, contract=contract)
        assert all(same(isonorm.rms_norm(x[i], weight, eps=1e-6, contract=contract), whole[i]) for i in range(67))


def test_threads_do_not_change_a_bit():
    x, weight = random((1031, 2049), F32, 1), random(2049, F32, 2)
    one = isonorm.rms_norm(x, weight, eps=1e-6, threads=1)
    assert all(same(isonorm.rms_norm(x, weight, eps=1e-6, threads=n), one) for n in (2, 3, 64, None))


def test_targets_do_not_change_a_bit():
    x, weight = random((5, 1000), F16, 1), random(1000, F16, 2)
    try:
        results = []
        for target in isonorm.targets():
            isonorm.set_target(target)
            results.append(isonorm.rms_norm(x, weight, eps=1e-6, contract="t5"))
            assert isonorm.last_kernel().endswith("@" + target)
    finally:
        isonorm.set_target(None)
    assert len(results) > 1 and all(same(r, results[0]) for r in results)


def strided_views(dtype):
    base = random((6, 10, 40), dtype, 9)
    yield "slice of columns", base[:, :, 3:36]
    yield "every other row", base[::2, 1::3]
    yield "backwards", base[::-1, ::-1]
    yield "axes swapped", base.transpose(1, 0, 2)
    yield "one row repeated", np.broadcast_to(base[0, 0], (3, 4, 40))
    yield "one value repeated", np.broadcast_to(base[:, :, :1], base.shape)
    yield "read-only", np.frombuffer(base.tobytes(), dtype).reshape(base.shape)
    yield "not aligned", np.frombuffer(b"\0" + base.tobytes(), dtype, offset=1).reshape(base.shape)


@pytest.mark.parametrize("dtype", [F32, BF16, F64], ids=str)
def test_strided_input(dtype):
    for name, view in strided_views(dtype):
        weight = random(view.shape[-1], dtype, 5)
        compact = np.ascontiguousarray(view)
        assert same(isonorm.rms_norm(view, weight, eps=1e-6), isonorm.rms_norm(compact, weight, eps=1e-6)), name


def test_rows_that_are_not_contiguous_are_copied():
    x, weight, bias = random((40, 3)).T, random(80)[::2], random(40)[::-1]
    assert same(isonorm.rms_norm(x, weight, eps=1e-6), isonorm.rms_norm(x.copy(), weight.copy(), eps=1e-6))
    assert same(
        isonorm.rms_norm(x, weight, bias, eps=1e-6, residual=x, contract="paper").y,
        isonorm.rms_norm(x.copy(), weight.copy(), bias.copy(), eps=1e-6, residual=x.copy(), contract="paper").y,
    )
    with pytest.raises(ValueError, match="out.strides|y.strides"):
        isonorm.rms_norm(x, weight, eps=1e-6, out=np.empty((40, 3), np.float32).T)


@pytest.mark.parametrize("axis", [-1, 2, (2,), (-2, -1), (1, 2), (0, 1, 2), 0, 1, (0, 2), (2, 1)])
def test_axes(axis):
    x = random((4, 6, 10), F32, 7)
    axes = tuple(sorted(a % 3 for a in ([axis] if isinstance(axis, int) else axis)))
    size = [x.shape[a] for a in axes]
    weight = random(size, F32, 8)
    moved = np.moveaxis(x, axes, range(-len(axes), 0))
    rows = np.ascontiguousarray(moved).reshape(moved.shape[: 3 - len(axes)] + (-1,))
    expected = isonorm.rms_norm(rows, weight.ravel(), eps=1e-6).reshape(moved.shape)
    expected = np.ascontiguousarray(np.moveaxis(expected, range(-len(axes), 0), axes))
    assert same(np.ascontiguousarray(isonorm.rms_norm(x, weight, eps=1e-6, axis=axis)), expected)
    if axes == tuple(range(3 - len(axes), 3)):
        out = np.empty_like(x)
        assert isonorm.rms_norm(x, weight, eps=1e-6, axis=axis, out=out) is out
        assert same(out, expected)


def test_many_dimensions():
    x = random((2,) * 9 + (5,), F32)
    assert same(isonorm.rms_norm(x, eps=1e-6), isonorm.rms_norm(x.reshape(-1, 5), eps=1e-6).reshape(x.shape))


@pytest.mark.parametrize("shape", [(0, 8), (2, 0, 8), (0, 1)])
def test_empty(shape):
    y, rstd = isonorm.rms_norm(np.empty(shape, np.float32), np.ones(shape[-1], np.float32), eps=1e-6, return_rstd=True)
    assert y.shape == shape and rstd.shape == shape[:-1]


def test_rows_without_values_have_no_mean():
    with pytest.raises(ValueError, match="at least 1 value"):
        isonorm.rms_norm(np.empty((3, 0), np.float32), eps=1e-6)


def test_in_place_and_into_slices():
    x, weight = random((9, 200), BF16, 1), random(200, BF16, 2)
    expected = isonorm.rms_norm(x, weight, eps=1e-6)
    wide = np.zeros((9, 300), BF16)
    assert same(isonorm.rms_norm(x, weight, eps=1e-6, out=wide[:, 50:250]), expected)
    assert not wide[:, :50].any() and not wide[:, 250:].any()
    y = isonorm.rms_norm(x, weight, eps=1e-6, out=x)
    assert y is x and same(x, expected)


@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=str)
def test_a_weight_of_f64_is_rounded_to_f32(dtype):
    x, weight, bias = random((3, 50), dtype, 1), np.linspace(0.1, 2, 50), np.linspace(-1, 1, 50) / 3
    narrow = [weight.astype(np.float32), bias.astype(np.float32)]
    assert (narrow[0] != weight).any()
    expected = isonorm.rms_norm(x, *narrow, eps=1e-6, contract="paper")
    assert same(isonorm.rms_norm(x, weight, bias, eps=1e-6, contract="paper"), expected)
    assert same(isonorm.rms_norm(x, weight, eps=1e-6), isonorm.rms_norm(x, narrow[0], eps=1e-6))
    assert same(isonorm.rms_norm(x, weight, eps=1e-6, axis=1), isonorm.rms_norm(x, narrow[0], eps=1e-6))
    q, k = isonorm.qk_norm(x[None], x[None], weight, weight, eps=1e-6)
    assert same(q[0], isonorm.rms_norm(x, narrow[0], eps=1e-6)) and same(k, q)
    dx, dweight, dbias = isonorm.rms_norm_backward(x, x, weight, bias, eps=1e-6)
    own = isonorm.rms_norm_backward(x, x, *narrow, eps=1e-6)
    assert same(dx, own.dx) and same(dweight, own.dweight) and same(dbias, own.dbias) and dweight.dtype == F32


def test_beside_an_x_of_f64_a_weight_becomes_f64():
    x, weight = random((3, 50), F64, 1), np.linspace(0.1, 2, 50)
    for narrow in (weight.astype(np.float32), weight.astype(BF16), weight.astype(np.float16)):
        assert same(isonorm.rms_norm(x, narrow, eps=1e-6), isonorm.rms_norm(x, narrow.astype(np.float64), eps=1e-6))


def test_layer_norm_is_its_contract():
    x = np.random.default_rng(1).integers(-8, 9, (3, 64)).astype(np.float32)  # whose sums are exact
    weight, bias = random(64, F32, 2), random(64, F32, 3)
    y, mean, rstd = isonorm.layer_norm(x, weight, bias, eps=1e-5, return_mean=True, return_rstd=True)
    assert same(y, isonorm.rms_norm(x, weight, bias, eps=1e-5, contract="layer_norm"))
    assert same(mean, x.mean(-1))
    wide = 1 / np.sqrt(x.astype(np.float64).var(-1) + 1e-5)
    assert (np.abs(rstd - wide) <= np.spacing(rstd)).all()
    with pytest.raises(ValueError, match="use rms_norm"):
        isonorm.layer_norm(x, eps=1e-5, contract="torch")


def test_statistics_where_asked():
    x = random((2, 3, 64))
    y, rstd = isonorm.rms_norm(x, eps=1e-6, return_rstd=True)
    assert rstd.shape == (2, 3) and rstd.dtype == np.float32
    assert same(isonorm.rms_norm(x, eps=1e-6), y)
    assert isonorm.rms_norm(x.astype(np.float64), eps=1e-6, return_rstd=True).rstd.dtype == np.float64
    assert isonorm.rms_norm(x[0, 0], eps=1e-6, return_rstd=True).rstd.shape == ()
