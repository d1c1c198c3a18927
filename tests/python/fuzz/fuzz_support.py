"""What the fuzz tests share: how much is tried, values of every layout, values that no argument allows, and the judge of a call.

Examples are the same in every run, unless ISONORM_FUZZ has their number: then they are random, by pytest's --hypothesis-seed.
"""

import os
import re

import hypothesis
import ml_dtypes
import numpy as np
from hypothesis import strategies as st

hypothesis.settings.register_profile(
    "isonorm",
    deadline=None,
    database=None,
    derandomize="ISONORM_FUZZ" not in os.environ,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("isonorm")


def examples(count):
    """So many examples in an ordinary run, and ISONORM_FUZZ of them in a long one."""
    return hypothesis.settings(max_examples=int(os.environ.get("ISONORM_FUZZ", count)))


BF16, F16, F32, F64 = map(np.dtype, (ml_dtypes.bfloat16, np.float16, np.float32, np.float64))
FLOATS = (F32, BF16, F16, F64)
CONTRACTS = ("torch", "llama", "onnx", "t5", "gemma", "paper", "mamba2", "qwen3_next_gated", "microgpt", "layer_norm")
GATED, LAYER = {"mamba2", "qwen3_next_gated"}, {"layer_norm"}


class BadNumber:
    """Python's protocols of numbers, each of which fails or lies."""

    def __index__(self):
        raise KeyError("no index")

    def __float__(self):
        raise KeyError("no float")

    def __bool__(self):
        raise KeyError("no bool")


class LyingNumber:
    def __index__(self):
        return "two"

    def __float__(self):
        return "two"


class BadTensor:
    """DLPack and NumPy's protocol, as an object has them that does not keep them."""

    def __init__(self, capsule=None, device=(1, 0), **attributes):
        self.capsule, self.device = capsule, device
        self.__dict__.update(attributes)

    def __dlpack__(self, **options):
        if isinstance(self.capsule, Exception):
            raise self.capsule
        return self.capsule

    def __dlpack_device__(self):
        return self.device

    __array_interface__ = {"shape": (3, 8), "typestr": "<f4", "data": (0, False), "version": 3}


NONSENSE = st.sampled_from(
    [
        *("", "x", "torch\0", "\ud800", b"x", 1j, [], [1], (), (1, 2), {}, {"dweight": 3}, set(), object, object(), ...),
        *(-1, 0, 1, 3, 2**31, 2**40, 2**63, -(2**63), 2**70, 10**400, 1.5, -0.0, float("nan"), float("inf"), -1.0, 1e39, 1e300),
        *(None, True, np.float32(3), np.int64(2), np.array([1, 2]), np.array(2.0), np.array("x"), np.array(None), np.array([])),
        *(BadNumber(), LyingNumber(), BadTensor(), BadTensor(3), BadTensor(KeyError("no\nmemory")), BadTensor(device="ab")),
        *(BadTensor(device=(2**70, 0)), BadTensor(device=None), BadTensor(requires_grad="yes"), BadTensor(shape=(2, 2))),
        *(BadTensor(shape=3), BadTensor(shape=(BadNumber(),)), BadTensor(requires_grad=BadNumber())),
    ]
)


@st.composite
def values(draw, shape, dtype):
    """Values of a shape and type, with NaN, infinities, zeros, and numbers of every size among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = rng.standard_normal(shape)
    kind = draw(st.sampled_from(["normal", "normal", "normal", "wide", "special"]))
    if kind == "wide":
        array = array * 2.0 ** rng.integers(-160, 160, shape)
    elif kind == "special":
        array = np.where(
            rng.random(shape) < 0.3, rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38, 65504.0], shape), array
        )
    with np.errstate(all="ignore"):
        return array.astype(dtype)


@st.composite
def laid_out(draw, array):
    """The same values in another place of memory: strided, reversed, transposed, broadcast, in Fortran's order, or unaligned."""
    way = draw(
        st.sampled_from(["as it is", "as it is", "rows", "reversed", "columns", "backwards", "fortran", "one row", "unaligned"])
    )
    if array.ndim == 0 or way == "as it is":
        return array
    if way == "rows":
        room = np.zeros((array.shape[0] * 2, *array.shape[1:]), array.dtype)[::2]
    elif way == "reversed":
        room = np.zeros(array.shape, array.dtype)[::-1]
    elif way == "columns":
        room = np.zeros((*array.shape[:-1], array.shape[-1] * 3), array.dtype)[..., ::3]
    elif way == "backwards":
        room = np.zeros(array.shape, array.dtype)[..., ::-1]
    elif way == "fortran":
        return np.asfortranarray(array)
    elif way == "one row":
        return np.broadcast_to(array[:1], array.shape) if array.shape[0] else array
    else:
        room = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    room[...] = array
    return room


@st.composite
def shapes(draw, most=3, cols=(1, 2, 3, 7, 8, 16, 33, 64, 128)):
    lead = draw(st.lists(st.sampled_from([0, 1, 2, 3, 5]), max_size=most))
    if draw(st.integers(0, 15)) == 0:
        lead = [1] * draw(st.integers(4, 8)) + lead[:1]
    return (*lead, draw(st.sampled_from(cols)))


def memory(array):
    """Everything that a call could reach through an array."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def words_in(text, names):
    return any(re.search(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", text) for name in names)


# Fields of what is given as one argument, and what the C ABI calls that.
FIELDS = {
    *("cos", "sin", "positions", "position_axis", "position_offset", "style", "quantization", "dtype", "scale", "group_cols"),
    *("rounded_to", "min_scale", "scale_ub", "weight_offset", "gate_place", "lambda"),
}


def judge_error(error, names, allowed):
    """An exception that users expect, with one sentence that names an argument."""
    text = str(error)
    assert isinstance(error, allowed), f"{type(error).__name__}: {text}"
    assert not isinstance(error, UnicodeError), text
    assert text and len(text.splitlines()) == 1, f"{type(error).__name__}: {text}"
    assert len(text) < 1000, text
    assert words_in(text, {*names, *FIELDS}), f"{type(error).__name__}: {text}"
