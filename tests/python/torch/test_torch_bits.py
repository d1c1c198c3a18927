"""What torch's face computes has the bits of NumPy's, for every option, layout and number of threads."""

import dataclasses

import numpy as np
import pytest
import torch
from torch_support import DTYPES, randn, same, to_numpy

import isonorm
import isonorm.torch as it

F32, BF16, F16, F64 = torch.float32, torch.bfloat16, torch.float16, torch.float64
RMS = [name for name in isonorm.contracts.names() if getattr(isonorm.contracts, name).statistic == "rms"]
GATED = [name for name in isonorm.contracts.names() if getattr(isonorm.contracts, name).gate_place != "none"]
MIXES = [(F32, F32), (BF16, BF16), (F16, F16), (F64, F64), (BF16, F32), (F32, BF16), (F16, BF16)]


def outputs(result):
    return result._asdict() if hasattr(result, "_asdict") else {"y": result}


def numpy_options(options):
    """The same options for NumPy's face."""
    options = {name: to_numpy(value) if isinstance(value, torch.Tensor) else value for name, value in options.items()}
    if "dtype" in options:
        options["dtype"] = DTYPES[options["dtype"]]
    rope = options.get("rope")
    if rope is not None:
        positions = None if rope.positions is None else rope.positions.numpy()
        cos, sin = to_numpy(rope.cos), to_numpy(rope.sin)
        options["rope"] = isonorm.Rope(cos, sin, positions, rope.position_axis, rope.position_offset, rope.style)
    return options


def check(x, weight=None, bias=None, *, norm="rms_norm", **options):
    """Forward without and with autograd, and the gradients of all that has one."""
    eps = options.pop("eps", 1e-5)
    expected = getattr(isonorm, norm)(to_numpy(x), to_numpy(weight), to_numpy(bias), eps=eps, **numpy_options(options))
    expected = outputs(expected)
    got = outputs(getattr(it, norm)(x, weight, bias, eps=eps, **options))
    assert list(got) == list(expected)
    for name in got:
        assert not got[name].requires_grad
        assert same(got[name], expected[name].reshape(tuple(got[name].shape))), name
    if "quantize" in options:
        return
    inputs = {"x": x, "weight": weight, "bias": bias, "residual": options.get("residual"), "gate": options.get("gate")}
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items() if value is not None}
    own = {**options, **{name: leaf for name, leaf in leaves.items() if name in ("residual", "gate")}}
    traced = outputs(getattr(it, norm)(leaves["x"], leaves.get("weight"), leaves.get("bias"), eps=eps, **own))
    for name in got:
        assert same(traced[name], got[name]), name
    dy = randn(*x.shape, dtype=traced["y"].dtype, seed=7)
    roots, cotangents = [traced["y"]], [dy]
    forward_only = ("dtype", "return_rstd", "return_mean")
    rest = numpy_options({name: value for name, value in options.items() if name not in forward_only})
    if "residual" in options:
        roots.append(traced["residual_out"])
        cotangents.append(randn(*x.shape, dtype=options["residual"].dtype, seed=8))
        rest["dresidual"] = to_numpy(cotangents[1])
    gradients = dict(zip(leaves, torch.autograd.grad(roots, list(leaves.values()), cotangents)))
    expected = getattr(isonorm, norm + "_backward")(
        to_numpy(dy), to_numpy(x), to_numpy(weight), to_numpy(bias), eps=eps, **rest
    )
    expected = expected._asdict() if hasattr(expected, "_asdict") else {"dx": expected}
    for name, gradient in expected.items():
        assert same(gradients[name[1:]], gradient), name
    if "residual" in options:
        assert same(gradients["residual"], gradients["x"].to(options["residual"].dtype))


@pytest.mark.parametrize("dtype, parameter", MIXES, ids=str)
@pytest.mark.parametrize("contract", RMS)
def test_contracts(contract, dtype, parameter):
    gate = randn(3, 5, 67, dtype=dtype, seed=3) if contract in GATED else None
    if gate is not None and dtype == F64:
        with pytest.raises(RuntimeError, match="gate is given with f64 data"):
            it.rms_norm(randn(2, 8, dtype=F64), gate=randn(2, 8, dtype=F64), eps=1e-5, contract=contract)
        return
    options = {} if gate is None else {"gate": gate}
    check(randn(3, 5, 67, dtype=dtype), randn(67, dtype=parameter, seed=1), contract=contract, **options)
    check(randn(3, 5, 67, dtype=dtype), randn(67, dtype=parameter, seed=1), randn(67, dtype=parameter, seed=2),
          contract=contract, return_rstd=True, **options)  # fmt: skip
    check(randn(3, 5, 67, dtype=dtype), contract=contract, **options)


@pytest.mark.parametrize("dtype", [F32, BF16, F64], ids=str)
def test_layer_norm(dtype):
    w, b = randn(67, dtype=dtype, seed=1), randn(67, dtype=dtype, seed=2)
    check(randn(3, 5, 67, dtype=dtype), w, b, norm="layer_norm", return_mean=True, return_rstd=True)
    check(randn(3, 5, 67, dtype=dtype), w, norm="layer_norm")
    check(randn(3, 5, 67, dtype=dtype), norm="layer_norm", residual=randn(3, 5, 67, dtype=dtype, seed=4))


@pytest.mark.parametrize("dtype", [F32, BF16, F16], ids=str)
def test_options(dtype):
    x, w, b = randn(4, 6, 64, dtype=dtype), randn(64, dtype=dtype, seed=1), randn(64, dtype=dtype, seed=2)
    check(x, w, b, groups=4, return_rstd=True)
    check(x, w, b, window=17)
    check(x, w, b, groups=2, window=9, contract="paper")
    check(x, w, b, residual=randn(4, 6, 64, dtype=dtype, seed=3), return_rstd=True)
    check(x, w, residual=randn(4, 6, 64, dtype=F32, seed=3))
    kept = dataclasses.replace(isonorm.contracts.gemma, sum_rounding="kept", weight_offset=0.25)
    check(x, w, residual=randn(4, 6, 64, dtype=BF16, seed=3), contract=kept)
    check(x, w, b, dtype=F32)
    gate = randn(4, 6, 64, dtype=dtype, seed=5)
    check(x, w, gate=gate, groups=2, contract="mamba2")
    check(x, w, b, gate=gate, contract=dataclasses.replace(isonorm.contracts.qwen3_next_gated, gate_function="sigmoid"))


@pytest.mark.parametrize("sum_rounding", ["stored", "kept"])
def test_one_gradient_alone(sum_rounding):
    """Which has the bits that it has among others."""
    contract = dataclasses.replace(isonorm.contracts.torch, sum_rounding=sum_rounding)
    tensors = {"x": randn(4, 64, dtype=BF16), "weight": randn(64, seed=1), "residual": randn(4, 64, seed=2)}
    cotangents = [randn(4, 64, dtype=BF16, seed=3), randn(4, 64, seed=4)]

    def gradients(*names):
        leaves = {name: tensor.clone().requires_grad_(name in names) for name, tensor in tensors.items()}
        results = it.rms_norm(**leaves, eps=1e-5, contract=contract)
        pairs = [(r, c) for r, c in zip(results, cotangents) if r.requires_grad]
        return torch.autograd.grad([r for r, _ in pairs], [leaves[name] for name in names], [c for _, c in pairs])

    for name, gradient in zip(tensors, gradients(*tensors)):
        assert same(gradients(name)[0], gradient), name


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("style", ["half", "interleaved"])
def test_rope(dtype, style):
    x, w = randn(2, 5, 3, 32, dtype=dtype), randn(32, dtype=dtype, seed=1)
    cos, sin = randn(9, 12, seed=2), randn(9, 12, seed=3)
    check(x, w, contract="llama", rope=it.Rope(cos, sin, position_axis=1, position_offset=3, style=style))
    check(x, w, rope=it.Rope(cos, sin, position_axis=-3, style=style))
    positions = torch.tensor([[0, 8, 1, 2, 3], [4, 4, 5, 6, 7]])
    for integer in (torch.int32, torch.int64):
        check(x, w, contract="gemma", rope=it.Rope(cos, sin, positions=positions.to(integer), style=style))


def test_qk_norm():
    packed = randn(2, 7, 6, 32)
    q, k = packed[..., :4, :], packed[..., 4:5, :]
    qw, kw = randn(32, seed=1), randn(32, seed=2)
    for rope in (None, it.Rope(randn(7, 16, seed=3), randn(7, 16, seed=4), position_axis=1)):
        options = {} if rope is None else {"rope": rope}
        expected = isonorm.qk_norm(*map(to_numpy, (q, k, qw, kw)), eps=1e-6, contract="llama", **numpy_options(options))
        leaves = [t.detach().requires_grad_() for t in (q, k, qw, kw)]
        got = it.qk_norm(*leaves, eps=1e-6, contract="llama", **options)
        assert same(got[0], expected.q) and same(got[1], expected.k)
        cotangents = [randn(*t.shape, seed=5) for t in got]
        gradients = torch.autograd.grad(got, leaves, cotangents)
        for i, (x, weight) in enumerate(((q, qw), (k, kw))):
            dx, dweight = it.rms_norm_backward(cotangents[i], x, weight, eps=1e-6, contract="llama", **options)
            assert same(gradients[i], dx) and same(gradients[i + 2], dweight)


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("x_dtype", [F32, BF16], ids=str)
def test_quantized(dtype, x_dtype):
    x, w = randn(3, 4, 128, dtype=x_dtype), randn(128, seed=1)
    for options in ({}, {"group_cols": 32}, {"scale": 0.05}, {"scale": "power_of_two", "group_cols": 64},
                    {"rounded_to": "bfloat16", "min_scale": 0.01, "scale_ub": 2.0}):  # fmt: skip
        check(x, w, quantize=isonorm.Quantization(dtype, **options))
    check(x, w, quantize=isonorm.Quantization(dtype), residual=randn(3, 4, 128, dtype=x_dtype, seed=3), return_rstd=True)
    check(x[0, 0], w, quantize=isonorm.Quantization(dtype))


def test_layouts():
    base, w = randn(6, 5, 4, 67), randn(134, seed=1)
    views = {
        "rows apart": base[::2, :, 1:],
        "transposed": base.transpose(0, 2),
        "columns apart": base[..., ::2],
        "last is not last": base.transpose(-1, 0),
        "repeated rows": base[:1].expand(6, 5, 4, 67),
        "repeated values": base[..., :1].expand(6, 5, 4, 67),
        "offset": base.flatten()[3 : 3 + 4 * 67].view(4, 67),
        "one column": base[..., 5:6],
        "one column, odd stride": torch.as_strided(base, (6, 1), (67, 3)),
        "nine dimensions": randn(2, 1, 2, 1, 3, 2, 1, 2, 67),
        "nine dimensions, not contiguous": randn(2, 1, 2, 1, 3, 2, 1, 67, 2).transpose(-1, -2)[:, :, :, :, ::2],
    }
    for name, x in views.items():
        weight = w[: 2 * x.shape[-1] : 2]
        x_numpy = np.ascontiguousarray(x.numpy()).reshape(-1, x.shape[-1])
        expected, rstd = isonorm.rms_norm(x_numpy, to_numpy(weight), eps=1e-6, return_rstd=True)
        got = it.rms_norm(x, weight, eps=1e-6, return_rstd=True)
        assert got.y.shape == x.shape and got.y.is_contiguous(), name
        assert same(got.y.reshape(-1, x.shape[-1]), expected) and same(got.rstd.reshape(-1), rstd), name
        dy = randn(x.shape[-1], *x.shape[:-1], seed=3).movedim(0, -1)
        gradients = it.rms_norm_backward(dy, x, weight, eps=1e-6, rstd=got.rstd)
        dx, dweight = isonorm.rms_norm_backward(
            np.ascontiguousarray(dy.numpy()).reshape(x_numpy.shape), x_numpy, to_numpy(weight), eps=1e-6
        )
        assert same(gradients.dx.reshape(-1, x.shape[-1]), dx) and same(gradients.dweight, dweight), name
        assert same(it.rms(x).reshape(-1), isonorm.rms(x_numpy)), name


def test_several_axes():
    x, w, b = randn(3, 4, 5, 6), randn(4, 5, 6, seed=1), randn(4, 5, 6, seed=2)
    y, mean, rstd = it.layer_norm(x, w, b, eps=1e-5, normalized_shape=(4, 5, 6), return_mean=True, return_rstd=True)
    flat = it.layer_norm(x.flatten(1), w.flatten(), b.flatten(), eps=1e-5, return_mean=True, return_rstd=True)
    assert y.shape == x.shape and same(y.flatten(1), flat.y) and same(mean, flat.mean) and same(rstd, flat.rstd)
    assert same(it.rms_norm(x, w[0, 0], eps=1e-5, normalized_shape=6), it.rms_norm(x, w[0, 0], eps=1e-5))
    dx, dweight = it.rms_norm_backward(y, x, w, eps=1e-5, normalized_shape=(4, 5, 6))
    assert dx.shape == x.shape and dweight.shape == w.shape


def test_empty_and_vectors():
    for shape in ((0, 7), (3, 0, 7), (2, 0, 1, 7)):
        x, w = torch.empty(shape, requires_grad=True), randn(7, seed=1, grad=True)
        y = it.rms_norm(x, w, eps=1e-6)
        assert y.shape == shape
        y.sum().backward()
        assert x.grad.shape == shape and torch.equal(w.grad, torch.zeros(7))
    x = randn(33)
    y, rstd = it.rms_norm(x, eps=1e-6, return_rstd=True)
    assert rstd.shape == () and same(y, isonorm.rms_norm(to_numpy(x), eps=1e-6))
    assert it.rms(x).shape == () and it.rms_penalty(x, 2.0).shape == ()


def test_vectors():
    for dtype in (F32, BF16, F64):
        x = randn(5, 67, dtype=dtype, grad=True)
        assert same(it.rms(x), isonorm.rms(to_numpy(x)))
        drms = randn(5, dtype=F64 if dtype == F64 else F32, seed=1)
        (dx,) = torch.autograd.grad(it.rms(x), x, drms)
        assert same(dx, isonorm.rms_backward(to_numpy(x), to_numpy(drms)))
        penalty, dx = isonorm.rms_penalty(to_numpy(x), 0.3)
        got = it.rms_penalty(x, 0.3)
        assert same(got, penalty)
        assert same(torch.autograd.grad(got.sum(), x)[0], dx)


@pytest.mark.parametrize("groups", [1, 2])
def test_double_backward(groups):
    x, w, dy, ddx = (randn(5, 64, seed=i) for i in range(4))
    w, ddweight = w[0], randn(64, seed=9)
    expected = isonorm.double_backward(
        *map(to_numpy, (dy, x, w)), ddx=to_numpy(ddx), ddweight=to_numpy(ddweight), eps=1e-5, groups=groups
    )
    got = it.double_backward(dy, x, w, ddx=ddx, ddweight=ddweight, eps=1e-5, groups=groups)
    leaves = [t.detach().requires_grad_() for t in (x, w, dy)]
    y = it.rms_norm(*leaves[:2], eps=1e-5, groups=groups)
    first = torch.autograd.grad(y, leaves[:2], leaves[2], create_graph=True)
    second = torch.autograd.grad(first, leaves, (ddx, ddweight))
    for name, through in zip(("dx", "dweight", "ddy"), second):
        assert same(getattr(got, name), getattr(expected, name)) and same(through, getattr(expected, name)), name


def test_threads():
    x, w = randn(300, 1031), randn(1031, seed=1)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            leaves = [x.clone().requires_grad_(), w.clone().requires_grad_()]
            y = it.rms_norm(*leaves, eps=1e-6)
            results.append((y, *torch.autograd.grad(y, leaves, x)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(same(a, b) for a, b in zip(results[0], other))
