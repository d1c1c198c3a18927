"""What tests of modules share: bits, distances in units of the last place, and rows whose RMS is a power of two."""

from __future__ import annotations

import itertools
import random

import ml_dtypes
import numpy as np
import torch

HALVES = (torch.bfloat16, torch.float16)
FLOATS = (torch.float32, *HALVES)
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.detach().contiguous().view(_INTEGERS[x.element_size()])


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal type, shape and bits."""
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))


def array(x: torch.Tensor) -> np.ndarray:
    x = x.detach()
    return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if x.dtype == torch.bfloat16 else x.numpy()


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16) if x.dtype == ml_dtypes.bfloat16 else torch.from_numpy(x)


def ulps(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """How many values of the type lie between, for finite tensors of one 16-bit type."""
    assert a.dtype == b.dtype and a.dtype in HALVES and a.shape == b.shape
    assert torch.isfinite(a).all() and torch.isfinite(b).all()
    left, right = (bits(x).int() for x in (a, b))
    left, right = (torch.where(x < 0, -(x & 0x7FFF), x) for x in (left, right))
    return (left - right).abs()


def power_rows(rows: int, cols: int, seed: int = 0) -> torch.Tensor:
    """Rows of small integers whose mean square is 16, so that with eps 0 every sum and 1 / RMS is exact."""
    generator = random.Random(seed)
    result = []
    for _ in range(rows):
        row = [generator.randint(-5, 5) for _ in range(cols - 4)]
        rest = 16 * cols - sum(v * v for v in row)
        limit = int(rest**0.5) + 1
        # Four squares make any number (Lagrange).
        tail = next(t for t in itertools.product(range(limit), repeat=4) if sum(v * v for v in t) == rest)
        row += tail
        generator.shuffle(row)
        result.append(row)
    return torch.tensor(result, dtype=torch.float32)
