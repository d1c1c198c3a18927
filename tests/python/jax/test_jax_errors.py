"""Each wrong call gives one sentence that names the argument; most of them when the call is traced."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from conftest import random
from face_support import same
from jax_support import Foreign, KerasTensor

import isonorm
import isonorm.jax as ij

X, W = random((4, 6, 8)), random(8, seed=1)
COS, SIN = random((9, 4), seed=2), random((9, 4), seed=3)
FLOATS = ", but has to be float32, bfloat16, float16 or float64"


def rope(**changes):
    return ij.Rope(**{"cos": COS, "sin": SIN, **changes})


WRONG = {
    "list": ({"x": [1.0]}, TypeError, "x is a list, but has to be an array of JAX or of NumPy: jax.numpy.asarray() makes one"),
    "text": ({"weight": "ones"}, TypeError, "weight is a str, but has to be an array of JAX or of NumPy"),
    "integers": ({"x": X.astype(np.int32)}, TypeError, f"x is int32{FLOATS}"),
    "8 bits": ({"x": X.astype(ml_dtypes.float8_e4m3fn)}, TypeError, f"x is float8_e4m3fn{FLOATS}"),
    "complex": ({"residual": jnp.zeros((4, 6, 8), "complex64")}, TypeError, f"residual is complex64{FLOATS}"),
    "words": ({"x": np.array(["a"])}, TypeError, f"x is <U1{FLOATS}"),
    "objects": ({"weight": W.astype(object)}, TypeError, f"weight is object{FLOATS}"),
    "a type of NumPy alone": ({"bias": W.astype(np.longdouble)}, TypeError, f"bias is float128{FLOATS}"),
    "keys": ({"x": jax.random.key(0)[None]}, TypeError, f"x is key<fry>{FLOATS}"),
    "masked": ({"gate": np.ma.masked_array(X)}, TypeError, "gate is a masked array, and isonorm knows no masks: fill it, as gate."),
    "symbolic": ({"x": KerasTensor()}, TypeError,
                 "x is a symbolic tensor of Keras, which isonorm.keras.RMSNormalization and LayerNormalization take"),
    "of another framework": ({"x": Foreign()}, TypeError,
                             "x is a jax_support.Foreign, but has to be an array of JAX or of NumPy: jax.numpy.asarray() makes one"),
    "scalar": ({"x": 1.0}, TypeError, "x is a float, but has to be an array of JAX or of NumPy: jax.numpy.asarray() makes one"),
    "no axis": ({"x": jnp.ones(())}, ValueError, "x has 0 dimensions, but needs an axis to normalise"),
    "no columns": ({"x": X[..., :0]}, ValueError, "x.shape[1] is 0, but a row must have at least 1 value."),
    "axis": ({"axis": 3}, ValueError, "axis 3 does not exist: x has shape (4, 6, 8)"),
    "axis text": ({"axis": "last"}, TypeError, "axis is a str, but has to be an int"),
    "weight": ({"weight": W[:3]}, ValueError, "weight.shape[0] is 3, but must be 8, the columns of a row; nothing is broadcast."),
    "weight of an axis": ({"weight": W, "axis": 0}, ValueError, "weight has shape (8,), but x has 4 values along axis 0"),
    "weight of axes": ({"weight": W, "axis": (1, 2)}, ValueError, "weight has shape (8,), but the normalised axes of x have (6, 8)"),
    "bias": ({"bias": X}, ValueError, "bias"),
    "residual": ({"residual": X[:1]}, ValueError, "residual has shape (1, 6, 8), but x has (4, 6, 8)"),
    "no gate": ({"contract": "mamba2"}, ValueError, "gate is null, but contract.gate_place asks for one."),
    "gate": ({"gate": X}, ValueError, "gate"),
    "eps": ({"eps": -1.0}, ValueError, "eps is -1, but must be 0 or more and finite in the compute type."),
    "eps text": ({"eps": "1e-6"}, TypeError, "eps is a str, but has to be a number"),
    "contract": ({"contract": "lama"}, ValueError, "contract 'lama' is none of 'torch', 'llama'"),
    "contract type": ({"contract": 3}, TypeError, "contract is a int, but has to be a name or an isonorm.Contract"),
    "groups": ({"groups": 3}, ValueError, "groups is 3, but must divide the 8 columns; 0 or 1 is the whole row."),
    "window": ({"window": 9}, ValueError, "window is 9, but must be from 1 to 8, the columns of a group, or 0 for all."),
    "mean": ({"return_mean": True}, ValueError, "mean"),
    "dtype": ({"dtype": "text"}, TypeError, "dtype is 'text', but has to be a type of NumPy or of ml_dtypes"),
    "dtype of 64 bits": ({"dtype": np.float64}, ValueError, "dtype is float64, which JAX has only where jax_enable_x64 is set"),
    "overwrite": ({"overwrite": np.ones(2)}, TypeError, "overwrite is a ndarray, but has to be a bool"),
    "rope": ({"rope": COS}, TypeError, "rope is a ndarray, but has to be isonorm.Rope"),
    "style": ({"rope": rope(style="full")}, ValueError, "style is 'full', but has to be 'half' or 'interleaved'"),
    "cos": ({"rope": rope(cos=None)}, TypeError, "rope.cos is a NoneType, but has to be an array of JAX or of NumPy"),
    "sin": ({"rope": rope(sin=SIN[:, :2])}, ValueError, "rope.sin"),
    "table": ({"rope": rope(cos=COS[:3], sin=SIN[:3])}, ValueError,
              "rope.position_offset is 0 for 4 tokens, but their positions must be from 0 to 2"),
    "position_axis": ({"rope": rope(position_axis=2)}, ValueError,
                      "position_axis is 2, but has to be a leading axis of x, which has 3 dimensions"),
    "positions": ({"rope": rope(positions=np.zeros((4, 5), np.int32))}, ValueError,
                  "rope.positions has shape (4, 5), but the leading axes of x have (4, 6)"),
    "positions of floats": ({"rope": rope(positions=np.zeros((4, 6), np.float32))}, TypeError,
                            "rope.positions is float32, but has to be int32 or int64"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_sentences(wrong):
    changes, kind, sentence = WRONG[wrong]
    arguments = {"x": X, "eps": 1e-6, **changes}
    with pytest.raises(kind) as caught:
        ij.rms_norm(**arguments)
    text = str(caught.value)
    assert text.startswith(sentence) and "\n" not in text, text
    others = ("rope", "overwrite")
    arrays = {n: a for n, a in arguments.items() if n not in others and (isinstance(a, jax.Array) or type(a) is np.ndarray)}
    # JAX itself refuses to trace what it has no type for.
    names = [n for n, a in arrays.items() if isinstance(a.dtype, np.dtype) and a.dtype.kind in "fiV" and a.dtype != np.longdouble]
    with pytest.raises(kind) as caught:  # and where an outer function is traced, before anything is compiled
        jax.eval_shape(lambda arrays: ij.rms_norm(**{**arguments, **arrays}), {n: arguments[n] for n in names})
    assert str(caught.value) == text


def test_a_number_has_to_be_known():
    function = jax.jit(lambda x, eps: ij.rms_norm(x, eps=eps))
    with pytest.raises(TypeError, match="^eps is traced, but has to be a number that is known then: close over it, or name "):
        function(X, 1e-6)
    static = jax.jit(lambda x, eps: ij.rms_norm(x, eps=eps), static_argnames="eps")
    assert same(static(X, eps=1e-6), isonorm.rms_norm(X, eps=1e-6))
    assert same(ij.rms_norm(X, eps=np.float32(0.5)), isonorm.rms_norm(X, eps=np.float32(0.5)))


def test_layer_norm_needs_a_mean():
    with pytest.raises(ValueError, match="^contract 'torch' has no mean: use rms_norm"):
        ij.layer_norm(X, eps=1e-6, contract="torch")
    with pytest.raises(ValueError, match="window"):
        ij.layer_norm(X, eps=1e-6, window=2)


def test_qk_norm_names_q_and_k():
    with pytest.raises(TypeError, match="^k is a list"):
        ij.qk_norm(X, [1.0], eps=1e-6)
    with pytest.raises(TypeError, match="^q_weight is a int"):
        ij.qk_norm(X, X, 3, eps=1e-6)
    for name, weights in {"q": (W[:5], W), "k": (W, W[:5])}.items():
        with pytest.raises(ValueError, match=f"^In {name}: weight.shape.0. is 5, but must be 8"):
            jax.jit(functools.partial(ij.qk_norm, eps=1e-6))(X, X, *weights)


def test_what_only_values_show():
    """A position outside of the table is seen by the handler; nothing is wrong with the next call."""
    positions = np.full((4, 6), 9, np.int64).astype(np.int32)
    function = jax.jit(lambda x, positions: ij.rms_norm(x, eps=1e-6, rope=rope(positions=positions)))
    with pytest.raises(jax.errors.JaxRuntimeError, match="INVALID_ARGUMENT: rope.positions holds 9 as number 0, but must be "):
        jax.block_until_ready(function(X, positions))
    fine = isonorm.Rope(COS, SIN, positions - 1)
    assert same(function(X, positions - 1), isonorm.rms_norm(X, eps=1e-6, rope=fine))


def test_elsewhere_than_on_the_cpu():
    traced = jax.jit(lambda x: ij.rms_norm(x, eps=1e-6)).trace(X)
    with pytest.raises(NotImplementedError, match="^isonorm.jax computes on the CPU: put the arrays there, by jax.device_put"):
        traced.lower(lowering_platforms=("cuda",))
    assert "isonorm_jax_forward" in traced.lower(lowering_platforms=("cpu",)).as_text()


def test_a_library_of_another_version():
    """Which the handler sees by the number of its attributes."""
    call = jax.ffi.ffi_call("isonorm_jax_forward", jax.ShapeDtypeStruct(X.shape, X.dtype))
    for attributes in ({}, {"integers": np.zeros(3, np.int64), "numbers": np.zeros(2)}):
        with pytest.raises(jax.errors.JaxRuntimeError, match="INVALID_ARGUMENT: isonorm.jax and libisonorm_jax.so are of diff"):
            jax.block_until_ready(jax.jit(lambda x, a=attributes: call(x, **a))(X))


@pytest.mark.parametrize("version, kind, sentence", [
    (None, "ModuleNotFoundError", "isonorm.jax needs JAX, as `pip install 'jax>=0.6.2'` installs it"),
    ((0, 6, 1), "ImportError", "isonorm.jax needs jax 0.6.2 or later, but this is jax 0.6.1"),
])  # fmt: skip
def test_without_a_jax_that_will_do(version, kind, sentence):
    stand_in = "None" if version is None else f"type(sys)('jax'); sys.modules['jax'].__version_info__ = {version}"
    script = f"import sys; sys.modules['jax'] = {stand_in}\n"
    if version is not None:
        script += f"sys.modules['jax'].__version__ = {'.'.join(map(str, version))!r}\n"
    done = subprocess.run([sys.executable, "-c", script + "import isonorm.jax"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith(kind) and sentence in done.stderr
