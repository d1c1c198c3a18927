"""Each wrong call gives one sentence that names the argument: what tensors show when the operation is run, all else at once."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from conftest import random
from face_support import same

import isonorm
import isonorm.tensorflow as itf

X, W = random((4, 6, 8)), random(8, seed=1)
COS, SIN = random((9, 4), seed=2), random((9, 4), seed=3)
Invalid = tf.errors.InvalidArgumentError
FLOATS = ", but has to be float32, bfloat16, float16 or float64"


def rope(**changes):
    return itf.Rope(**{"cos": COS, "sin": SIN, **changes})


WRONG = {
    "list": ({"x": [1.0]}, TypeError, "x is a list, but has to be a tensor, a variable or an array of NumPy: tf.convert_to_"),
    "text": ({"weight": "ones"}, TypeError, "weight is a str, but has to be a tensor, a variable or an array of NumPy"),
    "sparse": ({"x": tf.sparse.from_dense(X)}, TypeError, "x is a tensorflow.SparseTensor, but has to be a tensor, a variable or an array"),
    "masked": ({"gate": np.ma.masked_array(X)}, TypeError, "gate is a masked array, and isonorm knows no masks: fill it, as gate.filled(0)"),
    "integers": ({"x": X.astype(np.int32)}, TypeError, f"x is int32{FLOATS}"),
    "words": ({"x": np.array(["a"])}, TypeError, f"x is string{FLOATS}"),
    "complex": ({"residual": tf.complex(X, X)}, TypeError, f"residual is complex64{FLOATS}"),
    "8 bits": ({"gate": X.astype(ml_dtypes.float8_e4m3fn)}, TypeError, f"gate is float8_e4m3fn{FLOATS}"),
    "a type of NumPy alone": ({"bias": W.astype(np.longdouble)}, TypeError, f"bias is float128{FLOATS}"),
    "objects": ({"x": X.astype(object)}, TypeError, f"x is object{FLOATS}"),
    "weight of another type": ({"weight": W.astype(np.int64)}, TypeError, f"weight is int64{FLOATS}"),
    "symbolic": ({"x": tf.keras.Input((8,))}, TypeError,
                 "x is a symbolic tensor of Keras, which isonorm.keras.RMSNormalization and LayerNormalization take"),
    "no axis": ({"x": tf.ones(())}, Invalid, "x.ndim is 0, but must be from 1 to 7 (up to 6 leading dimensions)."),
    "no columns": ({"x": X[..., :0]}, Invalid, "x.shape[2] is 0, but a row must have at least 1 value."),
    "axis": ({"axis": 3}, ValueError, "axis 3 does not exist: x has shape (4, 6, 8)"),
    "axis twice": ({"axis": (1, -2)}, ValueError, "axis (1, -2) names an axis twice: x has shape (4, 6, 8)"),
    "axis text": ({"axis": "last"}, TypeError, "axis is a str, but has to be an int"),
    "no axes": ({"axis": ()}, ValueError, "axis is empty, but has to name one axis or more"),
    "weight": ({"weight": W[:3]}, Invalid, "weight.shape[0] is 3, but must be 8, the columns of a row; nothing is broadcast."),
    "weight of an axis": ({"weight": W, "axis": 0}, ValueError, "weight has shape (8,), but x has 4 values along axis 0"),
    "weight of axes": ({"weight": W, "axis": (1, 2)}, ValueError, "weight has shape (8,), but the normalised axes of x have (6, 8)"),
    "bias of axes": ({"bias": X, "axis": (1, 2)}, ValueError, "bias has shape (4, 6, 8), but the normalised axes of x have (6, 8)"),
    "bias": ({"bias": X}, Invalid, "bias.shape[0] is 4, but must be 1 before the columns; where each head has a weight of its own"),
    "residual": ({"residual": X[:1]}, Invalid, "residual.shape[0] is 1, but must be 4 as that of x."),
    "residual of axes": ({"residual": X[0], "axis": 0}, ValueError, "residual has shape (6, 8), but x has 3 dimensions"),
    "many dimensions": ({"x": X.reshape(4, 1, 1, 1, 1, 1, 6, 8), "residual": X.reshape(1, 4, 1, 1, 1, 1, 6, 8)}, Invalid,
                        "residual has shape (1, 4, 1, 1, 1, 1, 6, 8), but must have (4, 1, 1, 1, 1, 1, 6, 8)."),
    "no gate": ({"contract": "mamba2"}, Invalid, "gate is null, but contract.gate_place asks for one."),
    "gate": ({"gate": X}, Invalid, "gate is given, but contract.gate_place is ISONORM_GATE_NONE."),
    "eps": ({"eps": -1.0}, Invalid, "eps is -1, but must be 0 or more and finite in the compute type."),
    "no eps": ({"eps": float("nan")}, Invalid, "eps is nan, but must be 0 or more and finite in the compute type."),
    "eps text": ({"eps": "1e-6"}, TypeError, "eps is a str, but has to be a number"),
    "contract": ({"contract": "lama"}, ValueError, "contract 'lama' is none of 'torch', 'llama'"),
    "contract type": ({"contract": 3}, TypeError, "contract is a int, but has to be a name or an isonorm.Contract"),
    "groups": ({"groups": 3}, Invalid, "groups is 3, but must divide the 8 columns; 0 or 1 is the whole row."),
    "many groups": ({"groups": 2**62, "return_rstd": True}, Invalid, "groups is 4611686018427387904, but must divide the 8 columns"),
    "window": ({"window": 9}, Invalid, "window is 9, but must be from 1 to 8, the columns of a group, or 0 for all."),
    "window text": ({"window": "9"}, TypeError, "window is a str, but has to be an int"),
    "mean": ({"return_mean": True}, Invalid, "mean is given, but contract.statistic is ISONORM_STATISTIC_RMS, which has no mean."),
    "dtype": ({"dtype": "text"}, TypeError, "dtype is 'text', but has to be a type of TensorFlow or of NumPy"),
    "dtype of words": ({"dtype": tf.string}, TypeError, "dtype is string, but results are float32, bfloat16, float16 or float64"),
    "rope": ({"rope": COS}, TypeError, "rope is a ndarray, but has to be isonorm.Rope"),
    "style": ({"rope": rope(style="full")}, ValueError, "style is 'full', but has to be 'half' or 'interleaved'"),
    "cos": ({"rope": rope(cos=None)}, TypeError, "rope.cos is a NoneType, but has to be a tensor, a variable or an array"),
    "sin": ({"rope": rope(sin=SIN[:, :2])}, Invalid, "rope.sin"),
    "table": ({"rope": rope(cos=COS[:3], sin=SIN[:3])}, Invalid,
              "rope.position_offset is 0 for 4 tokens, but their positions must be from 0 to 2"),
    "position_axis": ({"rope": rope(position_axis=2)}, ValueError,
                      "position_axis is 2, but has to be a leading axis of x, which has 3 dimensions"),
    "positions": ({"rope": rope(positions=np.zeros((4, 5), np.int32))}, Invalid, "rope.positions.shape[1] is 5, but must be 6"),
    "positions of floats": ({"rope": rope(positions=np.zeros((4, 6), np.float32))}, TypeError,
                            "rope.positions is float32, but has to be int32 or int64"),
    "a position": ({"rope": rope(positions=np.full((4, 6), 9, np.int32))}, Invalid, "rope.positions holds 9 as number 0, but must"),
    "a rotation of many dimensions": ({"x": X.reshape(4, 1, 1, 1, 1, 1, 6, 8), "rope": rope()}, Invalid, "x.ndim is 8, but must be from 1 "),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_sentences(wrong):
    """Eagerly and in a graph, and nothing is wrong with the next call."""
    changes, kind, sentence = WRONG[wrong]
    arguments = {"x": X, "eps": 1e-6, **changes}
    # What a graph is given as an array, but for masked ones, of which it would keep the data alone, and those it does not know.
    arrays = {n: a for n, a in arguments.items() if (type(a) is np.ndarray or isinstance(a, tf.Tensor)) and n != "rope"}
    arrays = {n: a for n, a in arrays.items() if a.dtype not in (np.longdouble, object)}
    graph = tf.function(lambda **arrays: itf.rms_norm(**{**arguments, **arrays}), autograph=False)
    for call in (lambda: itf.rms_norm(**arguments), lambda: graph(**arrays)):
        with pytest.raises(kind) as caught:
            call()
        text = str(caught.value)
        if kind is Invalid:  # which has the operation around it
            assert sentence in text and text.count(sentence) == 1, text
        else:
            assert text.startswith(sentence) and "\n" not in text, text
    assert same(itf.rms_norm(X, W, eps=1e-6), isonorm.rms_norm(X, W, eps=1e-6))


def test_a_number_has_to_be_known():
    with pytest.raises(TypeError, match="eps is a tensor of a graph, but has to be a number that is known when the graph is made"):
        tf.function(lambda x, eps: itf.rms_norm(x, eps=eps))(X, tf.constant(1e-6))
    assert same(itf.rms_norm(X, eps=np.float32(0.5)), isonorm.rms_norm(X, eps=np.float32(0.5)))
    assert same(itf.rms_norm(X, eps=tf.constant(0.5)), isonorm.rms_norm(X, eps=0.5))


def test_unknown_numbers_of_dimensions():
    def graph(**options):
        return tf.function(lambda x: itf.rms_norm(x, eps=1e-6, **options), input_signature=[tf.TensorSpec(None)])

    with pytest.raises(ValueError, match="axis is 0, but x has an unknown number of dimensions: only axis -1 can be normalised"):
        graph(axis=0)(X)
    with pytest.raises(ValueError, match="position_axis is -3, but has to be a leading axis of x, which has an unknown number of dim"):
        graph(rope=rope(position_axis=-3))(X)
    with pytest.raises(Invalid, match="rope.position_dim is 7"):
        graph(rope=rope(position_axis=7))(X)
    y = graph(rope=rope(position_axis=1))(X)
    assert same(y, isonorm.rms_norm(X, eps=1e-6, rope=isonorm.Rope(COS, SIN, position_axis=1)))


def test_layer_norm_needs_a_mean():
    with pytest.raises(ValueError, match="^contract 'torch' has no mean: use rms_norm"):
        itf.layer_norm(X, eps=1e-6, contract="torch")
    with pytest.raises(Invalid, match="window"):
        itf.layer_norm(X, eps=1e-6, window=2)


@pytest.mark.parametrize("changes, kind, sentence", [
    ({"cols": -3}, ValueError, "cols is -3, but has to be 1 or more"),
    ({"cols": "8"}, TypeError, "cols is a str, but has to be an int"),
    ({"cols": 8.0}, TypeError, "cols is a float, but has to be an int"),
    ({"cols": True}, TypeError, "cols is a bool, but has to be an int"),
    ({"eps": "1e-6"}, TypeError, "eps is a str, but has to be a number"),
    ({"eps": True}, TypeError, "eps is a bool, but has to be a number"),
    ({"eps": -1}, ValueError, "eps is -1.0, but has to be 0 or more and finite"),
    ({"eps": float("nan")}, ValueError, "eps is nan, but has to be 0 or more and finite"),
    ({"dtype": tf.dtypes.as_dtype(ml_dtypes.float8_e5m2)}, TypeError, "dtype is float8_e5m2, but a weight is of float32, bfloat16, float16 or float64"),
    ({"dtype": "flot"}, TypeError, "dtype is 'flot', but has to be a type of TensorFlow or of NumPy"),
    ({"dtype": np.int32}, TypeError, "dtype is int32, but a weight is of float32, bfloat16, float16 or float64"),
    ({"contract": "layer_norm"}, ValueError, "contract 'layer_norm' does not belong to RMSNorm: it has a mean or a gate"),
])  # fmt: skip
def test_modules_say_it_when_they_are_made(changes, kind, sentence):
    with pytest.raises(kind) as caught:
        itf.RMSNorm(**{"cols": 8, "eps": 1e-6, **changes})
    assert str(caught.value) == sentence


def test_qk_norm_names_q_and_k():
    with pytest.raises(TypeError, match="^k is a list"):
        itf.qk_norm(X, [1.0], eps=1e-6)
    with pytest.raises(TypeError, match="^q_weight is a int"):
        itf.qk_norm(X, X, 3, eps=1e-6)
    with pytest.raises(TypeError, match="^k_weight is int32, but"):
        itf.qk_norm(X, X, W, np.ones(8, np.int32), eps=1e-6)
    with pytest.raises(ValueError, match="^In k: position_axis is 2, but"):
        itf.qk_norm(tf.ones((4, 1, 6, 8)), X, eps=1e-6, rope=rope(position_axis=2))
    graph = tf.function(lambda *arrays: itf.qk_norm(*arrays, eps=1e-6), autograph=False)
    whole = graph(X, X, W, W)
    for name, weights in {"q": (W[:5], W), "k": (W, W[:5])}.items():
        for call in (graph, lambda *arrays: itf.qk_norm(*arrays, eps=1e-6)):
            with pytest.raises(Invalid, match=rf"In {name}: weight.shape\[0\] is 5, but must be 8"):
                call(X, X, *weights)
    assert same(whole[0], isonorm.rms_norm(X, W, eps=1e-6))


def test_options_of_another_version():
    """A graph that a later isonorm saved."""
    ops = itf.functional.ops
    for text in ("", "1e-06,1,1", "one", "1e-06,1,1,1,1,1,1,1,0.0,1,0,0,0,0,0,0,7"):
        with pytest.raises(Invalid, match=f"isonorm.tensorflow does not know the options '{text}': they are of a graph that another"):
            ops.isonorm_norm(X, [], options=text, Ty=tf.float32, Tstatistics=[])
    text = "1e-06,1,1,1,1,1,1,1,0.0,1,0,0,0,0,1,0"  # with a weight, which is not there
    with pytest.raises(Invalid, match="input index out of range"):
        ops.isonorm_norm(X, [], options=text, Ty=tf.float32, Tstatistics=[])


@pytest.mark.parametrize("version, kind, sentence", [
    (None, "ModuleNotFoundError", "isonorm.tensorflow needs TensorFlow, as `pip install 'tensorflow>=2.18'` installs it"),
    ("2.17.1", "ImportError", "isonorm.tensorflow needs TensorFlow 2.18 or later, but this is TensorFlow 2.17.1"),
])  # fmt: skip
def test_without_a_tensorflow_that_will_do(version, kind, sentence):
    stand_in = "None" if version is None else "type(sys)('tensorflow')"
    script = f"import sys; sys.modules['tensorflow'] = {stand_in}\n"
    if version is not None:
        script += f"sys.modules['tensorflow'].__version__ = {version!r}\n"
    command = [sys.executable, "-c", script + "import isonorm.tensorflow"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith(kind) and sentence in done.stderr
