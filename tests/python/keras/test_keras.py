"""Layers of Keras: constructors, weights, policies and files are Keras' own, and the bits isonorm's. Each process has one
backend, that of KERAS_BACKEND."""

import contextlib

import keras
import numpy as np
import pytest
from conftest import BF16, F16, F32, F64, random, same

import isonorm
import isonorm.keras

BACKEND = keras.config.backend()
KINDS = ("RMSNormalization", "LayerNormalization")
TYPES = {"float32": F32, "mixed_bfloat16": BF16, "mixed_float16": F16, "bfloat16": BF16, "float64": F64}
COLS = 12
X = random((40, COLS), scale=2)
WEIGHTS = [random(COLS, seed=1), random(COLS, seed=2)]

if BACKEND == "jax":
    import jax
elif BACKEND == "tensorflow":
    import tensorflow as tf
else:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode


def pair(kind, shape=(None, COLS), **options):
    """Keras' layer and isonorm's, of the same weights."""
    layers = [getattr(module, kind)(**options) for module in (keras.layers, isonorm.keras)]
    for layer in layers:
        layer.build(shape)
        layer.set_weights([random(v.shape, seed=i + 1) for i, v in enumerate(layer.weights)])
    return layers


def array(tensor):
    """As an array of NumPy, bfloat16 too."""
    if BACKEND == "torch":
        tensor = tensor.detach().cpu()
        name = str(tensor.dtype).removeprefix("torch.")
        if name == "bfloat16":
            return tensor.float().numpy().astype(BF16)
        return tensor.numpy()
    return np.asarray(tensor.numpy() if BACKEND == "tensorflow" else tensor)


def tensor(x, dtype=None):
    return keras.ops.convert_to_tensor(x.astype(F64) if x.dtype == BF16 else x, dtype or str(x.dtype))


def wide():
    """JAX has float64 where it is told so."""
    return jax.enable_x64(True) if BACKEND == "jax" else contextlib.nullcontext()


def norm(kind, x, weights, eps, **options):
    """NumPy's face."""
    if kind == "RMSNormalization":
        return isonorm.rms_norm(x, *weights, eps=eps, **options)
    return isonorm.layer_norm(x, *weights, eps=eps, **options)


def exact(kind, x, weights, eps, unit):
    """The values in float64, and how far arithmetic of that unit roundoff may be from them before it stores.

    RMSNorm: a sum of n squares in any order is off by n u of itself, its root by half of that; then follow a mean, eps, a root,
    two products, with a u for each, and one more for u^2. LayerNorm, with a the largest |x|, d = x - mean and r = rstd: mean is
    off by n u a, d by (n + 2) u a, so the variance by 2 sqrt(var) of that and (n + 2) u of itself, and r by half of it,
    relative to var, and 3 u for eps, the root and u^2. y = x r w + (b - mean r w), as Keras has it on XLA, adds 3 u for the
    products of each of both terms, which are up to a r w, and 3 u of the two and of b for the sums."""
    x = x.astype(F64)
    weights = [w.astype(F64) for w in weights]
    n, rms = x.shape[-1], kind == "RMSNormalization"
    d = x if rms else x - x.mean(-1, keepdims=True)
    r = 1 / np.sqrt((d * d).mean(-1, keepdims=True) + eps)
    y = d * r * weights[0]
    if rms:
        return y, (n / 2 + 6) * unit * np.abs(y)
    a = np.abs(x).max(-1, keepdims=True)
    bound = np.abs(y) * ((n + 2) * a * r + n / 2 + 4) + np.abs(weights[0]) * r * a * (n + 12) + 3 * np.abs(weights[1])
    return y + weights[1], unit * bound


@pytest.mark.parametrize("policy", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_bits_types_and_keras_own_contract(kind, policy):
    with wide():
        theirs, ours = pair(kind, dtype=policy)
        dtype, eps = TYPES[policy], ours.epsilon
        x = X.astype(dtype)
        assert ours.weights[0].dtype == ("float32" if policy.startswith("mixed") else policy)
        # RMSNormalization takes its weight in the compute type; LayerNormalization as it is.
        stored = [array(v.value) for v in ours.weights]
        weights = [w.astype(dtype) for w in stored] if kind == KINDS[0] else stored
        y, other = array(ours(tensor(x))), array(theirs(tensor(x)))
        assert same(y, norm(kind, x, weights, eps))
        assert y.dtype == other.dtype == dtype
        # Both store once: Keras' rounding is the contract's. One that rounds twice is outside of these bounds.
        if dtype == F64:  # which Keras computes in float32 here; and what is exact to compare with is so to 53 bits
            value, bound = exact(kind, x, weights, eps, 2.0**-53)
            assert (np.abs(y - value) <= 2 * bound).all()
            value, bound = exact(kind, x.astype(F32), [w.astype(F32) for w in weights], eps, 2.0**-24)
            assert (np.abs(other - value) <= bound).all()
            return
        value, bound = exact(kind, x, weights, eps, 2.0**-24)
        if dtype.itemsize == 2:
            last = 2.0 ** (-8 if dtype == BF16 else -11)
            bound = bound + last * (np.abs(value) + bound) + (2.0**-25 if dtype == F16 else 0)  # the half of a subnormal
        for found in (y, other):
            assert (np.abs(found.astype(F64) - value) <= bound).all()
        if dtype == BF16 and kind == KINDS[0]:
            twice = isonorm.rms_norm(x, *weights, eps=eps, contract="llama")
            assert (np.abs(twice.astype(F64) - value) > bound).any()


@pytest.mark.parametrize("x_type, policy", [(F32, "mixed_bfloat16"), (F16, "mixed_bfloat16"), (BF16, "float32")], ids=str)
def test_types_that_are_not_the_policys(x_type, policy):
    """RMSNormalization converts x first; LayerNormalization rounds to x's type, and then to the policy's."""
    x = X.astype(x_type)
    to = {"mixed_bfloat16": BF16, "float32": F32}[policy]
    theirs, ours = pair(KINDS[0], dtype=policy)
    y = array(ours(tensor(x)))
    assert same(y, isonorm.rms_norm(x.astype(to), WEIGHTS[0].astype(to), eps=1e-6)) and array(theirs(tensor(x))).dtype == to
    theirs, ours = pair(KINDS[1], dtype=policy)
    y = array(ours(tensor(x)))
    assert same(y, isonorm.layer_norm(x, *WEIGHTS, eps=1e-3).astype(to)) and array(theirs(tensor(x))).dtype == to


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", [-1, 3, 1, 2, (2, 3), (3, 2), (1, 2), (1, 3), (1, -1), (-1, -3), (1, 2, 3)], ids=str)
def test_axes(kind, axis):
    """Every axis, where Keras' own raises on torch; a weight's dimensions stand in Keras' order. With equal sizes, where
    Keras' own takes the wrong axis and says nothing."""
    for shape in ((2, 3, 4, 5), (2, 4, 4, 4)):
        _, ours = pair(kind, shape, axis=list(axis) if isinstance(axis, tuple) else axis)
        x = random(shape, seed=7)
        order = np.argsort([a % 4 for a in ours.axis])  # which build() made the weights in
        weights = [array(v.value).transpose(order) for v in ours.weights]
        assert all(w.shape == tuple(shape[a % 4] for a in sorted(ours.axis, key=lambda a: a % 4)) for w in weights)
        axes = tuple(sorted(a % 4 for a in ours.axis))
        assert same(array(ours(tensor(x))), norm(kind, x, weights, ours.epsilon, axis=axes))
        assert ours.compute_output_shape(shape) == shape


def test_options_of_layer_normalization():
    for options in ({"scale": False}, {"center": False}, {"scale": False, "center": False}, {"epsilon": 0.25}):
        _, ours = pair(KINDS[1], **options)
        weight = array(ours.gamma.value) if ours.gamma is not None else None
        bias = array(ours.beta.value) if ours.beta is not None else None
        assert same(array(ours(tensor(X))), isonorm.layer_norm(X, weight, bias, eps=ours.epsilon))
    with pytest.warns(UserWarning, match="rms_scaling"):
        theirs, ours = pair(KINDS[1], rms_scaling=True)
        assert same(array(ours(tensor(X))), array(theirs(tensor(X))))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_numpys_face(kind):
    _, ours = pair(kind)
    dy = random(X.shape, seed=5)
    values = [array(v.value) for v in ours.weights]
    if kind == KINDS[0]:
        expected = isonorm.rms_norm_backward(dy, X, *values, eps=ours.epsilon)
    else:
        expected = isonorm.layer_norm_backward(dy, X, *values, eps=ours.epsilon)
    if BACKEND == "torch":
        x = tensor(X).requires_grad_()
        ours(x).backward(tensor(dy))
        found = [x.grad, *(v.value.grad for v in ours.weights)]
    elif BACKEND == "tensorflow":
        x, weights = tensor(X), [v.value for v in ours.weights]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = ours(x)
        found = tape.gradient(y, [x, *weights], tensor(dy))
    else:

        def loss(x, weights):
            return (ours.stateless_call(weights, [], x)[0] * dy).sum()

        dx, others = jax.jit(jax.grad(loss, (0, 1)))(X, [v.value for v in ours.weights])
        found = [dx, *others]
    assert len(found) == len(expected) and all(same(array(f), e) for f, e in zip(found, expected))


def model(module, mask=False):
    inputs = keras.Input((6, COLS))
    x = keras.layers.Masking()(inputs) if mask else inputs
    x = keras.layers.Dense(COLS, name="dense")(x)
    x = module.RMSNormalization(name="first")(x)
    x = x + module.LayerNormalization(axis=(1, 2), name="second")(x)
    return keras.Model(inputs, keras.layers.Dense(1, name="last")(x))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_fit_save_and_load(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        trained = model(isonorm.keras)
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = random((16, 6, COLS)), random((16, 6, 1), seed=1)
    trained.compile("adam", "mse")
    before = [array(v.value).copy() for v in trained.trainable_variables]
    trained.fit(x, y, epochs=2, batch_size=8, verbose=0)
    assert all((array(v.value) != b).any() and v.dtype == "float32" for v, b in zip(trained.trainable_variables, before))
    path = tmp_path / "model.keras"
    trained.save(path)
    loaded = keras.models.load_model(path)
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in trained.layers]
    assert type(loaded.get_layer("first")) is isonorm.keras.RMSNormalization
    assert loaded.get_layer("second").get_config() == trained.get_layer("second").get_config()
    assert same(loaded.predict(x, verbose=0), trained.predict(x, verbose=0))
    # Weights alone go either way.
    trained.save_weights(tmp_path / "model.weights.h5")
    other = model(keras.layers)
    other.load_weights(tmp_path / "model.weights.h5")
    assert all(same(array(a.value), array(b.value)) for a, b in zip(other.variables, trained.variables))


def test_configurations_are_keras_own():
    for kind in KINDS:
        theirs, ours = pair(kind, axis=[1], epsilon=0.5, name="same", dtype="mixed_bfloat16")
        assert ours.get_config() == theirs.get_config()
        assert keras.saving.get_registered_name(type(ours)) == f"isonorm>{kind}"
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(ours))
        assert type(again) is type(ours) and again.get_config() == ours.get_config()
        assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]


def test_swap_in_a_clone():
    class Mine(keras.layers.RMSNormalization):
        pass

    assert type(isonorm.keras.swap(Mine())) is Mine
    own = model(keras.layers)
    outer_input = keras.Input((6, COLS))
    outer = keras.Model(outer_input, keras.layers.LayerNormalization(name="outer")(own(outer_input)))
    clone = keras.models.clone_model(outer, clone_function=isonorm.keras.swap, recursive=True)
    clone.set_weights(outer.get_weights())
    inner = next(layer for layer in clone.layers if isinstance(layer, keras.Model))
    kinds = {layer.name: type(layer) for layer in [*clone.layers, *inner.layers]}
    assert kinds["first"] is isonorm.keras.RMSNormalization and kinds["dense"] is keras.layers.Dense
    assert kinds["second"] is kinds["outer"] is isonorm.keras.LayerNormalization
    assert [v.path for v in clone.variables] == [v.path for v in outer.variables]
    if BACKEND == "jax":  # on torch Keras' own LayerNormalization takes any axes that follow each other for the last ones
        assert [layer.axis for layer in inner.layers if layer.name == "second"] == [[1, 2]]


def test_symbolic_tensors_and_masks():
    for kind in KINDS:
        for axis in (-1, 1, [1, -1]):
            layer = getattr(isonorm.keras, kind)(axis=axis, dtype="mixed_float16")
            out = layer(keras.KerasTensor((2, 6, COLS)))
            assert isinstance(out, keras.KerasTensor) and out.shape == (2, 6, COLS) and out.dtype == "float16"
            assert layer.call(keras.KerasTensor((2, 6, COLS), "float16")).shape == (2, 6, COLS)
    assert model(isonorm.keras, mask=True).predict(random((2, 6, COLS)), verbose=0).shape == (2, 6, 1)


def test_a_model_with_a_call_of_its_own():
    """Keras finds its shapes by calling it with what is no data."""

    class Block(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = isonorm.keras.RMSNormalization()
            self.second = isonorm.keras.LayerNormalization(axis=1)

        def call(self, x):
            return x + self.second(self.first(x))

    block = Block()
    assert block(keras.Input((6, COLS))).shape == (None, 6, COLS)
    x = random((4, 6, COLS))
    first = isonorm.rms_norm(x, eps=1e-6)
    assert same(block.predict(x, verbose=0), x + isonorm.layer_norm(first, eps=1e-3, axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_what_keras_computes(kind, monkeypatch):
    """Types without a kernel, other devices, and, as on another backend, everything; other axes are right there too."""
    theirs, ours = pair(kind)
    whole = keras.ops.cast(X * 8, "int32")
    assert same(array(ours(whole)), array(theirs(whole)))
    y = array(ours(tensor(X)))
    assert not same(y, array(theirs(tensor(X)))), "which of them computed cannot be told"
    if BACKEND in ("jax", "tensorflow"):
        elsewhere = {"jax": ("jax.default_backend", lambda: "gpu"), "tensorflow": ("isonorm.keras._accelerators", lambda: ["GPU:0"])}
        with monkeypatch.context() as patch:
            patch.setattr(*elsewhere[BACKEND])
            assert same(array(ours(tensor(X))), array(theirs(tensor(X))))
    else:
        with FakeTensorMode():
            assert isonorm.keras._is_ours(torch.empty(2)) and not isonorm.keras._is_ours(torch.empty(2, device="cuda"))
    assert same(array(ours(tensor(X))), y)
    monkeypatch.setattr(isonorm.keras, "_face", None)
    assert same(array(ours(tensor(X))), array(theirs(tensor(X))))
    x = np.ascontiguousarray(X.T)  # 12 rows along which 40 are normalised
    weights = [random(COLS, seed=i + 1) for i in range(len(ours.weights))]
    _, ours = pair(kind, (COLS, 40), axis=0)
    value, bound = exact(kind, X, weights, ours.epsilon, 2.0**-24)
    assert (np.abs(array(ours(tensor(x))).T.astype(F64) - value) <= bound + 2.0**-24 * np.abs(value)).all()


def test_errors():
    for kind in KINDS:
        for epsilon, error, sentence in (
            ("1e-6", TypeError, "epsilon is a str, but has to be a number"),
            (True, TypeError, "epsilon is a bool, but has to be a number"),
            (-1.0, ValueError, "epsilon is -1.0, but has to be 0 or more and finite"),
            (np.nan, ValueError, "epsilon is nan, but has to be 0 or more and finite"),
        ):
            with pytest.raises(error, match=f"^{sentence}$"):
                getattr(isonorm.keras, kind)(epsilon=epsilon)
    for kind in KINDS:
        for axis, shape, sentence in (
            ([], (2, 3), "axis is empty, but has to name one axis or more"),
            (3, (2, 3), r"axis 3 does not exist: x has shape \(2, 3\)"),
            (-1, (), r"axis -1 does not exist: x has shape \(\)"),
            ((1, -1), (2, 3), r"axis \(.*\) names an axis twice: x has shape \(2, 3\)"),
        ):
            with pytest.raises(ValueError, match=f"^{sentence}$"):
                getattr(isonorm.keras, kind)(axis=axis)(tensor(np.ones(shape, np.float32)))
            with pytest.raises(ValueError, match=f"^{sentence}$"):
                getattr(isonorm.keras, kind)(axis=axis)(keras.KerasTensor(shape))
    with pytest.raises(TypeError, match="axis"):
        isonorm.keras.LayerNormalization(axis="last")
    with pytest.raises(TypeError, match="^axis is a str, but has to be an int$"):
        isonorm.keras.RMSNormalization(axis="last")(tensor(X))
