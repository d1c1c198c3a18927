"""Torch's face, called well and badly: no crash, an exception that names the argument, or the bits of a plain call. Functions,
modules, operators called directly, and torch's own functions while they are replaced."""

import inspect

import numpy as np
import torch
from fuzz_support import CONTRACTS, GATED, LAYER, NONSENSE, examples, judge_error
from hypothesis import given, note
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import isonorm
import isonorm.torch as it

ALLOWED = (ValueError, TypeError, RuntimeError)
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
OPERATORS = [
    *("rms_norm", "_rms_norm", "_rms_norm_rstd", "_rms_norm_backward", "forward", "_forward", "quantized", "backward"),
    *("double_backward", "qk_norm", "qk_norm_backward", "rms", "rms_backward", "rms_penalty"),
]
bools = st.booleans()
with FakeTensorMode():
    FAKES = [torch.empty(3, 8), torch.empty(3, 8, device="cuda"), torch.empty(8, dtype=torch.int32)]


def bits(tensor):
    return tensor.detach().resolve_neg().contiguous().view(INTEGERS[tensor.element_size()])


def is_plain(value):
    """A tensor whose memory can be looked at."""
    if type(value) is not torch.Tensor or value.device.type != "cpu" or value.layout != torch.strided:
        return False
    if value.is_quantized or value.is_nested or torch._is_zerotensor(value):
        return False
    return value.numel() == 0 or 0 < value.untyped_storage().nbytes() < 1 << 24


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))


def agree(results, expected):
    results, expected = ([t for t in ((r,) if isinstance(r, torch.Tensor) else r)] for r in (results, expected))
    assert len(results) == len(expected)
    for a, b in zip(results, expected):
        assert (a is None) == (b is None) and (a is None or same(a, b))


@st.composite
def tensors(draw, shape, dtype):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    tensor = torch.randn(shape, generator=generator, dtype=torch.float64)
    kind = draw(st.sampled_from(["normal", "normal", "special"]))
    if kind == "special" and tensor.numel():
        tensor.reshape(-1)[:: draw(st.integers(1, 5))] = draw(
            st.sampled_from([0.0, -0.0, 1e30, 1e-30, float("nan"), float("inf")])
        )
    tensor = tensor.to(dtype)
    way = draw(st.integers(0, 7))
    if not shape:
        return tensor
    if way == 0:
        room = torch.zeros(*shape[:-1], shape[-1] * 2, dtype=dtype)[..., ::2]
    elif way == 1:
        room = torch.zeros(shape[0] * 2, *shape[1:], dtype=dtype)[::2]
    elif way == 2:
        room = torch.zeros(shape[::-1], dtype=dtype).permute(*range(len(shape))[::-1])
    elif way == 3:
        return tensor[:1].expand(shape) if shape[0] else tensor
    elif way == 4:
        return torch._neg_view(-tensor)
    elif way == 5:
        return tensor.requires_grad_()
    elif way == 6:
        return torch.cat((torch.zeros(1, dtype=dtype), tensor.reshape(-1)))[1:].view(shape)
    else:
        return tensor
    return room.copy_(tensor)


def plain(value):
    if isinstance(value, it.Rope):
        return it.Rope(
            plain(value.cos), plain(value.sin), value.positions, value.position_axis, value.position_offset, value.style
        )
    return value.detach().clone(memory_format=torch.contiguous_format) if isinstance(value, torch.Tensor) else value


def wrong_tensor(draw, tensor):
    """A tensor that is nearly that one."""
    tensor = tensor.detach().resolve_neg()
    freed = torch.ones(tensor.shape)
    freed.untyped_storage().resize_(0)
    return draw(
        st.sampled_from(
            [
                lambda: tensor[..., :-1] if tensor.ndim else tensor[None],
                lambda: tensor[None],
                lambda: tensor.int(),
                lambda: tensor.to(torch.complex64),
                lambda: tensor > 0,
                lambda: tensor.double(),
                lambda: tensor.bfloat16(),
                lambda: tensor.to("meta"),
                lambda: tensor.float().to_sparse(),
                lambda: tensor.float().to_mkldnn(),
                lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
                lambda: torch.nested.nested_tensor([tensor.float()]),
                lambda: torch._efficientzerotensor(tensor.shape),
                lambda: tensor.reshape(tensor.shape + (1,) * 9),
                lambda: tensor.reshape(tensor.shape + (1,) * 70),
                lambda: torch.ones(()).expand(2**40, 8),
                lambda: torch.empty(0, 2**40),
                lambda: torch.tensor(1.0),
                lambda: tensor.float().numpy(),
                lambda: tensor.tolist(),
                lambda: freed,
                lambda: draw(st.sampled_from(FAKES)),
                lambda: tensor.clone().requires_grad_(),
                lambda: torch.nn.Parameter(tensor.float()),
            ]
        )
    )()


def spoil(draw, call, names):
    for name in draw(st.lists(st.sampled_from(sorted(names)), min_size=1, max_size=2)):
        value = call.get(name)
        if isinstance(value, torch.Tensor) and draw(st.integers(0, 4)):
            try:
                call[name] = wrong_tensor(draw, value)
            except (RuntimeError, TypeError, IndexError):
                call[name] = None
        else:
            call[name] = draw(NONSENSE)
    note(f"spoilt: { {n: v if is_plain(v) else type(v) for n, v in call.items()} }")


def judge(function, call, names=(), positional=()):
    """The results, or None where an exception was right; inputs stay as they are."""
    before = {name: bits(value).clone() for name, value in call.items() if is_plain(value)}
    try:
        results = function(*positional, **call)
    except Exception as error:
        if "can't allocate memory" not in str(error):
            judge_error(error, {*call, *names}, ALLOWED)
        results = None
    for name, value in before.items():
        assert torch.equal(bits(call[name]), value), f"{name} was written to"
    return results


@st.composite
def calls(draw):
    lead = draw(st.lists(st.sampled_from([0, 1, 2, 3]), max_size=3))
    if draw(st.integers(0, 12)) == 0:
        lead = [1] * draw(st.integers(5, 9)) + lead
    shape = (*lead, draw(st.sampled_from([1, 2, 7, 8, 32, 64])))
    dtype = draw(st.sampled_from(FLOATS))
    mixed = (torch.float64,) if dtype == torch.float64 else FLOATS[:3]
    contract = draw(st.sampled_from(CONTRACTS))
    if dtype == torch.float64 and contract in GATED:
        contract = "torch"
    call = {"x": draw(tensors(shape, dtype)), "eps": draw(st.sampled_from([1e-6, 0, 0.5])), "contract": contract}
    for name in ("weight", "bias"):
        if draw(bools):
            call[name] = draw(tensors(shape[-1:], draw(st.sampled_from(FLOATS))))
    if contract in GATED:
        call["gate"] = draw(tensors(shape, draw(st.sampled_from(mixed))))
    elif draw(st.integers(0, 3)) == 0:
        call["residual"] = draw(tensors(shape, draw(st.sampled_from(mixed))))
    if draw(st.integers(0, 4)) == 0:
        call["groups"] = draw(st.sampled_from([1, 2, 4]))
    if contract not in LAYER and draw(st.integers(0, 5)) == 0:
        call["window"] = draw(st.integers(1, shape[-1]))
    if 1 < len(shape) <= 7 and draw(st.integers(0, 4)) == 0:
        tables = [draw(tensors((9, max(shape[-1] // 2, 1)), torch.float32)).detach() for _ in range(2)]
        positions = torch.full(shape[:1], draw(st.integers(-1, 9))) if draw(bools) else None
        call["rope"] = it.Rope(*tables, positions, 0, 0, draw(st.sampled_from(["half", "interleaved"])))
    return call


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
    except ALLOWED as error:
        assert str(error)
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

    def outcome():
        try:
            y = function(**call)
            if isinstance(y, torch.Tensor) and y.requires_grad:
                y.sum().backward()
            return y
        except Exception as error:
            return error

    own = outcome()
    with it.enabled(rms_norm=True, layer_norm=True):
        replaced = outcome()
    assert isinstance(own, Exception) == isinstance(replaced, Exception), (own, replaced)
    if isinstance(own, Exception):
        assert isinstance(replaced, ALLOWED) and type(own) is type(replaced), (own, replaced)
    elif is_plain(own):
        assert own.shape == replaced.shape and own.dtype == replaced.dtype


@examples(60)
@given(st.data())
def test_into(data):
    """isonorm.into with tensors of torch: a view with the other sign, a gradient, no memory, other devices."""
    draw = data.draw
    x, out = draw(tensors((3, 8), draw(st.sampled_from(FLOATS)))), torch.zeros(3, 8)
    call = {"out": out, "x": x, "weight": draw(tensors((8,), torch.float32)), "eps": 1e-6}
    if draw(bools):
        spoil(draw, call, inspect.signature(isonorm.into).parameters)
    watched, given_out = call["out"] is out, call.pop("out")
    results = judge(isonorm.into, call, ("out",), (given_out,))
    if results is None and watched:
        assert not out.any()
    elif (
        watched
        and isinstance(call["x"], torch.Tensor)
        and call["x"].dtype == torch.float32
        and set(call) == {"x", "weight", "eps"}
    ):
        if type(call["weight"]) is torch.Tensor and call["weight"].dtype == torch.float32:
            expected = isonorm.rms_norm(np.array(call["x"]), np.array(call["weight"]), eps=call["eps"])
            assert same(out, torch.from_numpy(expected))
