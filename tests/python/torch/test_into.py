"""isonorm.into: tensors of other frameworks by DLPack, here those of torch."""

import numpy as np
import pytest
from conftest import random, same

import isonorm

torch = pytest.importorskip("torch")


def test_tensors_of_torch():
    x, weight = torch.randn(5, 3, 100), torch.randn(100)
    out, rstd = torch.empty_like(x), torch.empty(5, 3)
    assert isonorm.into(out, x, weight, eps=1e-6, rstd=rstd) is out
    expected = isonorm.rms_norm(x.numpy(), weight.numpy(), eps=1e-6, return_rstd=True)
    assert same(out.numpy(), expected.y) and same(rstd.numpy(), expected.rstd)


def test_types_and_strides():
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        x = torch.randn(6, 4, 40).to(dtype)
        for view in (x, x[::2], x.transpose(0, 1), x[:, :1].expand(6, 4, 40), x[:, :, 4:37]):
            out, dense = torch.empty(view.shape, dtype=dtype), torch.empty(view.shape, dtype=dtype)
            isonorm.into(out, view, eps=1e-6, contract="llama")
            isonorm.into(dense, view.contiguous(), eps=1e-6, contract="llama")
            assert torch.equal(out.view(torch.uint8), dense.view(torch.uint8))


def test_numpy_and_torch_in_one_call():
    x, out = random((4, 64)), torch.empty(4, 64)
    isonorm.into(out, x, torch.ones(64), eps=1e-6)
    assert same(out.numpy(), isonorm.rms_norm(x, np.ones(64, np.float32), eps=1e-6))


class Frozen:
    """A tensor of a framework whose arrays are constant, such as JAX."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_only_numpy_and_torch_are_written_to():
    x = random((4, 64))
    expected = isonorm.rms_norm(x, eps=1e-6)
    out = np.empty_like(x)
    isonorm.into(out, Frozen(x), eps=1e-6)
    assert same(out, expected)
    before = x.copy()
    with pytest.raises(TypeError, match="out is a .*Frozen"):
        isonorm.into(Frozen(x), x, eps=1e-6)
    assert same(x, before)


def test_no_gradient_is_lost_in_silence():
    x = torch.randn(4, 64, requires_grad=True)
    with pytest.raises(ValueError, match=r"x requires a gradient.*x\.detach\(\)"):
        isonorm.into(torch.empty(4, 64), x, eps=1e-6)
    isonorm.into(torch.empty(4, 64), x.detach(), eps=1e-6)
    with pytest.raises(TypeError, match="isonorm.torch"):
        isonorm.rms_norm(x, eps=1e-6)


def test_what_is_wrong_is_named():
    for words, x in (
        ("x is a list", [1.0]),
        ("x is not in CPU memory", torch.empty(2, 3, device="meta")),
        ("x", torch.ones(2, 3, dtype=torch.int32)),
    ):
        with pytest.raises(TypeError, match=words):
            isonorm.into(torch.empty(2, 3), x, eps=1e-6)


def test_a_negative_view_is_refused():
    x = torch._neg_view(torch.ones(2, 8))  # what x.imag of a conjugated tensor is
    with pytest.raises(ValueError, match="x is stored with the other sign: pass x.resolve_neg()"):
        isonorm.into(np.empty((2, 8), np.float32), x, eps=1e-6)
    assert (isonorm.into(np.empty((2, 8), np.float32), x.resolve_neg(), eps=0) == -1).all()


def test_tensors_without_memory():
    x = torch.ones(2, 8)
    x.untyped_storage().resize_(0)
    for look in (isonorm.digest, isonorm.stats, isonorm.compare):
        with pytest.raises(ValueError, match="x has no memory|x.data is null"):
            look(x)
