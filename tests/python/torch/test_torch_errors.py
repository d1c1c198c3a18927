"""Bad input: the exception and its sentence; no leak on the way."""

import ctypes
import dataclasses
import functools
import gc
import pathlib
import re

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch_support import randn, same, to_numpy

import isonorm
import isonorm.torch as it
from isonorm.torch import _library

X, W = randn(3, 8), randn(8, seed=1)


def raises(kind, sentence, call):
    with pytest.raises(kind, match=re.escape(sentence)):
        call()


def test_sentences():
    norm = it.rms_norm
    raises(RuntimeError, "weight.shape[0] is 5, but must be 8", lambda: norm(X, W[:5], eps=1e-5))
    raises(RuntimeError, "residual is f32, but where x is f64", lambda: norm(X.double(), W, eps=1e-5, residual=X))
    raises(RuntimeError, "residual is f64", lambda: norm(X, W, eps=1e-5, residual=X.double()))
    raises(RuntimeError, "x is i32, but must be f32, bf16, f16 or f64", lambda: norm(X.int(), W, eps=1e-5))
    raises(RuntimeError, "x.ndim is 0", lambda: norm(torch.tensor(1.0), eps=1e-5))
    raises(RuntimeError, "eps", lambda: norm(X, W, eps=-1.0))
    raises(TypeError, "eps", lambda: norm(X, W))
    raises(ValueError, "contract 'lama' is none of", lambda: norm(X, W, eps=1e-5, contract="lama"))
    raises(TypeError, "contract is a int", lambda: norm(X, W, eps=1e-5, contract=3))
    raises(TypeError, "x is a numpy.ndarray, but has to be a torch.Tensor", lambda: norm(X.numpy(), W, eps=1e-5))
    raises(TypeError, "weight is a list, but has to be a torch.Tensor", lambda: norm(X, [1.0] * 8, eps=1e-5))
    raises(RuntimeError, "x has the layout torch.sparse_coo", lambda: norm(X.to_sparse(), W, eps=1e-5))
    raises(RuntimeError, "residual.shape[0] is 2, but must be 3", lambda: norm(X, W, eps=1e-5, residual=X[:2]))
    raises(RuntimeError, "window", lambda: norm(X, W, eps=1e-5, window=9))
    raises(RuntimeError, "groups", lambda: norm(X, W, eps=1e-5, groups=3))
    raises(RuntimeError, "mean", lambda: norm(X, W, eps=1e-5, return_mean=True))
    raises(RuntimeError, "normalized_shape is (5,), but x has shape (3, 8)", lambda: norm(X, W, eps=1e-5, normalized_shape=5))
    raises(
        RuntimeError,
        "weight has shape (8,), but normalized_shape is (3, 8)",
        lambda: norm(X, W, eps=1e-5, normalized_shape=(3, 8)),
    )
    raises(ValueError, "has no mean: use rms_norm", lambda: it.layer_norm(X, W, eps=1e-5, contract="llama"))
    raises(ValueError, "needs has 'dz'", lambda: it.rms_norm_backward(X, X, eps=1e-5, needs="dz"))
    needs = {"eps": 1e-5, "needs": "dweight"}
    raises(ValueError, "needs has 'dweight', but there is no weight", lambda: it.rms_norm_backward(X, X, **needs))
    raises(RuntimeError, "x", lambda: it.rms(torch.empty(3, 0)))
    rope = it.Rope(randn(9, 4), randn(9, 4), position_axis=1)
    raises(ValueError, "position_axis is 1, but has to be a leading axis of x", lambda: norm(X, W, eps=1e-5, rope=rope))
    table = randn(9, 4, grad=True)
    raises(RuntimeError, "must not require a gradient", lambda: norm(X, W, eps=1e-5, rope=it.Rope(table, table)))
    many = randn(2, 1, 1, 1, 1, 1, 1, 8)
    raises(RuntimeError, "a rotation takes at most 7", lambda: norm(many, W, eps=1e-5, rope=it.Rope(randn(9, 4), randn(9, 4))))


def test_what_is_no_tensor_and_no_number():
    raises(TypeError, "x is a NoneType, but has to be a torch.Tensor", lambda: it.rms_norm(None, eps=1e-6))
    raises(TypeError, "q is a NoneType, but has to be a torch.Tensor", lambda: it.qk_norm(None, X, eps=1e-6))
    raises(TypeError, "dy is a NoneType, but has to be a torch.Tensor", lambda: it.rms_norm_backward(None, X, eps=1e-6))
    raises(TypeError, "x is a NoneType", lambda: it.LlamaRMSNorm(8)(None))
    raises(TypeError, "eps is a NoneType, but has to be a number", lambda: it.rms_norm(X, W, eps=None))
    raises(TypeError, "groups is a float, but has to be an int", lambda: it.rms_norm(X, W, eps=1e-6, groups=2.0))
    raises(RuntimeError, "window is too large", lambda: it.rms_norm(X, W, eps=1e-6, window=2**70))
    raises(TypeError, "rope is a int, but has to be a isonorm.torch.Rope", lambda: it.rms_norm(X, W, eps=1e-6, rope=3))
    raises(TypeError, "dtype is a int, but has to be a torch.dtype", lambda: it.rms_norm(X, W, eps=1e-6, dtype=6))
    for dtype in (torch.int16, torch.bool, torch.complex64, torch.float8_e8m0fnu):
        raises(RuntimeError, f"dtype is {dtype}, but results are float32, bfloat16", lambda d=dtype: it.rms_norm(X, eps=1e-6, dtype=d))
    raises(RuntimeError, "x has dtype torch.complex64", lambda: it.rms_norm(X + 0j, W, eps=1e-6))
    raises(RuntimeError, "x is a nested tensor", lambda: it.rms_norm(torch.nested.nested_tensor([X]), W, eps=1e-6))
    raises(ValueError, r"contract 'torch\x00' is none of", lambda: it.rms_norm(X, W, eps=1e-6, contract="torch\0"))
    raises(ValueError, "did you mean 'llama'?", lambda: it.rms_norm(X, W, eps=1e-6, contract="lama"))
    raises(
        TypeError, "weight is a tuple, but has to be a torch.Tensor: it comes second", lambda: it.rms_norm(X, (8,), eps=1e-6)
    )
    with pytest.raises(RuntimeError, match="rounded_to is -1"):
        torch.ops.isonorm.quantized(X, W, None, 1e-6, "torch", False, dtype=torch.int8, scale_kind=2, rounded_to=-1)


@pytest.mark.parametrize("norm, size", [
    (it.RMSNorm, "normalized_shape"), (it.LayerNorm, "normalized_shape"), (it.FusedAddRMSNorm, "normalized_shape"),
    (it.GatedRMSNorm, "normalized_shape"), (functools.partial(it.GroupedRMSNorm, groups=2), "normalized_shape"),
    (it.PartialRMSNorm, "normalized_shape"), (functools.partial(it.QuantizedRMSNorm, quantize="int8"), "normalized_shape"),
    (it.QKNormRope, "head_dim"), (it.LlamaRMSNorm, "hidden_size"), (it.T5RMSNorm, "hidden_size"), (it.GemmaRMSNorm, "dim"),
])  # fmt: skip
def test_what_is_no_eps_and_no_size(norm, size):
    """The constructor says so, not the first call."""
    wrong = [
        (TypeError, "eps is a str, but has to be a number", (32,), {"eps": "1e-6"}),
        (TypeError, "eps is a bool, but has to be a number", (32,), {"eps": True}),
        (ValueError, "eps is -1.0, but has to be 0 or more and finite", (32,), {"eps": -1}),
        (ValueError, "eps is inf, but has to be 0 or more and finite", (32,), {"eps": float("inf")}),
        (ValueError, "eps is nan, but has to be 0 or more and finite", (32,), {"eps": float("nan")}),
        (TypeError, f"{size} is a str, but has to be an int", ("32",), {}),
        (TypeError, f"{size} is a float, but has to be an int", (32.0,), {}),
        (TypeError, f"{size} is a bool, but has to be an int", (True,), {}),
        (ValueError, f"{size} is 0, but has to be 1 or more", (0,), {}),
        (ValueError, f"{size} is -3, but has to be 1 or more", (-3,), {}),
    ]
    if size != "head_dim":
        wrong.append((ValueError, f"{size} is empty, but has to have one size or more", ((),), {}))
    if norm in (it.LayerNorm, it.LlamaRMSNorm, it.T5RMSNorm, it.GemmaRMSNorm):
        wrong.append((TypeError, "eps is a NoneType, but has to be a number", (32,), {"eps": None}))
    for kind, sentence, sizes, options in wrong:
        with pytest.raises(kind) as caught:
            norm(*sizes, **options)
        assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value), str(caught.value)


@pytest.mark.parametrize("norm", [it.RMSNorm, it.LayerNorm, it.LlamaRMSNorm, it.T5RMSNorm, it.GemmaRMSNorm])
def test_modules_refuse_what_functions_do(norm):
    module = norm(8)
    for dtype in (torch.int16, torch.bool, torch.complex64, torch.float8_e5m2fnuz):
        raises(RuntimeError, f"x has dtype {dtype}, but has to be float32", lambda d=dtype: module(torch.zeros(2, 8, dtype=d)))
    raises(RuntimeError, "x is e4m3, but must be f32", lambda: module(torch.zeros(2, 8, dtype=torch.float8_e4m3fn)))
    raises(TypeError, "x is a numpy.ndarray, but has to be a torch.Tensor: torch.from_numpy() makes one", lambda: module(X.numpy()))
    raises(TypeError, "x is a masked array, and isonorm knows no masks: fill it, as x.filled(0)",
           lambda: module(np.ma.masked_array(X.numpy())))  # fmt: skip
    raises(TypeError, "x is a symbolic tensor of Keras, which isonorm.keras.RMS", lambda: module(type("KerasTensor", (), {})()))


def test_memory_that_was_given_back():
    def freed(tensor):
        tensor.untyped_storage().resize_(0)
        return tensor

    for x in (torch.ones(3, 8), torch.ones(8, 3).t(), torch.ones(*(1,) * 8, 8, 3).transpose(-1, -2)):
        raises(RuntimeError, "x.data is null", lambda: it.rms_norm(freed(x), eps=1e-6))
    raises(
        RuntimeError,
        "weight has no memory",
        lambda: it.rms_norm(X, freed(torch.ones(8, dtype=torch.float64)), eps=1e-6),
    )


def test_fake_tensors_of_other_devices():
    with FakeTensorMode():
        here, there = torch.empty(3, 8), torch.empty(3, 8, device="cuda")
        assert it.rms_norm(here, eps=1e-6).shape == (3, 8)
        raises(RuntimeError, "x is on cuda:0, but isonorm computes on the CPU", lambda: it.rms_norm(there, eps=1e-6))
        raises(RuntimeError, "residual is on cuda:0, but", lambda: it.rms_norm(here, eps=1e-6, residual=there))
        raises(RuntimeError, "x has dtype torch.int32", lambda: torch.ops.isonorm.rms(here.int()))
        raises(RuntimeError, "residual is torch.float64, but x is", lambda: it.rms_norm(here, eps=1e-6, residual=here.double()))
    assert it.rms_norm(X.to("meta"), eps=1e-6).device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_of_float64_follows_the_rule_of_numpy(dtype):
    x, weight = randn(3, 8, dtype=dtype), randn(8, dtype=torch.float64, seed=1, grad=True)
    bias = randn(8, dtype=torch.float64, seed=2)
    y = it.rms_norm(x, weight, bias, eps=1e-5, contract="paper")
    assert same(y, to_numpy_norm(x, weight, bias))
    assert same(y, it.rms_norm(x, weight.float(), bias.float(), eps=1e-5, contract="paper"))
    (dweight,) = torch.autograd.grad(y.float().sum(), weight)
    narrow = weight.detach().float().requires_grad_()
    (expected,) = torch.autograd.grad(it.rms_norm(x, narrow, bias, eps=1e-5, contract="paper").float().sum(), narrow)
    assert dweight.dtype == torch.float64 and same(dweight, expected.double())
    wide = it.rms_norm(x.double(), narrow, eps=1e-5)
    assert same(wide, it.rms_norm(x.double(), narrow.double(), eps=1e-5))
    assert same(it.qk_norm(x, x, weight, None, eps=1e-5)[0], it.rms_norm(x, weight, eps=1e-5))
    dx, again = it.rms_norm_backward(torch.ones_like(x), x, weight.detach(), eps=1e-5)
    assert dx.dtype == dtype and again.dtype == torch.float32


def to_numpy_norm(x, weight, bias):
    arrays = (to_numpy(t.detach()) for t in (x, weight, bias))
    return isonorm.rms_norm(*arrays, eps=1e-5, contract="paper")


def test_statistics_of_a_vector_have_no_dimension():
    x, w = randn(8), randn(8, seed=1)
    y, rstd = it.rms_norm(x, w, eps=1e-5, return_rstd=True)
    ny, nrstd = isonorm.rms_norm(x.numpy(), w.numpy(), eps=1e-5, return_rstd=True)
    assert rstd.shape == nrstd.shape == () and same(rstd, nrstd) and same(y, ny)
    dx = isonorm.rms_norm_backward(ny, x.numpy(), eps=1e-5, rstd=nrstd)
    assert same(it.rms_norm_backward(y, x, eps=1e-5, rstd=rstd), dx)
    assert same(torch.as_tensor(dx), isonorm.rms_norm_backward(ny, x.numpy(), eps=1e-5))
    found = torch.zeros(())
    isonorm.into(torch.empty(8), x, eps=1e-5, rstd=found)
    assert same(found, nrstd)
    rms = isonorm.rms(x.numpy())
    assert rms.shape == isonorm.rms_penalty(x.numpy(), 0.5, gradient=False).shape == () and same(it.rms(x), rms)
    assert same(it.rms(x[None]), isonorm.rms(x.numpy()[None]))
    with pytest.raises(ValueError, match="rstd has 0 dimensions"):
        isonorm.rms_norm_backward(np.ones((1, 8), np.float32), np.ones((1, 8), np.float32), eps=1e-5, rstd=nrstd)


def test_quantized_gradients_are_refused():
    w = W.clone().requires_grad_()
    quantize = isonorm.Quantization("int8")
    raises(RuntimeError, "quantize gives int8, which has no gradient", lambda: it.rms_norm(X, w, eps=1e-5, quantize=quantize))
    with torch.no_grad():
        assert it.rms_norm(X, w, eps=1e-5, quantize=quantize).y.dtype == torch.int8
    wrong = {"quantize": quantize, "dtype": torch.bfloat16}
    raises(RuntimeError, "dtype is torch.bfloat16, but quantize gives torch.int8", lambda: it.rms_norm(X, W, eps=1e-5, **wrong))


def test_contract_text():
    for text in ("1,1", "1,1,2,1,1,1,2,", "1,1,2,1,1,1,2,0.5x", "1,1,2,1,1,1,x,0.5", "1;1,2,1,1,1,2,0.5", ""):
        with pytest.raises(RuntimeError):
            torch.ops.isonorm.rms_norm(X, W, eps=1e-5, contract=text)
    with pytest.raises(RuntimeError, match="statistic"):
        torch.ops.isonorm.rms_norm(X, W, eps=1e-5, contract="9,1,2,1,1,1,2,0.0")
    for offset in (0.1, 1e-300, -2.5e17):
        contract = dataclasses.replace(isonorm.contracts.gemma, weight_offset=offset)
        assert isonorm.contracts.from_text(contract.text) == contract


class Heap(ctypes.Structure):
    """struct mallinfo2 of glibc."""

    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


def test_nothing_leaks():
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Heap

    def in_use():
        gc.collect()
        return mallinfo().uordblks

    x, w = randn(4, 8, grad=True), randn(8, grad=True)
    odd = randn(8, 4).t()

    def once():
        it.rms_norm(x, w, w, eps=1e-5, residual=odd, return_rstd=True).y.sum().backward()
        it.rms_norm(odd, None, eps=1e-5, contract=isonorm.contracts.gemma, dtype=torch.bfloat16)
        for bad in ((odd, W[:5], W), (odd, W, W.double())):
            with pytest.raises(RuntimeError):
                torch.ops.isonorm.rms_norm(*bad, eps=1e-5)

    for _ in range(100):
        once()
    before = in_use()
    for _ in range(1000):
        once()
    assert in_use() - before < 1000 * 16  # a single value that is not freed takes 32 bytes in each turn


def test_no_path_in_the_library():
    data = pathlib.Path(_library.PATH).read_bytes()
    for name in (b"/ho" b"me/", b"/ro" b"ot/", b"/t" b"mp/", b"site-packages"):  # fmt: skip
        assert name not in data
