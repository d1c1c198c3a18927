"""Gradients: of the functions, by differences; the same bits for any number of threads; sums that go on."""

import numpy as np
import pytest
from conftest import BF16, F16, F32, F64, random, same

import isonorm

CASES = {
    "torch": {},
    "llama": {},
    "gemma": {},
    "paper, window": {"contract": "paper", "window": 5},
    "groups": {"contract": "torch", "groups": 4},
    "layer_norm": {},
}


def call(name):
    options = dict(CASES[name])
    options.setdefault("contract", name)
    return options


def derivative(f, arrays, name, cotangent):
    """Of sum(f * cotangent) with respect to arrays[name], by central differences of f64, and a bound of their error.

    Differences D(h) err by c * h^2 and less, so D(h / 2) by a third of |D(h) - D(h / 2)|: the whole is a bound where terms of
    higher order count too. Roundings: the function has some ten operations for each of n terms, each at most 2^-53 of the sum
    of magnitudes, and the step divides what they leave by h."""
    h, x = 2.0**-12, arrays[name]
    result, bound = np.empty_like(x), np.empty_like(x)
    for i in np.ndindex(x.shape):
        differences, roundings = [], 0.0
        for step in (h, h / 2):
            ends = []
            for sign in (1, -1):
                moved = x.copy()
                moved[i] += sign * step
                terms = f(**{**arrays, name: moved}) * cotangent
                roundings = max(roundings, 2.0**-53 * 10 * terms.size * np.abs(terms).sum() / step)
                ends.append(terms.sum())
            differences.append((ends[0] - ends[1]) / (2 * step))
        result[i] = differences[1]
        bound[i] = abs(differences[0] - differences[1]) + roundings
    # Sharp enough to tell a wrong gradient from a right one.
    assert bound.max() < 2.0**-12 * max(1, np.abs(result).max())
    return result, bound


def assert_derivative(gradient, expected):
    result, bound = expected
    assert gradient.shape == result.shape and (np.abs(gradient - result) <= bound).all()


@pytest.mark.parametrize("name", CASES)
def test_first_derivatives(name):
    options = call(name)
    arrays = {"x": random((3, 12), F64, 1), "weight": random(12, F64, 2), "bias": random(12, F64, 3)}
    dy = random((3, 12), F64, 4)
    gradients = isonorm.rms_norm_backward(dy, **arrays, eps=1e-2, **options)
    assert gradients._fields == ("dx", "dweight", "dbias")
    for argument, gradient in zip(arrays, gradients):
        assert_derivative(gradient, derivative(lambda **a: isonorm.rms_norm(**a, eps=1e-2, **options), arrays, argument, dy))


@pytest.mark.parametrize("contract", ["mamba2", "qwen3_next_gated"])
def test_gates(contract):
    arrays = {"x": random((3, 8), F32, 1), "weight": random(8, F32, 2), "gate": random((3, 8), F32, 3)}
    dx, dweight, dgate = isonorm.rms_norm_backward(random((3, 8), F32, 4), **arrays, eps=1e-2, contract=contract)
    for name in ("dx", "dweight", "dgate"):
        alone = isonorm.rms_norm_backward(random((3, 8), F32, 4), **arrays, eps=1e-2, contract=contract, needs=name)
        assert same(alone, {"dx": dx, "dweight": dweight, "dgate": dgate}[name])


def test_statistics_of_forward_give_the_same_bits():
    x, weight, dy = random((70, 200), BF16, 1), random(200, BF16, 2), random((70, 200), BF16, 3)
    rstd = isonorm.rms_norm(x, weight, eps=1e-6, return_rstd=True).rstd
    again, saved = (isonorm.rms_norm_backward(dy, x, weight, eps=1e-6, rstd=r) for r in (None, rstd))
    assert same(again.dx, saved.dx) and same(again.dweight, saved.dweight)
    y, mean, rstd = isonorm.layer_norm(x, weight, eps=1e-6, return_mean=True, return_rstd=True)
    again = isonorm.layer_norm_backward(dy, x, weight, eps=1e-6)
    saved = isonorm.layer_norm_backward(dy, x, weight, eps=1e-6, mean=mean, rstd=rstd)
    assert same(again.dx, saved.dx) and same(again.dweight, saved.dweight)


@pytest.mark.parametrize(
    "dtype, kind", [(F32, None), (F32, BF16), (F32, F16), (BF16, None), (BF16, BF16), (F16, F16), (F64, None)], ids=str
)
def test_statistics_that_are_given_count(dtype, kind):
    """And not eps: those of another library may be rounded. The bits are those of the eps that they came from."""
    x, weight, dy = random((20, 60), dtype, 1) + np.asarray(2, dtype), random(60, dtype, 2), random((20, 60), dtype, 3)
    y, mean, rstd = isonorm.layer_norm(x, weight, eps=0.5, return_mean=True, return_rstd=True)
    own = isonorm.layer_norm_backward(dy, x, weight, eps=0.5, mean=mean, rstd=rstd)
    if kind is not None:
        mean, rstd = mean.astype(kind), rstd.astype(kind)
    found = [isonorm.layer_norm_backward(dy, x, weight, eps=eps, mean=mean, rstd=rstd) for eps in (0, 0.5, 7)]
    assert all(same(f.dx, found[0].dx) and same(f.dweight, found[0].dweight) for f in found)
    assert same(found[0].dx, own.dx) == (kind is None)
    assert not same(isonorm.layer_norm_backward(dy, x, weight, eps=0).dx, found[0].dx)
    # The formula, with the statistics as they are given, in f64.
    wide, factor, r = x.astype(F64), weight.astype(F64) * dy, rstd.astype(F64)[:, None]
    centred = wide - mean.astype(F64)[:, None]
    c = (centred - centred.mean(-1, keepdims=True)) * r
    terms = r * (factor - factor.mean(-1, keepdims=True) - c * (factor * c).mean(-1, keepdims=True))
    # 60 values: 7 levels and 12 operations for each sum, of which c * mean has two and its terms three factors; then x's type.
    size = np.abs(r) * (np.abs(factor) + np.abs(factor).mean(-1, keepdims=True) * (1 + 2 * np.abs(c) * np.abs(c).max()))
    unit = np.finfo(np.float64 if dtype == F64 else np.float32).eps
    last = {BF16: 2.0**-8, F16: 2.0**-11, F32: 2.0**-23, F64: 2.0**-52}[dtype]
    assert (np.abs(found[0].dx.astype(F64) - terms) <= 64 * unit * size + last * np.abs(terms)).all()


def test_a_row_alone_is_the_row_in_its_batch():
    for dtype, cols in ((F32, 1), (BF16, 67), (F16, 257), (F64, 130)):
        x, weight, dy = random((37, cols), dtype, 1), random(cols, dtype, 2), random((37, cols), dtype, 3)
        for contract in ("torch", "llama", "layer_norm"):
            whole = isonorm.rms_norm_backward(dy, x, weight, eps=1e-6, contract=contract, needs="dx")
            for i in (0, 17, 36):
                alone = isonorm.rms_norm_backward(dy[i], x[i], weight, eps=1e-6, contract=contract, needs="dx")
                assert same(alone, whole[i])


def test_residual():
    x, residual, weight, dy, dresidual = (random(s, F32, i) for i, s in enumerate([(9, 40), (9, 40), (40,), (9, 40), (9, 40)]))
    total = isonorm.rms_norm(x, weight, eps=1e-6, residual=residual).residual_out
    by_sum = isonorm.rms_norm_backward(dy, x, weight, eps=1e-6, residual_out=total, dresidual=dresidual)
    by_parts = isonorm.rms_norm_backward(dy, x, weight, eps=1e-6, residual=residual, dresidual=dresidual)
    assert same(by_sum.dx, by_parts.dx) and same(by_sum.dweight, by_parts.dweight)
    without = isonorm.rms_norm_backward(dy, total, weight, eps=1e-6)
    assert same(by_sum.dx, without.dx + dresidual)


def test_threads_do_not_change_a_bit():
    x, weight, dy = random((4099, 257), F32, 1), random(257, F32, 2), random((4099, 257), F32, 3)
    one = isonorm.rms_norm_backward(dy, x, weight, eps=1e-6, threads=1)
    for threads in (2, 7, None):
        many = isonorm.rms_norm_backward(dy, x, weight, eps=1e-6, threads=threads)
        assert same(many.dx, one.dx) and same(many.dweight, one.dweight)


def test_runs_of_rows_combine():
    x, weight, dy = random((200, 64), BF16, 1), random(64, BF16, 2), random((200, 64), BF16, 3)
    whole = isonorm.rms_norm_backward(dy, x, weight, eps=1e-6, needs="dweight")
    wide = weight.astype(np.float32)
    parts = [
        isonorm.rms_norm_backward(dy[i : i + 64], x[i : i + 64], wide, eps=1e-6, needs="dweight") for i in range(0, 200, 64)
    ]
    assert same(isonorm.parallel.combine_gradients(np.stack(parts), rows=200, part_rows=64, dtype=BF16), whole)
    started = random(64, BF16, 5)
    expected = (
        started.astype(np.float32) + isonorm.parallel.combine_gradients(np.stack(parts), rows=200, part_rows=64)
    ).astype(BF16)
    out = started.copy()
    isonorm.parallel.combine_gradients(np.stack(parts), rows=200, part_rows=64, out=out, accumulate=True)
    assert same(out, expected)


def test_accumulate():
    x, weight, bias, dy = random((40, 30), F32, 1), random(30, F32, 2), random(30, F32, 3), random((40, 30), F32, 4)
    fresh = isonorm.rms_norm_backward(dy, x, weight, bias, eps=1e-6, needs=("dweight", "dbias"))
    sums = {"dweight": np.ones(30, np.float32), "dbias": np.zeros(30, np.float32)}
    given = isonorm.rms_norm_backward(dy, x, weight, bias, eps=1e-6, needs=("dweight", "dbias"), accumulate=sums)
    assert given.dweight is sums["dweight"]
    assert same(sums["dweight"], 1 + fresh.dweight) and same(sums["dbias"], fresh.dbias)
    with pytest.raises(ValueError, match="each of 'dweight' and 'dbias'"):
        isonorm.rms_norm_backward(dy, x, weight, bias, eps=1e-6, accumulate={"dweight": sums["dweight"]})


@pytest.mark.parametrize("axis", [(-2, -1), 0, (0, 2)])
def test_axes(axis):
    x, dy = random((4, 6, 10), F32, 1), random((4, 6, 10), F32, 2)
    axes = sorted(a % 3 for a in ([axis] if isinstance(axis, int) else axis))
    weight = random([x.shape[a] for a in axes], F32, 3)
    dx, dweight = isonorm.rms_norm_backward(dy, x, weight, eps=1e-6, axis=axis)
    to_rows = lambda a: np.ascontiguousarray(np.moveaxis(a, axes, range(-len(axes), 0))).reshape(-1, weight.size)  # noqa: E731
    rows = isonorm.rms_norm_backward(to_rows(dy), to_rows(x), weight.ravel(), eps=1e-6)
    assert same(to_rows(dx), rows.dx) and same(dweight, rows.dweight.reshape(weight.shape))


def test_many_dimensions():
    x, dy = random((2,) * 9 + (6,), F32, 1), random((2,) * 9 + (6,), F32, 2)
    y, rstd = isonorm.rms_norm(x, eps=1e-6, groups=3, return_rstd=True)
    flat = isonorm.rms_norm(x.reshape(-1, 6), eps=1e-6, groups=3, return_rstd=True)
    assert rstd.shape == (2,) * 9 + (3,) and same(rstd.reshape(-1, 3), flat.rstd)
    dx = isonorm.rms_norm_backward(dy, x, eps=1e-6, groups=3, rstd=rstd)
    assert same(dx, isonorm.rms_norm_backward(dy, x, eps=1e-6, groups=3))
    quantised = isonorm.rms_norm(x, eps=1e-6, quantize=isonorm.Quantization("int8"))
    assert quantised.scale.shape == (2,) * 9
    with pytest.raises(ValueError, match="rstd has shape"):
        isonorm.rms_norm_backward(dy, x, eps=1e-6, groups=3, rstd=flat.rstd)


def test_second_derivatives():
    arrays = {"dy": random((2, 6), F64, 1), "x": random((2, 6), F64, 2), "weight": random(6, F64, 3)}
    ddx, ddweight = random((2, 6), F64, 4), random(6, F64, 5)

    def both(**a):
        gradients = isonorm.rms_norm_backward(a["dy"], a["x"], a["weight"], eps=1e-2)
        return np.append(gradients.dx.ravel(), gradients.dweight)

    ours = isonorm.double_backward(**arrays, ddx=ddx, ddweight=ddweight, eps=1e-2)
    assert ours._fields == ("dx", "dweight", "ddy")
    for name, gradient in zip(("x", "weight", "dy"), ours):
        assert_derivative(gradient, derivative(both, arrays, name, np.append(ddx.ravel(), ddweight)))
    with pytest.raises(ValueError, match="contract"):
        isonorm.double_backward(**arrays, ddx=ddx, eps=1e-2, contract="layer_norm")


def test_vectors():
    x = random((5, 33), F64, 1)
    drms = random(5, F64, 2)
    assert_derivative(isonorm.rms_backward(x, drms), derivative(lambda x: isonorm.rms(x), {"x": x}, "x", drms))
    penalty, dx = isonorm.rms_penalty(x, 0.25)
    # Two sums of 33 positive terms, each at most 34 roundings of half a unit away.
    assert (np.abs(penalty - 0.25 * (x * x).mean(-1)) <= 34 * np.spacing(penalty)).all()
    assert (np.abs(dx - x * (0.5 / 33)) <= 2 * np.spacing(np.abs(dx))).all()
    total = np.ones_like(x)
    again = isonorm.rms_penalty(x, 0.25, accumulate=total)
    assert again.dx is total and (np.abs(total - (1 + dx)) <= np.spacing(2.0)).all()
    assert isonorm.rms(x, axis=0).shape == (33,) and isonorm.rms(x[0]).shape == ()
    assert same(isonorm.rms(np.full((2, 4), 2.0**127, np.float32)), np.full(2, 2.0**127, np.float32))
    assert isonorm.rms(random((4, 8), F16)).dtype == np.float32


def test_what_is_wrong_is_named():
    x, weight, dy = random((3, 8)), random(8), random((3, 8))
    for words, arguments in (
        ("dy.shape", {"dy": random((2, 8))}),
        ("needs has 'dw'", {"needs": "dw"}),
        ("needs has 'dgate', but no gate", {"needs": "dgate"}),
        ("accumulate has 'dx'", {"accumulate": {"dx": x}}),
        ("rstd.shape", {"rstd": random((4,))}),
    ):
        with pytest.raises(ValueError, match=words):
            isonorm.rms_norm_backward(**{"dy": dy, "x": x, "weight": weight, "eps": 1e-6, **arguments})
