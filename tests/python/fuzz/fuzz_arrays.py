"""Calls of NumPy's face, right and wrong, and the judge of what becomes of them."""

import inspect

import numpy as np
from fuzz_support import (
    BF16,
    CONTRACTS,
    F16,
    F32,
    F64,
    FLOATS,
    GATED,
    LAYER,
    NONSENSE,
    judge_error,
    laid_out,
    memory,
    shapes,
    values,
)
from hypothesis import note
from hypothesis import strategies as st

import isonorm

ALLOWED = (ValueError, TypeError, RuntimeError)
bools = st.booleans()


def bytes_of(value):
    if isinstance(value, dict):
        return {name: bytes_of(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [bytes_of(v) for v in value]
    if isinstance(value, isonorm.Rope):
        return bytes_of((value.cos, value.sin, value.positions))
    if isinstance(value, np.ndarray) and value.dtype != object:
        return memory(value).tobytes() if memory(value).nbytes < 1 << 24 else b""
    return None


def arrays_in(value):
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
    return [v for v in values if isinstance(v, np.ndarray)]


def same_bytes(a, b):
    return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def judge(function, call, outputs=(), names=()):
    """The results, or None where an exception was right. Only arguments among `outputs` may change, and only if none is raised."""
    before = {name: bytes_of(value) for name, value in call.items()}
    try:
        results = function(**call)
    except MemoryError:
        inside = [v for whole in call.values() for v in (whole, *getattr(whole, "__dict__", {}).values())]
        assert any(isinstance(v, np.ndarray) and max(v.shape, default=0) > 1 << 32 for v in inside)
        results = None
    except Exception as error:
        judge_error(error, {*call, *names, *inspect.signature(function).parameters}, ALLOWED)
        results, outputs = None, ()
    shared = [memory(a) for name in outputs for a in arrays_in(call.get(name))]
    for name, value in call.items():
        if not (isinstance(value, np.ndarray) and any(np.may_share_memory(memory(value), room) for room in shared)):
            assert name in outputs or bytes_of(value) == before[name], f"{name} was written to"
    return results


def plain(value):
    """The same values, contiguous and alone in memory."""
    if isinstance(value, isonorm.Rope):
        return isonorm.Rope(plain(value.cos), plain(value.sin), plain(value.positions), value.position_axis,
                            value.position_offset, value.style)  # fmt: skip
    return np.array(value, order="C") if isinstance(value, np.ndarray) else value


def entries(results):
    """What a call returned as a dict."""
    return results._asdict() if hasattr(results, "_asdict") else {"": results}


def agree(results, expected):
    results, expected = entries(results), entries(expected)
    assert results.keys() == expected.keys()
    for name, value in results.items():
        assert same_bytes(value, expected[name]), name


@st.composite
def ropes(draw, shape, dtype):
    lead, cols = shape[:-1], shape[-1]
    axis = draw(st.integers(0, len(lead) - 1))
    half = draw(st.integers(1, max(cols // 2, 1)))
    tables = [draw(laid_out(draw(values((7, half), dtype)))) for _ in range(2)]
    positions = None
    if draw(bools):
        positions = np.array(draw(st.integers(0, 6)), draw(st.sampled_from(["i4", "i8"])))
        positions = np.full(lead[: draw(st.integers(1, len(lead)))], positions)
        if draw(st.integers(0, 7)) == 0 and positions.size:
            positions.flat[-1] = draw(st.sampled_from([-1, 7, 2**31 - 1]))
    return isonorm.Rope(*tables, positions, axis, draw(st.integers(0, 2)), draw(st.sampled_from(["half", "interleaved"])))


@st.composite
def calls(draw):
    """A call of forward that is right, or nearly so."""
    shape = draw(shapes())
    dtype = draw(st.sampled_from(FLOATS))
    x = draw(values(shape, dtype))
    contract = draw(st.sampled_from(CONTRACTS))
    axis = draw(st.sampled_from([-1, -1, -1, 0, (-2, -1), (0, -1), (0,)])) if len(shape) > 1 else -1
    numbers = [axis] if isinstance(axis, int) else axis
    normalised = tuple(shape[a] for a in sorted(a % len(shape) for a in numbers))
    call = {"x": draw(laid_out(x)), "eps": draw(st.sampled_from([1e-6, 1e-5, 0, 0.5])), "contract": contract, "axis": axis}
    mixed = (F64,) if dtype == F64 else (F32, BF16, F16)
    for name in ("weight", "bias"):
        if draw(bools):
            call[name] = draw(laid_out(draw(values(normalised, draw(st.sampled_from((*mixed, F64)))))))
    if contract in GATED:
        call["gate"] = draw(laid_out(draw(values(shape, draw(st.sampled_from(mixed))))))
    if draw(st.integers(0, 3)) == 0:
        call["residual"] = draw(laid_out(draw(values(shape, draw(st.sampled_from(mixed))))))
    cols = int(np.prod(normalised))
    call["threads"] = draw(st.sampled_from([None, 1, 2]))
    if draw(st.integers(0, 3)) == 0:
        call["groups"] = draw(st.sampled_from([g for g in (0, 1, 2, 4, 3) if g < 2 or cols % g == 0 or draw(bools)]))
    if contract not in LAYER and draw(st.integers(0, 4)) == 0:
        call["window"] = draw(st.integers(1, cols or 1))
    if axis == -1 and 1 < len(shape) <= 7 and draw(st.integers(0, 3)) == 0:
        call["rope"] = draw(ropes(shape, draw(st.sampled_from([F32, dtype]))))
    return call


def wrong_array(draw, array):
    """An array that is nearly that one."""
    way = draw(st.integers(0, 11))
    if way == 0:
        return array[..., :-1] if array.ndim else array[()]
    if way == 1:
        return array[None]
    if way == 2:
        return array.astype(draw(st.sampled_from(["i4", "u1", "c8", ">f4", "O", "?", "M8[s]", "S3", "f4", "f2", "f8", "g"])), order="C") \
            if array.dtype != BF16 else array.view("V2")  # fmt: skip
    if way == 3:
        array = array.copy()
        array.flags.writeable = False
        return array
    if way == 4:
        return array.reshape(array.shape + (1,) * 9)
    if way == 5:
        return np.broadcast_to(array.reshape(-1)[:1].reshape(()) if array.size else np.float32(1), (2**50, 8))
    if way == 6:
        return np.ma.masked_array(np.zeros(array.shape, np.float32))
    if way == 7:
        return np.zeros(array.shape, [("a", "i1"), ("b", "f4")])["b"]
    if way == 8:
        return np.zeros((0, 2**40), array.dtype)
    if way == 9:
        return array.tolist()
    if way == 10:
        return array.reshape(-1)[::-1]
    return np.array(1, array.dtype)


def spoil(draw, call, function):
    """Puts one value or two that are wrong, or at least strange, into a call."""
    parameters = [p for p in inspect.signature(function).parameters if p not in ("options", "self")]
    for name in draw(st.lists(st.sampled_from(parameters), min_size=1, max_size=2, unique=True)):
        value = call.get(name)
        if isinstance(value, np.ndarray) and draw(st.integers(0, 3)):
            try:
                with np.errstate(all="ignore"):
                    call[name] = wrong_array(draw, value)
            except (TypeError, ValueError):
                call[name] = None
        elif draw(st.integers(0, 9)) == 0:
            del_name = name in call and draw(bools)
            call.pop(name) if del_name else call.update({name: draw(NONSENSE)})
        else:
            call[name] = draw(NONSENSE)
    note(f"spoilt: { {n: v if getattr(v, 'size', 0) < 1 << 32 else v.shape for n, v in call.items()} }")
