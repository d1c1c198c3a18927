"""Torch's face, called well and badly: no crash, an exception that names the argument, or the bits of a plain call. Functions,
modules, operators called directly, and torch's own functions while they are replaced."""

import inspect

import hypothesis
import torch
from fuzz_support import CONTRACTS, LAYER, NONSENSE, examples
from fuzz_tensors import (
    ALLOWED, FLOATS, agree, bits, bools, calls, is_plain, is_torchs, judge, plain, spoil, tensors, wrong_tensor,
)  # fmt: skip
from hypothesis import given, note
from hypothesis import strategies as st

import isonorm
import isonorm.torch as it

OPERATORS = [
    *("rms_norm", "_rms_norm", "_rms_norm_rstd", "_rms_norm_backward", "forward", "_forward", "quantized", "backward"),
    *("double_backward", "qk_norm", "qk_norm_backward", "rms", "rms_backward", "rms_penalty"),
]


@examples(120)
@given(st.data())
def test_forward(data):
    draw = data.draw
    call = draw(calls())
    if draw(st.integers(0, 4)) == 0:
        call["quantize"] = isonorm.Quantization("int8", draw(st.sampled_from(["dynamic", "power_of_two", 0.5])))
    call["return_rstd"], call["return_mean"] = draw(bools), call["contract"] in LAYER and draw(bools)
    if draw(bools):
        spoil(draw, call, inspect.signature(it.rms_norm).parameters)
        judge(it.rms_norm, call)
        return
    results = judge(it.rms_norm, call)
    if results is not None:
        agree(results, it.rms_norm(**{name: plain(value) for name, value in call.items()}))


@examples(80)
@given(st.data())
def test_gradients(data):
    draw = data.draw
    call = draw(calls())
    call["dy"] = draw(tensors(call["x"].shape, call["x"].dtype))
    if draw(bools):
        call["needs"] = draw(st.sampled_from(["dx", ["dx", "dweight"], ("dbias",)]))
    function = it.rms_norm_backward
    if draw(st.integers(0, 3)) == 0:
        function = it.double_backward
        call = {n: v for n, v in call.items() if n in ("dy", "x", "weight", "eps", "contract", "groups")}
        call["ddx"] = draw(tensors(call["x"].shape, call["x"].dtype))
    if draw(bools):
        spoil(draw, call, inspect.signature(function).parameters)
        judge(function, call)
        return
    results = judge(function, call)
    if results is not None and not any(isinstance(v, torch.Tensor) and v.requires_grad for v in call.values()):
        agree(results, function(**{name: plain(value) for name, value in call.items()}))


@examples(80)
@given(st.data())
def test_other_functions(data):
    draw = data.draw
    x = draw(tensors((draw(st.integers(0, 3)), 2, 8), draw(st.sampled_from(FLOATS))))
    function, call = draw(
        st.sampled_from(
            [
                (it.rms, {"x": x}),
                (it.rms_penalty, {"x": x, "lambda_": 0.5}),
                (it.qk_norm, {"q": x, "k": x, "q_weight": x.detach().reshape(-1)[:8], "k_weight": None, "eps": 1e-6}),
                (it.layer_norm, {"x": x, "weight": None, "bias": None, "eps": 1e-5}),
            ]
        )
    )
    if draw(bools):
        spoil(draw, call, call)
        judge(function, call, ("q", "k"))
        return
    results = judge(function, call)
    if results is not None:
        agree(results, function(**{name: plain(value) for name, value in call.items()}))


MODULES = {
    it.RMSNorm: {"normalized_shape": 8},
    it.LayerNorm: {"normalized_shape": 8},
    it.LlamaRMSNorm: {"hidden_size": 8},
    it.T5RMSNorm: {"hidden_size": 8},
    it.GemmaRMSNorm: {"dim": 8},
    it.FusedAddRMSNorm: {"normalized_shape": 8},
    it.GatedRMSNorm: {"normalized_shape": 8},
    it.GroupedRMSNorm: {"normalized_shape": 8, "groups": 2},
    it.PartialRMSNorm: {"normalized_shape": 8, "p": 0.5},
    it.QKNormRope: {"head_dim": 8},
    it.QuantizedRMSNorm: {"normalized_shape": 8, "quantize": "int8"},
}


@examples(100)
@given(st.data())
def test_modules(data):
    """forward of each; and of a constructor's own arguments, those that torch.nn's do not have."""
    draw = data.draw
    kind = draw(st.sampled_from(list(MODULES)))
    own = dict(MODULES[kind])
    for name in set(own) & {"groups", "p", "head_dim", "quantize"}:
        if draw(st.integers(0, 3)) == 0:
            own[name] = draw(NONSENSE)
    if issubclass(kind, it.RMSNorm | it.LayerNorm) and draw(bools):
        own["contract"] = draw(NONSENSE)
    if "head_dim" in own and isinstance(own["head_dim"], int) and own["head_dim"] > 1 << 20:
        own["head_dim"] = 0
    norm = judge(kind, own, ("normalized_shape",))
    if norm is None or kind is it.QKNormRope and own["head_dim"] != 8:
        return
    forward = [p for p in inspect.signature(norm.forward).parameters]
    dtype = draw(st.sampled_from(FLOATS[:3]))
    call = {p: draw(tensors((2, 3, 8) if p not in ("q", "k") else (2, 3, 1, 8), dtype)) for p in forward[:2] if p != "cos"}
    if draw(bools):
        norm = norm.to(draw(st.sampled_from(FLOATS)))
    if draw(st.integers(0, 3)) == 0:
        norm.eps = norm.variance_epsilon = draw(NONSENSE)
    elif draw(bools):
        spoil(draw, call, call)
    positional = [call.pop(p) for p in forward if p in call]
    judge(norm, {}, {"eps", "x", "residual", "gate", "q", "k", "weight", "normalized_shape", *forward, *own}, positional)


@examples(120)
@given(st.data())
def test_operators(data):
    """torch.ops.isonorm.* with whatever torch lets through; what it does not, it says itself."""
    draw = data.draw
    name = draw(st.sampled_from(OPERATORS))
    operator = getattr(torch.ops.isonorm, name).default
    shape = draw(st.sampled_from([(3, 8), (8,), (0, 8), (2, 2, 32), (1,) * 8 + (8,), ()]))
    dtype = draw(st.sampled_from(FLOATS))
    call = {}
    for argument in operator._schema.arguments:
        kind = str(argument.type)
        if argument.has_default_value() and draw(st.integers(0, 2)):
            continue
        if "Tensor" in kind:
            vector = "weight" in argument.name or argument.name == "bias"
            value = draw(
                tensors(shape[-1:] if vector else shape[:-1] if argument.name in ("rstd", "mean", "drms") else shape, dtype)
            )
            if draw(st.integers(0, 5)) == 0:
                try:
                    value = wrong_tensor(draw, value)
                except (RuntimeError, TypeError, IndexError):
                    value = None
            if kind.startswith("Optional") and draw(bools):
                value = None
        elif kind == "float":
            value = draw(st.sampled_from([1e-6, 0.0, -1.0, float("nan"), 1e300]))
        elif kind == "str":
            value = draw(st.sampled_from([*CONTRACTS, "", "lama", "1,1,2,1,1,1,2,0.0", "9,9,9,9,9,9,9,nan", "1,1,torch\0"]))
        elif kind == "bool":
            value = draw(bools)
        elif argument.name.endswith("dtype"):
            value = draw(
                st.sampled_from([None, *FLOATS, torch.int8, torch.float8_e4m3fn, torch.complex64, torch.bool, torch.uint16])
            )
        else:
            value = draw(st.sampled_from([0, 1, 2, 3, 7, 15, 32, -1, -7, 2**32, 2**32 + 1, 2**40, 2**62, -(2**63), 2**63 - 1]))
        call[argument.name] = value
    note(f"{name} { {n: v if is_plain(v) or not isinstance(v, torch.Tensor) else type(v) for n, v in call.items()} }")
    before = {n: bits(v).clone() for n, v in call.items() if is_plain(v)}
    try:
        operator(**call)
    except Exception as error:
        assert isinstance(error, ALLOWED) or is_torchs(error)
    for n, value in before.items():
        assert torch.equal(bits(call[n]), value)


@examples(80)
@given(st.data())
def test_replaced(data):
    """Torch's own functions say the same of wrong arguments whether they are replaced or not."""
    draw = data.draw
    shape = draw(st.sampled_from([(3, 8), (8,), (0, 8), (2, 2, 32), (1,) * 8 + (8,), (3, 0), ()]))
    dtype = draw(st.sampled_from(FLOATS))
    x, weight = draw(tensors(shape, dtype)), draw(tensors(shape[-1:], draw(st.sampled_from([dtype, *FLOATS]))))
    call = {"input": x, "normalized_shape": draw(st.sampled_from([shape[-1:], shape, (8,), (), (3, 8), (-8,), (2**40,)]))}
    call["weight"] = draw(st.sampled_from([None, weight]))
    call["eps"] = draw(st.sampled_from([1e-5, 0.0, -1.0, float("nan"), 1e300]))
    function = draw(st.sampled_from([torch.nn.functional.rms_norm, torch.nn.functional.layer_norm]))
    if draw(bools):
        spoil(draw, call, ["input", "weight", "eps"])
    # Torch's own kernels read memory that was given back.
    hypothesis.assume(all(is_plain(v) or not isinstance(v, torch.Tensor) for v in call.values()))

    def outcome():
        try:
            y = function(**call)
            if isinstance(y, torch.Tensor) and y.requires_grad:
                y.sum().backward()
            return y
        except Exception as error:
            return error

    own = outcome()
    with it.enabled():
        replaced = outcome()
    assert isinstance(own, Exception) == isinstance(replaced, Exception), (own, replaced)
    if isinstance(own, Exception):
        # What comes back from C++ through torch's C ABI is a RuntimeError, also of what was NotImplementedError, a kind of it.
        assert type(own) is type(replaced) or isinstance(own, RuntimeError) and isinstance(replaced, RuntimeError)
    elif is_plain(own):
        assert own.shape == replaced.shape and own.dtype == replaced.dtype
