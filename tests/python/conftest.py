"""What all tests of the package share: arrays, bits, and the command beside the package."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

# The folders beside this file bear the names of frameworks, and must not be taken for those that are not installed.
for _framework in ("torch", "transformers", "jax", "keras", "tensorflow"):
    if getattr(importlib.util.find_spec(_framework), "origin", None) is None:
        sys.modules[_framework] = None
# Keras' own default is TensorFlow, and TensorFlow imports Keras: with torch that would load Triton, which it has to come before.
os.environ.setdefault("KERAS_BACKEND", "jax")

# A test that is left out is no test that passed: continuous integration has everything, and fails where something is skipped.
_skipped = []


def pytest_runtest_logreport(report):
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_collectreport(report):
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session, exitstatus):
    if _skipped and exitstatus == 0 and os.environ.get("CI"):
        print(f"\nCI is set, and these were skipped: {', '.join(_skipped)}")
        session.exitstatus = 1


BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
E4M3, E5M2 = np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2)
SAFETENSORS = {F32: "F32", F16: "F16", BF16: "BF16", F64: "F64", E4M3: "F8_E4M3", E5M2: "F8_E5M2", np.dtype(np.int8): "I8"}


def bits(array):
    """The values as unsigned integers, so that NaN equals itself and -0 differs from 0."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def same(a, b):
    """Whether two arrays have the same type, shape and bits."""
    return a.dtype == b.dtype and a.shape == b.shape and bool((bits(a) == bits(b)).all())


def random(shape, dtype=F32, seed=0, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": SAFETENSORS[array.dtype],
            "shape": array.shape,
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(
        len(text).to_bytes(8, "little") + text + b"".join(np.ascontiguousarray(a).tobytes() for a in tensors.values())
    )


def read_safetensors(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, data = json.loads(data[8 : 8 + size]), data[8 + size :]
    header.pop("__metadata__", None)
    types = {word: dtype for dtype, word in SAFETENSORS.items()} | {
        "U8": np.dtype(np.uint8),
        "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    }
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], types[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }


@pytest.fixture(scope="module", autouse=True)
def jax_config(request):
    """What a file of tests says in JAX_CONFIG is set while they run, and no longer: files may run in any order, in one process."""
    changes = getattr(request.module, "JAX_CONFIG", {})
    if not changes:
        yield
        return
    import jax

    before = {name: jax.config.values[name] for name in changes}
    for name, value in changes.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="session")
def command():
    """The command `isonorm` that was installed with the package, or the one that ISONORM_COMMAND names."""
    beside = pathlib.Path(sys.executable).with_name("isonorm")
    found = os.environ.get("ISONORM_COMMAND") or (str(beside) if beside.exists() else shutil.which("isonorm"))
    if found is None:
        pytest.fail("no command `isonorm`: install the package, or set ISONORM_COMMAND")

    def run(*arguments):
        done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def apply(command, tmp_path):
    """`isonorm apply` on tensors in memory."""

    def run(tensors, *arguments):
        source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
        write_safetensors(source, tensors)
        command("apply", source, "-o", target, "--force", "--tensor", "x", *arguments)
        return read_safetensors(target)

    return run
