"""Pages of large results: the system is asked for huge ones, which it hands out far quicker."""

import pathlib
import re

import pytest

torch = pytest.importorskip("torch")
import isonorm.torch as it  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch_support import randn  # noqa: E402

SMAPS = pathlib.Path("/proc/self/smaps")
LARGE = (4096, 4096)  # 64 MiB of float32: more than glibc keeps, so that the memory is fresh in each call
pytestmark = pytest.mark.skipif(
    not pathlib.Path("/sys/kernel/mm/transparent_hugepage").exists() or "VmFlags" not in SMAPS.read_text(),
    reason="this system has no transparent huge pages, or does not say where they were asked for",
)


def asked_for_huge_pages(tensor):
    """Whether the memory in the middle of a tensor has the flag of MADV_HUGEPAGE."""
    middle = tensor.data_ptr() + tensor.numel() * tensor.element_size() // 2
    inside = False
    for line in SMAPS.read_text().splitlines():
        if area := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(area[1], 16) <= middle < int(area[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split()
    raise AssertionError("the memory of the tensor is not in the table")


def test_torch_itself_does_not_ask():
    """The control: without it, the tests below could not fail."""
    assert not asked_for_huge_pages(torch.ones(LARGE))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_results(dtype):
    x = torch.ones(LARGE[0] * 4 // dtype.itemsize, LARGE[1], dtype=dtype)
    y, rstd = it.rms_norm(x, eps=1e-6, return_rstd=True)
    assert y.nbytes == 2**26 and asked_for_huge_pages(y)
    assert rstd.nbytes < 2**22 and not asked_for_huge_pages(rstd)


def test_second_results_and_copies():
    x = torch.ones(LARGE)
    y, total = it.rms_norm(x.t(), eps=1e-6, residual=x)
    assert asked_for_huge_pages(y) and asked_for_huge_pages(total)


def test_gradients():
    x = torch.ones(LARGE, requires_grad=True)
    y = it.rms_norm(x, eps=1e-6)
    (dx,) = torch.autograd.grad(y, x, torch.ones(LARGE))
    assert asked_for_huge_pages(y) and asked_for_huge_pages(dx)


def test_replaced_kernels():
    x = torch.ones(LARGE, requires_grad=True)
    with it.enabled():
        for norm in (F.rms_norm, F.layer_norm):
            y = norm(x, LARGE[-1:])
            (dx,) = torch.autograd.grad(y, x, torch.ones(LARGE))
            assert asked_for_huge_pages(y) and asked_for_huge_pages(dx)


@pytest.mark.parametrize("rows", [255, 256, 257])
def test_around_the_limit(rows):
    """Up to the last value, and no further: 4 MiB is 256 rows."""
    x = randn(rows + 2, LARGE[1])
    y = it.rms_norm(x, eps=1e-6)
    assert torch.equal(y[:rows], it.rms_norm(x[:rows], eps=1e-6))
    assert torch.equal(y[rows:], it.rms_norm(x[rows:], eps=1e-6))
