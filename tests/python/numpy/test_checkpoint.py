"""isonorm.checkpoint against its own arithmetic in NumPy, bit by bit; against the command; and what both refuse."""

import numpy as np
import pytest
from conftest import BF16, F16, F32, F64, bits, random, read_safetensors, same, write_safetensors

from isonorm import checkpoint

TYPES = (F32, BF16, F16, F64)


def rounded(values, dtype):
    """Rounded once: ml_dtypes goes through float32, which rounds twice."""
    if dtype != BF16:
        return values.astype(dtype)
    fraction, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(fraction, 8)), exponent - 8).astype(F32).astype(BF16)


def total(values, axis):
    """One after the other, as the specification of the functions says; np.sum adds in pairs."""
    return np.take(np.cumsum(values, axis=axis, dtype=F64), [-1], axis=axis)


def centred(values, axis):
    wide = values.astype(F64)
    return rounded(wide - total(wide, axis) / values.shape[axis], values.dtype)


def model(dtype=F32, width=24):
    """Names as a model with Linear has them; `conv.weight` lies the other way round."""
    shapes = {
        "embed.weight": (7, width), "layers.0.out.weight": (width, 9), "layers.1.out.weight": (width, 9),
        "layers.0.out.bias": (width,), "layers.0.norm.weight": (width,), "layers.0.norm.bias": (width,),
        "layers.0.up.weight": (11, width), "layers.0.up.bias": (11,), "layers.0.conv.weight": (width, 11),
        "layers.0.conv.bias": (11,), "head.weight": (7, width),
    }  # fmt: skip
    tensors = {name: random(shape, dtype, seed) for seed, (name, shape) in enumerate(shapes.items())}
    return {**tensors, "steps": np.arange(3)}


RECENTER = {"rows": ["embed.weight", "layers.*.out.bias"], "linear": "layers.*.out.weight", "head": "head.weight"}
FOLD = {"norm": "layers.*.norm.weight", "linear": ["layers.*.up.weight"], "conv1d": ["layers.*.conv.weight"]}


@pytest.mark.parametrize("dtype", TYPES)
def test_recentred_bits(dtype):
    tensors = model(dtype)
    before = {name: bits(value).copy() for name, value in tensors.items()}
    found = checkpoint.recenter(tensors, **RECENTER)
    assert list(found) == list(tensors)
    changed = {"embed.weight": -1, "layers.0.out.bias": -1, "layers.0.out.weight": 0, "layers.1.out.weight": 0}
    for name, value in found.items():
        if name in changed:
            assert same(value, centred(tensors[name], changed[name])) and not same(value, tensors[name]), name
        else:
            assert value is tensors[name]
        assert (bits(tensors[name]) == before[name]).all()


@pytest.mark.parametrize("contract", ["torch", "gemma"])
@pytest.mark.parametrize("dtype", TYPES)
def test_folded_bits(dtype, contract):
    tensors, offset = model(dtype), 1.0 if contract == "gemma" else 0.0
    found = checkpoint.fold(tensors, **FOLD, contract=contract)
    wide = {name: value.astype(F64) for name, value in tensors.items()}
    weight, bias = offset + wide["layers.0.norm.weight"], wide["layers.0.norm.bias"]
    up, conv = wide["layers.0.up.weight"], wide["layers.0.conv.weight"]
    expected = {
        "layers.0.norm.weight": rounded(np.full(weight.shape, 1 - offset), dtype),
        "layers.0.norm.bias": rounded(np.zeros(bias.shape), dtype),
        "layers.0.up.weight": rounded(up * weight, dtype),
        "layers.0.up.bias": rounded(wide["layers.0.up.bias"] + total(up * bias, 1)[:, 0], dtype),
        "layers.0.conv.weight": rounded(conv * weight[:, None], dtype),
        "layers.0.conv.bias": rounded(wide["layers.0.conv.bias"] + total(conv * bias[:, None], 0)[0], dtype),
    }
    for name, value in found.items():
        assert same(value, expected[name]) if name in expected else value is tensors[name], name


@pytest.mark.parametrize("dtype", [BF16, F16])
def test_each_value_is_rounded_once(dtype):
    tensors = {"n.weight": random((1 << 20,), F32, 1), "l.weight": random((1, 1 << 20), dtype, 2)}
    exact = tensors["l.weight"].astype(F64) * tensors["n.weight"]
    assert not same(rounded(exact, dtype), exact.astype(F32).astype(dtype))  # there are values that tell
    assert same(checkpoint.fold(tensors, norm="n.weight", linear="l.weight")["l.weight"], rounded(exact, dtype))


def test_small_float16_values_are_rounded_once():
    values = np.ldexp(random((4096,), F32, 3), -15)
    tensors = {"n.weight": values, "l.weight": np.ones((1, 4096), F16)}
    found = checkpoint.fold(tensors, norm="n.weight", linear="l.weight")["l.weight"]
    assert same(found[0], values.astype(F64).astype(F16)) and (np.abs(found) < 2.0**-14).any()


def test_pieces_and_strides_change_no_bit():
    tensors = {"embed.weight": random((3000, 700), F32, 4)[:, ::2], "out.weight": random((350, 9000), F32, 5)}
    found = checkpoint.recenter(tensors, rows="embed.weight", linear="out.weight", no_head=True)
    assert same(found["embed.weight"], centred(tensors["embed.weight"], -1))
    assert same(found["out.weight"], centred(tensors["out.weight"], 0))


def test_a_head_that_is_tied_becomes_a_copy():
    tensors = model()
    embedding = tensors["embed.weight"]
    del tensors["head.weight"]
    found = checkpoint.recenter(tensors, **RECENTER, untie="embed.weight")
    assert list(found) == [*tensors, "head.weight"]
    assert same(found["head.weight"], embedding) and found["head.weight"] is not embedding
    assert same(found["embed.weight"], centred(embedding, -1))


@pytest.mark.parametrize("dtype", TYPES)
def test_the_command_gives_the_same(command, tmp_path, dtype):
    tensors = {name: value for name, value in model(dtype).items() if name != "steps"} | {"ids": np.zeros(3, np.int8)}
    source, middle, target = (tmp_path / f"{name}.safetensors" for name in ("in", "middle", "out"))
    write_safetensors(source, tensors)
    out = command(
        "checkpoint", "recenter", source, "-o", middle, "--rows", "embed.weight", "--rows", "layers.*.out.bias",
        "--linear", RECENTER["linear"], "--head", "head.weight",
    )  # fmt: skip
    assert "layers.1.out.weight" in out and "head.weight" not in out
    command(
        "checkpoint", "fold", middle, "-o", target, "--norm", FOLD["norm"], "--linear", FOLD["linear"][0],
        "--conv1d", FOLD["conv1d"][0], "--contract", "gemma",
    )  # fmt: skip
    expected = checkpoint.fold(checkpoint.recenter(tensors, **RECENTER), **FOLD, contract="gemma")
    found = read_safetensors(target)
    assert set(found) == set(expected) and all(same(found[name], value) for name, value in expected.items())


def spoilt(**changes):
    tensors = model()
    for name, value in changes.items():
        name = name.replace("__", ".")
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    return tensors


def infinite(shape):
    values = np.ones(shape, F32)
    values.flat[-1] = np.inf
    return values


REFUSED = {
    "a pattern that matches nothing": ("recenter", {}, {"rows": "embd.weight"}, "'embd.weight' of rows matches no tensor"),
    "a bias left out": ("recenter", {}, {"rows": "embed.weight"}, "out.bias is added with layers.*out.weight, but is not"),
    "no writers": ("recenter", {}, {"rows": [], "linear": []}, "rows and linear name nothing that writes into"),
    "another width": ("recenter", {"embed__weight": np.ones((7, 25), F32)}, {}, "writes 25 values, but|writes 24 values, but"),
    "named twice": ("recenter", {}, {"rows": "layers.*.out.*", "linear": "layers.*.out.weight"}, "writes 9|named twice"),
    "no head": ("recenter", {}, {"head": None}, "the head is not named"),
    "a head that is missing": ("recenter", {"head__weight": None}, {}, "there is no head head.weight, so it may be tied"),
    "a head that writes": ("recenter", {}, {"head": "embed.weight"}, "embed.weight is among what writes .* it is tied"),
    "a head of another width": ("recenter", {"head__weight": np.ones((7, 9), F32)}, {}, "reads 9 values, but the residual"),
    "nothing to untie": ("recenter", {}, {"untie": "embed.weight"}, "the head head.weight is there"),
    "untied from what does not write": (
        "recenter", {"head__weight": None}, {"untie": "layers.0.up.weight"}, "layers.0.up.weight is to be untied, but"),
    "a vector for a matrix": ("recenter", {"layers__0__out__weight": np.ones(24, F32)}, {}, r"shape \[24\], but a matrix"),
    "too many dimensions": ("recenter", {"embed__weight": np.ones((2, 3, 24), F32)}, {}, "but a vector or a matrix"),
    "no values": ("recenter", {"embed__weight": np.ones((0, 24), F32)}, {}, r"shape \[0, 24\], but it has to hold values"),
    "infinity": ("recenter", {"embed__weight": infinite((7, 24))}, {}, "embed.weight of type F32 holds a value that is not"),
    "integers": ("recenter", {"embed__weight": np.ones((7, 24), np.int8)}, {}, "embed.weight is of type int8, but has to be"),
    "a preset and patterns": ("recenter", {}, {"preset": "gpt2"}, "a preset and patterns exclude each other"),
    "a preset and a contract": (
        "fold", {}, {"preset": "llama", "norm": None, "linear": [], "conv1d": [], "contract": "gemma"}, "preset and a contract"),
    "a head and none": ("recenter", {}, {"no_head": True}, "a head and none exclude each other"),
    "no norm": ("fold", {}, {"norm": None}, "no norm is named"),
    "no linear layer": ("fold", {}, {"linear": [], "conv1d": []}, "no linear layer is named"),
    "a norm that is a matrix": ("fold", {"layers__0__norm__weight": np.ones((2, 12), F32)}, {}, "but a vector was expected"),
    "a bias of another shape": ("fold", {"layers__0__norm__bias": np.ones(23, F32)}, {}, r"has the shape \[23\], but"),
    "a linear layer that is missing": ("fold", {"layers__0__up__weight": None}, {}, "there is no tensor layers.0.up.weight"),
    "the other way round": ("fold", {}, {"linear": "layers.*.conv.weight", "conv1d": []}, "reads 11 values, but"),
    "one layer twice": ("fold", {}, {"linear": ["layers.*.up.weight"] * 2}, "layers.0.up.weight is named twice"),
    "no bias to take the norm's": ("fold", {"layers__0__up__bias": None}, {}, "has no bias layers.0.up.bias that could take"),
    "more stars": ("fold", {}, {"linear": "layers.*.*.weight"}, "has more stars than that of the norm"),
    "quantised": ("fold", {"layers__0__up__weight": np.ones((11, 24), np.int8)}, {}, "is of type int8, but has to be one of"),
    "a value that is too large": (
        "fold", {"layers__0__up__weight": np.full((11, 24), 6e4, F16), "layers__0__norm__weight": np.full(24, 2, F32)}, {},
        "layers.0.up.weight of type F16 would hold a value that its type cannot"),
    "a norm without .weight": ("fold", {"layers__0__norm__scale": np.ones(24, F32)}, {"norm": "layers.*.norm.scale"},
                               "has to end in .weight"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    function, changes, arguments, words = REFUSED[case]
    tensors = spoilt(**changes)
    before = {name: bits(value).copy() for name, value in tensors.items()}
    usual = RECENTER if function == "recenter" else FOLD
    error = TypeError if "is of type" in words else ValueError
    with pytest.raises(error, match=words):
        getattr(checkpoint, function)(tensors, **{**usual, **arguments})
    assert all((bits(tensors[name]) == old).all() for name, old in before.items())


def test_a_star_is_text_without_a_dot():
    layers = {f"{place}.weight": np.float32([[1, 3]]) for place in ("h.0.up", "h.10.up", "h.0.x.up", "h0.up", "g.0.up", "h.0.up2")}
    norms = {f"{place}.weight": np.float32([2, 2]) for place in ("h.0.n", "h.10.n", "h.0.x.n", "g.0.n", "hat.1.n")}
    found = checkpoint.fold({**layers, **norms}, norm="h.*.n.weight", linear="h.*.up.weight")
    assert {name for name in layers if found[name] is not layers[name]} == {"h.0.up.weight", "h.10.up.weight"}
    found = checkpoint.fold({**layers, **norms}, norm="*.0.*n.weight", linear="*.0.*up.weight")
    assert {name for name in layers if found[name] is not layers[name]} == {"h.0.up.weight", "g.0.up.weight"}
    names = {"ab.abc": 1, "ab.aXbYc": 1, "ab.ac": 0, "ab.abcb": 0, "ab.abbc": 1, "a.b.abc": 0, "b.abc": 0}
    rows = {name: np.float32([1, 3]) for name in names}
    found = checkpoint.recenter(rows, rows="a*.a*b*c", no_head=True)
    assert {name: int(found[name] is not rows[name]) for name in names} == names


def test_tensors_that_share_memory_are_tied():
    tensors = model()
    tensors["head.weight"] = tensors["embed.weight"]
    with pytest.raises(ValueError, match="embed.weight and head.weight share memory: they are tied"):
        checkpoint.recenter(tensors, **RECENTER)
    tensors["head.weight"] = tensors["embed.weight"].copy()
    checkpoint.recenter(tensors, **RECENTER)


def test_arguments_of_other_types():
    for tensors, arguments, words in (
        ([1], {}, "tensors is a list"),
        ({1: np.ones(2)}, {}, "has the key 1"),
        ({"x": [1.0]}, {}, r"tensors\['x'\] is a list"),
        ({"x": np.ma.masked_array([1.0])}, {}, r"tensors\['x'\] is a masked array, and isonorm knows no masks"),
        (model(), {"rows": [3]}, "rows is 3"),
        (model(), {"head": ""}, "head is ''"),
    ):
        with pytest.raises(TypeError, match=words):
            checkpoint.recenter(tensors, **{**RECENTER, **arguments})
