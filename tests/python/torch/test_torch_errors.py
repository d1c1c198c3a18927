"""Bad input: the exception and its sentence; no leak on the way."""

import ctypes
import dataclasses
import gc
import pathlib
import re

import pytest
import torch
from torch_support import randn

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
    raises(RuntimeError, "weight is f32, but where x is f64 every tensor must be f64", lambda: norm(X.double(), W, eps=1e-5))
    raises(RuntimeError, "weight is f64", lambda: norm(X, W.double(), eps=1e-5))
    raises(RuntimeError, "x is i32, but must be f32, bf16, f16 or f64", lambda: norm(X.int(), W, eps=1e-5))
    raises(RuntimeError, "x.ndim is 0", lambda: norm(torch.tensor(1.0), eps=1e-5))
    raises(RuntimeError, "eps", lambda: norm(X, W, eps=-1.0))
    raises(TypeError, "eps", lambda: norm(X, W))
    raises(RuntimeError, '"lama"', lambda: norm(X, W, eps=1e-5, contract="lama"))
    raises(TypeError, "contract is a int", lambda: norm(X, W, eps=1e-5, contract=3))
    raises(TypeError, "x is a ndarray, but has to be a torch.Tensor", lambda: norm(X.numpy(), W, eps=1e-5))
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
    for name in (b"/ho" b"me/", b"/ro" b"ot/", b"/t" b"mp/", b"site-packages"):
        assert name not in data
