"""Tensors of torch beside arrays of NumPy: the same bits, compared as integers."""

import ml_dtypes
import numpy as np
import torch

DTYPES = {
    torch.float32: np.dtype(np.float32),
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
    torch.float16: np.dtype(np.float16),
    torch.float64: np.dtype(np.float64),
    torch.int8: np.dtype(np.int8),
    torch.float8_e4m3fn: np.dtype(ml_dtypes.float8_e4m3fn),
    torch.float8_e5m2: np.dtype(ml_dtypes.float8_e5m2),
    torch.float8_e8m0fnu: np.dtype(ml_dtypes.float8_e8m0fnu),
}
# Torch 2.10 cannot hand over the message of its own error, and writes once that a kernel of its own is replaced.
OLD_TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 13)
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def integers(tensor):
    return tensor.detach().contiguous().view(INTEGERS[tensor.element_size()])


def to_numpy(tensor):
    if tensor is None:
        return None
    return integers(tensor).numpy().view(DTYPES[tensor.dtype])


def same(tensor, expected):
    """Whether a tensor has the type, the shape and the bits of an array, or of another tensor."""
    if not isinstance(expected, torch.Tensor):
        if DTYPES[tensor.dtype] != expected.dtype or tuple(tensor.shape) != expected.shape:
            return False
        kind = f"u{expected.dtype.itemsize}"
        return bool((to_numpy(tensor).view(kind) == np.ascontiguousarray(expected).view(kind)).all())
    return tensor.dtype == expected.dtype and torch.equal(integers(tensor), integers(expected))


def roundings(cols, derivatives, eps=2.0**-52):
    """How far two ways of computing a derivative of the norm of a row may be apart, relative to the largest value there is.

    y has a sum of `cols` squares and four operations more behind it. A derivative multiplies what was rounded by x * rstd, of
    which no value is above sqrt(cols), twice, and so by cols at most, and adds as many operations again. Both ways err."""
    return 2 * (derivatives + 1) * (cols + 4) * (cols + 1) ** derivatives * eps / 2


def randn(*shape, dtype=torch.float32, seed=0, grad=False):
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(grad)
