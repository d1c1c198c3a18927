"""What is wrong is an exception with one sentence that names the argument, and nothing is written."""

import numpy as np
import pytest
from conftest import BF16, random, same

import isonorm

X, W = random((3, 8)), random(8)


def read_only(shape):
    array = np.zeros(shape, np.float32)
    array.flags.writeable = False
    return array


WRONG = [
    (TypeError, "eps", {}),
    (ValueError, "eps", {"eps": -1.0}),
    (ValueError, "eps", {"eps": float("nan")}),
    (TypeError, "x is a list", {"x": [[1.0]]}),
    (TypeError, "x", {"x": np.ones((3, 8), np.int64)}),
    (TypeError, "x has dtype complex64", {"x": np.ones((3, 8), np.complex64)}),
    (TypeError, "x has dtype >f4", {"x": X.astype(">f4")}),
    (TypeError, "x has dtype object", {"x": X.astype(object)}),
    (TypeError, "x is a masked array", {"x": np.ma.masked_array(X)}),
    (ValueError, "x has 0 dimensions", {"x": np.array(1, np.float32)}),
    (TypeError, "weight is a float", {"weight": 1.0}),
    (ValueError, r"weight.*\b7\b.*\b8\b", {"weight": random(7)}),
    (ValueError, "bias", {"bias": random((8, 1)), "contract": "paper"}),
    (ValueError, r"residual.*\b2\b", {"residual": random((2, 8))}),
    (ValueError, "gate", {"gate": X}),
    (ValueError, "gate", {"contract": "mamba2"}),
    (ValueError, "groups", {"groups": 3}),
    (ValueError, "window", {"window": 9}),
    (ValueError, "window", {"contract": "layer_norm", "window": 4}),
    (ValueError, "contract 'lama' is none of .*did you mean 'llama'", {"contract": "lama"}),
    (TypeError, "contract is a int", {"contract": 3}),
    (ValueError, "axis 2 does not exist", {"axis": 2}),
    (ValueError, "names an axis twice", {"axis": (1, -1)}),
    (ValueError, "axis is empty", {"axis": ()}),
    (ValueError, r"weight has shape \(8,\), but x has 3 values along axis 0", {"axis": 0, "weight": random(8)}),
    (ValueError, r"bias has shape \(5,\), but x has 3 values along axis 0", {"axis": 0, "weight": None, "bias": random(5), "contract": "paper"}),
    (TypeError, "x is a symbolic tensor of Keras, which isonorm.keras.RMS", {"x": type("KerasTensor", (), {})()}),
    (ValueError, "out is read-only", {"out": read_only((3, 8))}),
    (ValueError, r"shape", {"out": np.empty((3, 7), np.float32)}),
    (TypeError, "out is a list", {"out": [0.0]}),
    (TypeError, "threads is a str", {"threads": "2"}),
    (ValueError, "threads is 0", {"threads": 0}),
    (ValueError, "residual_out is given without residual", {"residual_out": X.copy()}),
    (TypeError, "eps is a NoneType, but has to be a number", {"eps": None}),
    (ValueError, "eps is too large", {"eps": 10**400}),
    (TypeError, "groups is a float, but has to be an int", {"groups": 2.0}),
    (ValueError, "groups is 1099511627776, but", {"groups": 2**40, "return_rstd": True}),
    (TypeError, "window is a str, but has to be an int", {"window": "a"}),
    (ValueError, "window is too large", {"window": 2**70}),
    (TypeError, "axis is a NoneType, but has to be an int", {"axis": None}),
    (TypeError, "rope is a int, but has to be isonorm.Rope", {"rope": 3}),
    (TypeError, "quantize is a str, but has to be isonorm.Quantization", {"quantize": "int8"}),
    (TypeError, "dtype is 'f99', but has to be a type of NumPy", {"dtype": "f99"}),
    (ValueError, "out has shape|out.shape", {"out": np.empty((3, 7), np.float32)}),
    (ValueError, "overlap", {"out": np.lib.stride_tricks.as_strided(np.zeros(64, np.float32), (3, 8), (16, 4))}),
]


@pytest.mark.parametrize("exception, words, arguments", WRONG, ids=[w[1] + " " + ",".join(w[2]) for w in WRONG])
def test_forward(exception, words, arguments):
    call = {"x": X, "weight": W, **arguments}
    if words != "eps" or "eps" in arguments:
        call.setdefault("eps", 1e-6)
    with pytest.raises(exception, match=words) as caught:
        isonorm.rms_norm(**call)
    assert len(str(caught.value).splitlines()) == 1


def test_nothing_is_written():
    out = np.full((3, 8), 7, np.float32)
    with pytest.raises(ValueError):
        isonorm.rms_norm(X, random(9), eps=1e-6, out=out)
    assert (out == 7).all()


def test_overlap_that_is_not_in_place():
    base = random((4, 8))
    before = base.copy()
    with pytest.raises(ValueError, match="overlap"):
        isonorm.rms_norm(base[:3], eps=1e-6, out=base[1:])
    assert same(base, before)


def test_quantization_and_contract_say_what_is_allowed():
    for build, words in (
        (lambda: isonorm.Quantization("int4"), "dtype is 'int4'"),
        (lambda: isonorm.Quantization("int8", "rows"), "scale is 'rows'"),
        (lambda: isonorm.Quantization("int8", rounded_to="float32"), "rounded_to is 'float32'"),
        (
            lambda: isonorm.Contract("rms", "inside", "none", "stored", "none", "silu", "to_weight"),
            "rotation_rounding is 'to_weight'",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            build()
    with pytest.raises(ValueError, match="group_cols"):
        isonorm.rms_norm(X, eps=1e-6, quantize=isonorm.Quantization("int8", group_cols=48))
    with pytest.raises(ValueError, match="dtype is float32, but quantize gives int8"):
        isonorm.rms_norm(X, eps=1e-6, dtype=np.float32, quantize=isonorm.Quantization("int8"))


def test_tensors_that_are_none():
    class Tensor:
        def __init__(self, capsule):
            self.capsule = capsule

        def __dlpack__(self):
            if isinstance(self.capsule, Exception):
                raise self.capsule
            return self.capsule

        def __dlpack_device__(self):
            return (1, 0)

    out = np.full((3, 8), 7, np.float32)
    for capsule, words in (
        (3, "x.__dlpack__.. gave a int"),
        (BufferError("no memory"), "x is a .*gives no DLPack tensor: no memory"),
    ):
        with pytest.raises(TypeError, match=words):
            isonorm.into(out, Tensor(capsule), eps=1e-6)
    assert (out == 7).all()
    with pytest.raises(TypeError, match="x is a NoneType"):
        isonorm.rms(None)
    with pytest.raises(TypeError, match="k_weight is a list"):
        isonorm.qk_norm(X, X, W, [1.0], eps=1e-6)
    with pytest.raises(ValueError, match="In k: weight.shape"):
        isonorm.qk_norm(X, X, W, W[:5], eps=1e-6)


def test_rms_is_not_written_to_a_copy():
    x = random((2, 2, 1, 1, 1, 1, 1, 2, 8))
    out = np.zeros((2, 2, 1, 1, 1, 1, 1, 2), np.float32).swapaxes(0, 7)
    with pytest.raises(ValueError, match="out of strides .* without a copy"):
        isonorm.rms(x, out=out)
    with pytest.raises(ValueError, match="out has shape .4,."):
        isonorm.rms(random((2, 2, 8)), out=np.zeros(4, np.float32))


def test_texts_that_utf8_does_not_have():
    assert isonorm.stats({"\ud800": X})[0]["name"] == "?"


def test_targets():
    with pytest.raises(RuntimeError, match="Z80"):
        isonorm.set_target("Z80")
    for name in ("\ud800", isonorm.target() + "\0"):
        with pytest.raises(RuntimeError, match="[?]"):
            isonorm.set_target(name)
    assert isonorm.target() in isonorm.targets() and isonorm.targets()[-1] == "reference"


def test_a_stride_that_is_no_multiple_of_the_type():
    records = np.zeros(4, np.dtype([("byte", "i1"), ("row", "f4", (8,))]))
    with pytest.raises(ValueError, match="stride of 33 bytes"):
        isonorm.rms_norm(records["row"], eps=1e-6)


def test_types_named_alike_are_not_taken_for_each_other():
    raw = np.zeros((2, 8), "V2")
    with pytest.raises(TypeError, match="V2"):
        isonorm.rms_norm(raw, eps=1e-6)
    assert isonorm.rms_norm(raw.view(BF16), eps=1.0).dtype == BF16


def masked(*shape, dtype=np.float32):
    """Whose values of a row do not lie side by side: such arrays are copied, and the mask has to survive that."""
    return np.ma.masked_array(np.ones((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2])


M, V, R = masked(3, 8), masked(8), masked(3)
MASKED = {
    "x": [
        lambda: isonorm.rms_norm(M, eps=1e-6),
        lambda: isonorm.rms_norm(np.ma.masked_array(X), eps=1e-6, axis=0),
        lambda: isonorm.layer_norm(M, eps=1e-6, axis=(0, 1)),
        lambda: isonorm.rms_norm_backward(X, M, W, eps=1e-6),
        lambda: isonorm.layer_norm_backward(X, M, W, eps=1e-6),
        lambda: isonorm.double_backward(X, M, W, ddx=X, eps=1e-6),
        lambda: isonorm.rms(M),
        lambda: isonorm.rms_backward(M, X[:, 0].copy()),
        lambda: isonorm.rms_penalty(M, 0.1),
        lambda: isonorm.parallel.Forward(M, W, eps=1e-6, ranks=1).partial(),
        lambda: isonorm.stats(M),
        lambda: isonorm.compare(M),
        lambda: isonorm.digest(M),
    ],
    "weight": [
        lambda: isonorm.rms_norm(X, V, eps=1e-6),
        lambda: isonorm.rms_norm(X, masked(8, dtype=np.float64), eps=1e-6),
        lambda: isonorm.parallel.Forward(X, V, eps=1e-6, ranks=1).partial(),
    ],
    "bias": [lambda: isonorm.layer_norm(X, W, V, eps=1e-6)],
    "residual": [lambda: isonorm.rms_norm(X, eps=1e-6, residual=M)],
    "gate": [lambda: isonorm.rms_norm(X, W, eps=1e-6, gate=M, contract="mamba2")],
    "out": [lambda: isonorm.rms_norm(X, eps=1e-6, out=np.ma.masked_array(X))],
    "dy": [lambda: isonorm.rms_norm_backward(M, X, W, eps=1e-6)],
    "rstd": [lambda: isonorm.rms_norm_backward(X, X, W, eps=1e-6, rstd=R)],
    "ddx": [lambda: isonorm.double_backward(X, X, W, ddx=M, eps=1e-6)],
    "drms": [lambda: isonorm.rms_backward(X, R)],
    "q": [lambda: isonorm.qk_norm(M[:, None], X[:, None], eps=1e-6)],
    "parts": [lambda: isonorm.parallel.combine_gradients(M, rows=96, part_rows=32)],
    "cos": [lambda: isonorm.rms_norm(X, eps=1e-6, rope=isonorm.Rope(masked(3, 4), X[:, :4].copy()))],
}


@pytest.mark.parametrize("name, call", [(name, call) for name, calls in MASKED.items() for call in calls])
def test_masks_are_not_lost(name, call):
    with pytest.raises(TypeError, match=rf"\b{name}\b.* is a masked array, and isonorm knows no masks"):
        call()
