"""The same array gives the same bits through NumPy, torch, JAX, the command and C++, all but the last two in one process."""

import os
import subprocess

import jax
import numpy as np
import pytest
import torch
from conftest import BF16, F16, F32, F64, SAFETENSORS, bits, random, same
from torch_support import DTYPES, to_numpy

import isonorm
import isonorm.jax as ij
import isonorm.torch as it

jax.config.update("jax_enable_x64", True)

PLAIN = [name for name in isonorm.contracts.names() if getattr(isonorm.contracts, name).gate_place == "none"]
TORCH = {dtype: own for own, dtype in DTYPES.items()}


@pytest.fixture(scope="session")
def cpp():
    """rows.cc, which the build compiles."""
    program = os.environ.get("ISONORM_ROWS")
    if program is None:
        pytest.fail("ISONORM_ROWS does not name the program that rows.cc is: run this by ctest")

    def run(x, weight, contract, eps):
        word = SAFETENSORS[x.dtype].lower()
        options = {"--contract": contract, "--eps": eps, "--type": word, "--rows": x.shape[0], "--cols": x.shape[1]}
        command = [program, *(str(part) for option in options.items() for part in option)]
        done = subprocess.run(command, input=x.tobytes() + weight.tobytes(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return np.frombuffer(done.stdout, x.dtype).reshape(x.shape)

    return run


def to_torch(array):
    return torch.from_numpy(bits(array).view(f"i{array.itemsize}")).view(TORCH[array.dtype])


@pytest.mark.parametrize("dtype", [F32, BF16, F16, F64], ids=str)
@pytest.mark.parametrize("contract", PLAIN)
def test_the_same_bits(apply, cpp, contract, dtype):
    x, weight = random((37, 1029), dtype, 1, scale=3), random(1029, dtype, 2)
    y = isonorm.rms_norm(x, weight, eps=1e-6, contract=contract)
    assert len(np.unique(bits(y))) > 100  # and no empty or constant results agree
    name = "layer_norm" if contract == "layer_norm" else "rms_norm"
    options = {"eps": 1e-6, "contract": contract}
    ways = {
        "torch": to_numpy(getattr(it, name)(to_torch(x), to_torch(weight), **options)),
        "JAX": np.asarray(getattr(ij, name)(x, weight, **options)),
        "the command": apply({"x": x, "w": weight}, "--contract", contract, "--eps", 1e-6, "--weight", "w")["x"],
        "C++": cpp(x, weight, contract, 1e-6),
    }
    assert [way for way, result in ways.items() if not same(result, y)] == []
