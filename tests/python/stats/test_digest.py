"""isonorm.digest: what `isonorm apply --digest` prints."""

import json

import numpy as np
import pytest
from conftest import BF16, E4M3, F16, F32, F64, random, read_safetensors, write_safetensors

import isonorm


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
def test_the_digest_of_the_command(command, tmp_path, dtype):
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    x = random((5, 7, 129), dtype, 1)
    write_safetensors(source, {"x": x})
    options = ("--contract", "torch", "--eps", 1e-6, "--digest", "--json")
    printed = json.loads(command("apply", source, "-o", target, *options))["tensors"][0]["digest"]
    assert isonorm.digest(isonorm.rms_norm(x, eps=1e-6)) == printed == isonorm.digest(read_safetensors(target)["x"])


def test_the_digest_of_quantised_values(command, tmp_path):
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    write_safetensors(source, {"x": random((5, 64), F32, 2)})
    quantised = ("--out-dtype", "e4m3", "--scale-kind", "power_of_two")
    options = ("--contract", "torch", "--eps", 1e-6, "--digest", "--json")
    printed = json.loads(command("apply", source, "-o", target, *quantised, *options))["tensors"][0]
    written = read_safetensors(target)
    assert written["x"].dtype == E4M3 and isonorm.digest(written["x"]) == printed["digest"]
    assert isonorm.digest(written[printed["scale"]["name"]]) == printed["scale"]["digest"]


def test_bytes_of_the_values_in_the_order_of_rows():
    x = random((4, 6, 5), F32, 3)
    for array in (x, x.T, x[::2, ::-1], x[..., 1:3], np.broadcast_to(x[0], (3, 6, 5)), x[0, 0, 0:1], x[0:0], np.float32(2.5)):
        assert isonorm.digest(array) == fnv(np.asarray(array).tobytes())
    assert isonorm.digest(np.array(1.0)) == fnv(np.array(1.0).tobytes())
    assert isonorm.digest(x.reshape((2, 2, 2, 1, 3, 1, 1, 5))) == isonorm.digest(x)
    large = random((3000, 700), F16, 4)  # pieces, without the interpreter's lock
    assert isonorm.digest(large.T) == isonorm.digest(np.ascontiguousarray(large.T)) != isonorm.digest(large)


def test_bits_and_not_values():
    assert isonorm.digest(np.zeros(3)) != isonorm.digest(-np.zeros(3))
    assert isonorm.digest(np.array([np.nan])) == isonorm.digest(np.array([np.nan]))
    quiet, other = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(F32).reshape(2, 1)
    assert isonorm.digest(quiet) != isonorm.digest(other)


def test_tensors_of_torch():
    torch = pytest.importorskip("torch")
    x = torch.randn(5, 7).to(torch.bfloat16)
    same = x.view(torch.uint16).numpy().view(BF16)
    assert isonorm.digest(x) == isonorm.digest(same) == fnv(same.tobytes())
    eight = x.to(torch.float8_e4m3fn)
    assert isonorm.digest(eight) == fnv(eight.view(torch.uint8).numpy().tobytes())
    assert isonorm.digest(torch.ones(3, requires_grad=True)) == isonorm.digest(np.ones(3, F32))


def test_other_types_are_refused():
    for wrong in (None, 3, "x", [1.0], np.ones(3, ">f4"), np.ones(3, complex)):
        with pytest.raises(TypeError, match="^x (is|has)"):
            isonorm.digest(wrong)
