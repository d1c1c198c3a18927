"""isonorm.stats: what `isonorm stats --json` says of the same values in a file, number for number."""

import json
import math
import os
import signal
import threading

import numpy as np
import pytest
from conftest import BF16, F16, F32, F64, random, write_safetensors

import isonorm
from isonorm import _native


@pytest.fixture
def theirs(command, tmp_path):
    """The command's JSON about tensors by their names, without what only a file has."""

    def run(tensors, *arguments):
        write_safetensors(tmp_path / "in.safetensors", tensors)
        found = json.loads(command("stats", tmp_path / "in.safetensors", "--json", *arguments))["tensors"]
        for entry in found:
            del entry["file"]
        return {entry["name"]: entry for entry in found}

    return run


def mine(tensors, **options):
    return {entry["name"]: entry for entry in isonorm.stats(tensors, flat=False, **options)}


def flattened(value, key=""):
    """The rule of the docstring, written a second time."""
    if isinstance(value, dict):
        return {k: v for part in value for k, v in flattened(value[part], "_".join(filter(None, (key, part)))).items()}
    return {key.removesuffix("_value"): value}


def damaged(shape, dtype):
    x = random(shape, dtype, 7, 3.0)
    x[1, 2], x[2, 0], x[2, 1], x[3, -1] = np.nan, np.inf, -np.inf, 0
    x[0] = 0
    return x


@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
def test_the_numbers_of_the_command(theirs, dtype):
    tensors = {
        "model.layers.3.norm": random((5, 7, 129), dtype, 1),
        "mean": random((300, 257), dtype, 2) + np.asarray(2, dtype),
        "large": random((4, 64), F32, 3, 3e4).clip(-6e4, 6e4).astype(dtype),
        "tiny": random((4, 64), dtype, 4, 1e-6),
        "damaged": damaged((5, 33), dtype),
        "all.nan": np.full((3, 4), np.nan, dtype),
        "constant": np.full((3, 65), 0.5, dtype),
        "vector": random(1000, dtype, 5),
        "one": np.ones((1, 1), dtype),
        "scalar": np.array(2.5, dtype),
        "no.rows": np.zeros((0, 8), dtype),
        "no.cols": np.zeros((3, 0), dtype),
        "many.dimensions": random((2, 1, 3, 2, 1, 2, 2, 3, 5), dtype, 6),
    }
    expected = theirs(tensors)
    assert mine(tensors) == expected
    assert list(mine(tensors)) == list(tensors), "in the order of the mapping"
    assert expected["damaged"]["nan"] == 1 and expected["damaged"]["infinite"] == 2, "the comparison saw the damage"


@pytest.mark.parametrize("eps", [0, 1e-12, 0.5])
def test_eps_and_outlier_reach_the_numbers(theirs, eps):
    tensors = {"x": random((9, 100), F32, 8) * np.linspace(0.5, 4, 100, dtype=F32), "damaged": damaged((5, 33), F32)}
    expected = theirs(tensors, "--eps", eps, "--outlier", 1.5)
    assert mine(tensors, eps=eps, outlier=1.5) == expected
    assert expected != theirs(tensors)


def test_flat_is_the_nested_one_with_joined_keys():
    for x in (random((9, 100), F32, 8), damaged((5, 33), F16), np.zeros((0, 3), F32)):
        nested, flat = isonorm.stats(x, flat=False), isonorm.stats(x)
        worst = nested["channels"]["worst"]
        nested["channels"]["worst"] = worst[0] if worst else {"channel": None, "rms": None, "factor": None}
        nested["shape"] = str(nested["shape"])
        del nested["profile"], nested["histogram"]
        expected = flattened(nested)
        assert list(flat) == list(expected)
        for key, value in expected.items():
            assert math.isnan(flat[key]) if value is None else flat[key] == value, key
            assert isinstance(flat[key], (int, float, str)), key


def test_one_gives_a_dict_and_several_a_list():
    x, y = random((3, 5)), random((2, 7), F64, 1)
    one = isonorm.stats(x)
    assert isinstance(one, dict) and "name" not in one and "file" not in one
    assert isonorm.stats([x, y]) == isonorm.stats((x, y)) == [one, isonorm.stats(y)]
    named = isonorm.stats({"h.3.norm": x, "b": y})
    assert [(e["name"], e["series"]) for e in named] == [("h.3.norm", "h.*.norm"), ("b", "b")]
    assert named[0]["layer"] == 3 and math.isnan(named[1]["layer"])
    assert {k: v for k, v in named[0].items() if k not in ("name", "layer", "series")} == one
    assert isonorm.stats([]) == isonorm.stats({}) == []


def views():
    x = random((6, 10, 8), F32, 9)
    yield x.transpose(2, 0, 1)
    yield x[::-1, ::2, ::-1]
    yield x[:, :, ::-1]
    yield x[:, 1:4, 2:7]
    yield np.broadcast_to(x[0, 0], (5, 8))
    yield np.broadcast_to(np.float32(3), (5, 8))
    yield np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(F32).reshape(60, 8)  # at an odd address
    yield random((9, 7), BF16, 10).T
    yield random((9, 7), F64, 10).T
    yield random((2,) * 9, F16, 11).transpose(8, 7, 6, 5, 4, 3, 2, 1, 0)
    yield np.asfortranarray(random((3, 4, 5), F32, 12))


@pytest.mark.parametrize("x", list(views()), ids=lambda x: f"{x.shape}-{x.dtype}")
def test_views_need_no_copy_of_the_caller(x):
    assert not (x.flags.c_contiguous and x.flags.aligned)
    assert isonorm.stats(x, flat=False) == isonorm.stats(x.copy(order="C"), flat=False)


def test_the_number_of_threads_changes_nothing():
    x = random((1500, 4097), F32, 13)  # several pieces, of several tasks each
    x[7, 9], x[900, 0] = np.nan, np.inf
    for of in (isonorm.stats, isonorm.compare):
        expected = repr(of(x, threads=1))
        for threads in (2, 3, None):
            assert repr(of(x, threads=threads)) == expected


def test_tensors_of_torch():
    torch = pytest.importorskip("torch")
    x = torch.randn(6, 50, 33)
    assert isonorm.stats(x) == isonorm.stats(x.numpy())
    assert isonorm.stats(x.transpose(0, 2)) == isonorm.stats(np.ascontiguousarray(x.numpy().T.copy()))
    half = x.to(torch.bfloat16)
    assert isonorm.stats(half) == isonorm.stats(half.view(torch.uint16).numpy().view(BF16))
    parameter = torch.nn.Parameter(half)
    assert isonorm.stats({"p": parameter})[0]["rms"] == isonorm.stats(half)["rms"] and parameter.grad is None
    assert isonorm.stats(torch.tensor(2.5))["rows"] == 1
    assert isonorm.stats(torch.ones(2, 2, 2, 1, 1, 1, 1, 3, 5))["rows"] == 24
    assert isonorm.stats(torch.empty(0, 4))["remarks"] == "empty"
    negative = torch.view_as_complex(torch.randn(4, 3, 2)).conj().imag  # whose signs are a flag
    assert negative.is_neg() and isonorm.stats(negative) == isonorm.stats(negative.resolve_neg().numpy())
    refused = {"meta": x.to("meta"), "sparse": x.to_sparse(), "complex64": x.to(torch.complex64), "int32": x.int()}
    for word, wrong in refused.items():
        with pytest.raises(TypeError, match=rf"^x\[1\] .*{word}"):
            isonorm.stats([x, wrong])


def test_pandas_takes_it():
    pandas = pytest.importorskip("pandas")
    found = isonorm.stats({"h.0": random((4, 6)), "h.1": damaged((5, 7), F32), "b": np.zeros((0, 3), F32)})
    frame = pandas.DataFrame(found)
    texts = {"name", "series", "shape", "dtype", "remarks"}
    assert {c for c in frame if not pandas.api.types.is_numeric_dtype(frame[c])} == texts
    assert frame["rms"][0] == found[0]["rms"] and np.isnan(frame["rms"][2]) and np.isnan(frame["layer"][2])
    compared = pandas.DataFrame(isonorm.compare([random((4, 6)), np.zeros((0, 3), F32)]))
    assert {c for c in compared if not pandas.api.types.is_numeric_dtype(compared[c])} == {"dtype"}


@pytest.mark.parametrize("function", [isonorm.stats, isonorm.compare, lambda x: isonorm.write_report("no", x)])
@pytest.mark.parametrize(
    "wrong",
    [None, 3, "x", b"x", object(), np.arange(3), np.ones(3, ">f4"), np.ma.masked_array([1.0]), np.ones(3, bool)],
    ids=lambda wrong: type(wrong).__name__,
)
def test_other_types_are_refused(function, wrong):
    with pytest.raises(TypeError, match=r"^(x|arrays)\['a'\] (is|has)"):
        function({"a": wrong})


def test_wrong_arguments():
    x = random((2, 3))
    for function in (isonorm.stats, isonorm.compare):
        for eps in (-1, np.nan, np.inf):
            with pytest.raises(ValueError, match="^eps is"):
                function(x, eps=eps)
        with pytest.raises(TypeError, match="^eps is a str"):
            function(x, eps="1e-6")
        with pytest.raises(ValueError, match="^threads is 0"):
            function(x, threads=0)
    for outlier in (0.5, np.nan, np.inf):
        with pytest.raises(ValueError, match="^outlier is"):
            isonorm.stats(x, outlier=outlier)
    with pytest.raises(TypeError, match="^x has the key 1"):
        isonorm.stats({1: x})


def test_the_interpreter_runs_meanwhile_and_interrupts_it():
    long, done = np.broadcast_to(random(4096), (1 << 17, 4096)), []
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))  # whose thread needs the interpreter's lock
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        _native.stats([("x", "x", long.shape, long)], 1e-6, 6.0, 0, done.append)
    timer.join()
    assert sum(done) < long.nbytes / 2


def test_progress(capsys):
    pytest.importorskip("tqdm")
    x = random((1000, 4096), F32, 14)
    quiet = isonorm.stats(x)
    assert capsys.readouterr().err == ""
    assert isonorm.stats(x, progress=True) == quiet
    assert "100%" in capsys.readouterr().err
    assert isonorm.stats(np.broadcast_to(x, (5, *x.shape)), progress=False)["rows"] == 5000
    assert isonorm.stats(np.broadcast_to(x, (5, *x.shape)))["rows"] == 5000, "no terminal, no bar"
    assert capsys.readouterr().err == ""
