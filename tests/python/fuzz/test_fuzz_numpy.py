"""Forward in NumPy, called well and badly: no crash, an exception that names the argument and has written nothing, or values."""

import dataclasses

import numpy as np
from fuzz_arrays import agree, bools, calls, entries, judge, plain, ropes, spoil
from fuzz_support import BF16, F16, F32, F64, FLOATS, GATED, LAYER, examples, laid_out, values
from hypothesis import given
from hypothesis import strategies as st

import isonorm


@st.composite
def forward_calls(draw):
    call = draw(calls())
    x = call["x"]
    if draw(st.integers(0, 4)) == 0:
        scale = draw(st.sampled_from(["dynamic", "power_of_two", 0.5]))
        kind = draw(st.sampled_from(["int8", "float8_e4m3fn", "float8_e5m2"]))
        rounded_to = draw(st.sampled_from([None, "bfloat16", "float16"]))
        call["quantize"] = isonorm.Quantization(kind, scale, draw(st.sampled_from([0, 0, 32, 64])), rounded_to)
    call["return_rstd"] = draw(bools)
    call["return_mean"] = call["contract"] in LAYER and draw(bools)
    way = draw(st.integers(0, 5))
    dtype = call["quantize"].numpy_dtype if "quantize" in call else x.dtype
    if way == 0:
        call["out"] = np.zeros(x.shape, dtype)
    elif way == 1 and "quantize" not in call:
        call["out"] = x  # in place, which a broadcast x refuses
    elif way == 2:
        call["out"] = np.zeros((*x.shape[:-1], x.shape[-1] + 3), dtype)[..., : x.shape[-1]]
    elif way == 3 and x.dtype != F64 and "quantize" not in call:
        call["dtype"] = draw(st.sampled_from([F32, BF16, F16]))
    if "residual" in call and draw(st.integers(0, 2)) == 0:
        call["residual_out"] = draw(st.sampled_from([np.zeros(x.shape, call["residual"].dtype), call["residual"]]))
    return call


UNIT = {F32: 2.0**-24, F16: 2.0**-11, BF16: 2.0**-8, F64: 2.0**-53}
LEAST = {F32: 2.0**-149, F16: 2.0**-24, BF16: 2.0**-133, F64: 2.0**-1074}


def check_formula(call, y):
    """y against the formula in float64, where that is what a plain call computes and nothing leaves the range of the types.

    With u the unit of the compute type, a sum of n squares is n + 1 of them away at most, the inverse root half of that and 3
    more, and the products and sums that follow 5; every rounding to a type of storage adds its own unit. All are relative to
    the product and the bias before they are added. float64 as an oracle of itself is as far away again."""
    if {"residual", "gate", "groups", "window", "rope", "quantize"} & call.keys() or call["contract"] in GATED | LAYER:
        return
    x, contract = call["x"], isonorm.contracts.resolve(call["contract"])
    axis = tuple(int(a) % x.ndim for a in np.atleast_1d(call["axis"]))
    kept = [size if i in axis else 1 for i, size in enumerate(x.shape)]
    compute = F64 if x.dtype == F64 else F32
    weight = np.ones(kept) - contract.weight_offset
    if "weight" in call:
        weight = call["weight"].astype(compute).astype(F64).reshape(kept)
    bias = call["bias"].astype(compute).astype(F64).reshape(kept) if "bias" in call else np.zeros(kept)
    eps = float(compute.type(call["eps"]))
    with np.errstate(all="ignore"):
        wide = x.astype(F64)
        square = np.mean(wide * wide, axis, keepdims=True)
        rstd = 1 / np.sqrt(square + eps) if contract.eps_place == "inside" else 1 / (np.sqrt(square) + eps)
        exact = wide * rstd * (weight + contract.weight_offset) + bias
        factor = np.abs(weight) + abs(contract.weight_offset)
        size = np.abs(wide * rstd) * factor + np.abs(bias)
    rounded = {"none": [], "to_x": [x.dtype], "to_weight": [call["weight"].dtype if "weight" in call else F32]}
    types = [*rounded[contract.scaled_rounding], y.dtype]
    u = UNIT[compute] * (2 if compute == F64 else 1)
    bound = size * (((np.prod(kept) + 1) / 2 + 8) * u + 1.01 * sum(UNIT[t] for t in types))
    bound = bound + (1 + factor) * max(LEAST[t] for t in (compute, *types))
    fair = (square > 1e-30) & (square < 1e30) & np.isfinite(exact) & (size < (6e4 if F16 in types else 1e30))
    with np.errstate(invalid="ignore"):
        assert not (fair & ~(np.abs(y.astype(F64) - exact) <= bound)).any()


@examples(250)
@given(st.data())
def test_forward(data):
    call = data.draw(forward_calls())
    if data.draw(bools):
        spoil(data.draw, call, isonorm.rms_norm)
        judge(isonorm.rms_norm, call, ("out", "residual_out"))
        return
    expected = {name: plain(value) for name, value in call.items()}
    results = judge(isonorm.rms_norm, call, ("out", "residual_out"))
    if results is not None:
        check_formula(expected, results.y if isinstance(results, tuple) else results)
        for name in ("out", "residual_out", "threads"):
            if name in call and isinstance(call[name], np.ndarray):
                assert any(value is call[name] for value in entries(results).values())
            expected.pop(name, None)
        agree(results, isonorm.rms_norm(**expected, threads=1))


@examples(80)
@given(st.data())
def test_into(data):
    """Of arrays of NumPy; tensors of torch are in test_fuzz_torch.py."""
    draw = data.draw
    call = draw(calls())
    x = call["x"]
    call.pop("axis"), call.pop("rope", None)
    for name in ("weight", "bias"):
        if name in call:
            call[name] = draw(values(x.shape[-1:], F64 if x.dtype == F64 else F32))
    compute = F64 if x.dtype == F64 else F32
    groups = (call["groups"],) if call.get("groups", 1) > 1 else ()
    call["out"] = np.zeros(x.shape, x.dtype)
    if "residual" in call:
        call["residual_out"] = np.zeros(x.shape, call["residual"].dtype)
    if draw(bools):
        call["rstd"] = np.zeros(x.shape[:-1] + groups, compute)
        if call["contract"] in LAYER:
            call["mean"] = np.zeros(x.shape[:-1] + groups, compute)
    outputs = ("out", "residual_out", "mean", "rstd")
    if draw(bools):
        spoil(draw, call, isonorm.into)
        judge(isonorm.into, call, outputs)
    elif judge(isonorm.into, call, outputs) is not None:
        own = {name: plain(call.pop(name)) for name in outputs if name in call}
        wanted = {"return_rstd": "rstd" in own, "return_mean": "mean" in own}
        expected = entries(isonorm.rms_norm(**{name: plain(value) for name, value in call.items()}, **wanted))
        agree(own["out"], expected.pop("y", expected.get("")))
        for name in own.keys() - {"out"}:
            agree(own[name], expected[name])


@examples(80)
@given(st.data())
def test_qk_norm(data):
    draw = data.draw
    shape = draw(st.tuples(*[st.integers(0, 3)] * draw(st.integers(1, 4)), st.sampled_from([2, 4, 7, 64])))
    dtype = draw(st.sampled_from(FLOATS))
    call = {"eps": 1e-6, "contract": draw(st.sampled_from(["torch", "llama", "gemma", "paper"]))}
    for name, heads in (("q", shape[-2]), ("k", draw(st.integers(0, 3)))):
        own = (*shape[:-2], heads, shape[-1])
        call[name] = draw(laid_out(draw(values(own, dtype))))
        if draw(bools):
            call[f"{name}_weight"] = draw(
                laid_out(draw(values(own[-1:], F64 if dtype == F64 else draw(st.sampled_from(FLOATS)))))
            )
    if len(shape) > 2 and draw(bools):
        call["rope"] = draw(ropes((*shape[:-2], shape[-1]), dtype))
    if draw(bools):
        call["out"] = (call["q"], call["k"]) if draw(bools) else tuple(np.zeros(call[n].shape, dtype) for n in "qk")
    if draw(bools):
        spoil(draw, call, isonorm.qk_norm)
        judge(isonorm.qk_norm, call, ("out",))
        return
    expected = {name: plain(value) for name, value in call.items() if name != "out"}
    results = judge(isonorm.qk_norm, call, ("out",))
    if results is None:
        return
    agree(results, isonorm.qk_norm(**expected, threads=1))
    for name in "qk":
        if "rope" not in call:
            weight = expected.get(f"{name}_weight")
            alone = isonorm.rms_norm(expected[name], weight, eps=1e-6, contract=call["contract"])
            agree(getattr(results, name), alone)


@examples(80)
@given(st.data())
def test_choices(data):
    """Contract, Quantization and Rope say at once what they do not allow, or the call does."""
    draw = data.draw
    for kind, call in (
        (
            isonorm.Contract,
            {f.name: getattr(isonorm.contracts.torch, f.name) for f in dataclasses.fields(isonorm.Contract) if f.init},
        ),
        (isonorm.Quantization, {"dtype": "int8", "scale": "dynamic", "group_cols": 0, "rounded_to": None}),
        (isonorm.Rope, {"cos": np.ones((4, 2), F32), "sin": np.ones((4, 2), F32), "position_axis": 0, "style": "half"}),
    ):
        spoil(draw, call, kind)
        made = judge(kind, call)
        if made is not None:
            name = {isonorm.Contract: "contract", isonorm.Quantization: "quantize", isonorm.Rope: "rope"}[kind]
            judge(isonorm.rms_norm, {"x": np.ones((3, 8), F32), "eps": 1e-6, name: made}, names=call)
