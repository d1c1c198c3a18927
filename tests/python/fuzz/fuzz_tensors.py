"""Calls of torch's face, right and wrong, and the judge of what becomes of them."""

import re

import torch
from fuzz_support import CONTRACTS, GATED, LAYER, NONSENSE, judge_error
from hypothesis import note
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import isonorm.torch as it

ALLOWED = (ValueError, TypeError, RuntimeError)
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
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
    return value.numel() == 0 or (value.numel() < 1 << 24 and 0 < value.untyped_storage().nbytes() < 1 << 24)


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
    freed = draw(st.sampled_from([lambda: freed, lambda: freed.double(), lambda: freed.t() if freed.ndim == 2 else freed]))()
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
    for name in draw(st.lists(st.sampled_from(sorted(names)), min_size=1, max_size=2, unique=True)):
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
        if not is_torchs(error):
            judge_error(error, {*call, *names}, ALLOWED)
        results = None
    for name, value in before.items():
        assert torch.equal(bits(call[name]), value), f"{name} was written to"
    return results


def is_torchs(error):
    """What torch says before a kernel is called: of more memory than there is, and of fake tensors beside real ones."""
    return re.search("can't allocate memory|convert all Tensors to FakeTensors", str(error)) is not None


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
