"""Modules of Flax: constructors, parameters, types of results and checkpoints are Flax's own, and the bits isonorm's."""

import inspect

import flax.linen
import flax.nnx
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import BF16, F16, F32, random
from face_support import same

import isonorm
import isonorm.jax.linen
import isonorm.jax.nnx

X, SCALE = random((5, 12), scale=2), random(12, seed=1)
OURS, THEIRS = {"nnx": isonorm.jax.nnx, "linen": isonorm.jax.linen}, {"nnx": flax.nnx, "linen": flax.linen}


class Norm:
    """A module of either kind, and what it computes with that scale."""

    def __init__(self, kind, module, cols=12, **options):
        self.kind = kind
        if kind == "nnx":
            self.module = module.RMSNorm(cols, rngs=flax.nnx.Rngs(0), **options)
        else:
            self.module = module.RMSNorm(**options)

    def __call__(self, x, scale=None, **options):
        if self.kind == "linen":
            return self.module.apply({} if scale is None else {"params": {"scale": scale}}, x, **options)
        if scale is not None:
            flax.nnx.update(self.module, {"scale": jnp.asarray(scale)})
        return self.module(x, **options)

    def first(self):
        """The scale that the module begins with."""
        if self.kind == "nnx":
            return self.module.scale[...]
        return self.module.init(jax.random.key(0), X)["params"]["scale"]


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("x_type", [F32, BF16, F16], ids=str)
@pytest.mark.parametrize("options", [{}, {"dtype": jnp.bfloat16}, {"param_dtype": jnp.bfloat16}, {"use_scale": False}], ids=str)
def test_types_and_bits(kind, x_type, options):
    ours, theirs = (Norm(kind, faces[kind], **options) for faces in (OURS, THEIRS))
    scale = None if options.get("use_scale") is False else SCALE.astype(options.get("param_dtype", F32))
    x = X.astype(x_type)
    y, other = ours(x, scale), theirs(x, scale)
    assert y.dtype == other.dtype and y.shape == other.shape
    # NNX of flax 0.12 converts x and scale first, to the type of the result; Linen does not.
    convert = hasattr(theirs.module, "promote_dtype")
    own = x.astype(y.dtype) if convert else x
    weight = scale.astype(y.dtype) if convert and scale is not None else scale
    assert same(y, isonorm.rms_norm(own, weight, eps=1e-6, dtype=np.dtype(y.dtype)))
    # Both round once, but Flax in float32 to begin with: its sums of 12 squares, rsqrt and products have 2 u of 16 roundings,
    # and where the result has 16 bits one rounding may fall on the other side.
    last = float(jnp.finfo(y.dtype).eps)
    error = np.abs(np.asarray(y, np.float64) - np.asarray(other, np.float64))
    assert (error <= (16 * 2.0**-23 + (last if last > 2.0**-23 else 0)) * np.abs(np.asarray(other, np.float64)) + 1e-30).all()


@pytest.mark.parametrize("kind", OURS)
def test_constructor_and_first_scale(kind):
    ours, theirs = OURS[kind].RMSNorm, THEIRS[kind].RMSNorm
    assert issubclass(ours, theirs)
    if kind == "linen":
        fields = set(inspect.signature(theirs).parameters)
        assert "epsilon" in fields and set(inspect.signature(ours).parameters) == fields | {"contract"}
    for contract, value in (("torch", 1), ("llama", 1), ("gemma", 0)):
        norm = Norm(kind, OURS[kind], contract=contract)
        assert same(norm.first(), np.full(12, value, np.float32))
        assert same(norm(X, SCALE), isonorm.rms_norm(X, SCALE, eps=1e-6, contract=contract))
    given = Norm(kind, OURS[kind], contract="gemma", scale_init=jax.nn.initializers.constant(0.5), epsilon=0.25)
    assert same(given.first(), np.full(12, 0.5, np.float32))
    assert same(given(X, SCALE), isonorm.rms_norm(X, SCALE, eps=0.25, contract="gemma"))


@pytest.mark.parametrize("kind", OURS)
def test_axes(kind):
    x = random((3, 4, 12))
    for axes, cols in ((-1, 12), (2, 12), (1, 4), (-2, 4), ((1, 2), 48), ((-1, -2), 48)):
        norm = Norm(kind, OURS[kind], cols, reduction_axes=axes, feature_axes=axes)
        scale = random(cols, seed=3)
        own = scale.reshape(4, 12) if kind == "linen" and cols == 48 else scale
        assert same(norm(x, own), isonorm.rms_norm(x, own, eps=1e-6, axis=axes))


def test_nnx_checkpoints():
    """A state of either goes into the other; training changes the scale alike."""
    theirs, ours = (faces["nnx"].RMSNorm(12, rngs=flax.nnx.Rngs(0)) for faces in (THEIRS, OURS))
    states = [flax.nnx.to_pure_dict(flax.nnx.state(m)) for m in (theirs, ours)]
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    for source, target in ((theirs, ours), (ours, theirs)):
        flax.nnx.update(source, {"scale": jnp.asarray(SCALE)})
        flax.nnx.update(target, flax.nnx.state(source))
        assert same(target.scale[...], SCALE)
        flax.nnx.update(target, {"scale": jnp.ones(12)})
    y, gradient = flax.nnx.jit(flax.nnx.value_and_grad(lambda m, x: m(x).sum()))(ours, X)
    expected = isonorm.rms_norm_backward(np.ones_like(X), X, np.ones(12, np.float32), eps=1e-6, needs=("dweight",))
    assert same(gradient["scale"][...], expected)
    graph, state = flax.nnx.split(ours)
    assert same(flax.nnx.merge(graph, state)(X), ours(X))


def test_linen_checkpoints():
    """Within a model, whose submodule has the same name; by bytes."""

    def model(norm):
        class Model(flax.linen.Module):
            @flax.linen.compact
            def __call__(self, x):
                return norm()(flax.linen.Dense(12)(x))

        return Model()

    models = [model(faces["linen"].RMSNorm) for faces in (THEIRS, OURS)]
    variables = [m.init(jax.random.key(i), X) for i, m in enumerate(models)]
    assert jax.tree.structure(variables[0]) == jax.tree.structure(variables[1]) and "RMSNorm_0" in variables[0]["params"]
    for i, j in ((0, 1), (1, 0)):
        restored = flax.serialization.from_bytes(variables[i], flax.serialization.to_bytes(variables[j]))
        a, b = (np.asarray(m.apply(restored, X)) for m in models)
        assert np.abs(a - b).max() <= 16 * 2.0**-23 * np.abs(b).max()
    gradient = jax.jit(jax.grad(lambda v: models[1].apply(v, X).sum()))(variables[1])
    assert gradient["params"]["RMSNorm_0"]["scale"].shape == (12,)


@pytest.mark.parametrize("kind", OURS)
def test_what_flax_alone_has(kind):
    for options, sentence in (
        ({"axis_name": "data"}, "axis_name is 'data', but a row lies on one device: use flax's own RMSNorm"),
        ({"feature_axes": 0}, "feature_axes is 0, but has to name the same axes as reduction_axes, -1"),
        ({"contract": "layer_norm"}, "contract 'layer_norm' does not belong to RMSNorm: its statistic is 'layer'"),
        ({"contract": "mamba2"}, "contract 'mamba2' has a gate: use isonorm.jax.rms_norm"),
        ({"contract": "lama"}, "contract 'lama' is none of"),
    ):
        with pytest.raises(ValueError) as caught:
            Norm(kind, OURS[kind], **options)(X, SCALE)
        assert str(caught.value).startswith(sentence)
    with pytest.raises(ValueError, match="^mask is given, but a row is normalised as a whole: use flax's own RMSNorm"):
        Norm(kind, OURS[kind])(X, SCALE, mask=np.ones_like(X))
    with pytest.raises(TypeError, match="^x is a masked array, and isonorm knows no masks"):
        Norm(kind, OURS[kind])(np.ma.masked_array(X), SCALE)


@pytest.mark.parametrize("kind", OURS)
def test_what_is_no_eps_and_no_size(kind):
    """The constructor says so, not the first call."""
    wrong = [
        (TypeError, "epsilon is a str, but has to be a number", {"epsilon": "1e-6"}),
        (TypeError, "epsilon is a bool, but has to be a number", {"epsilon": True}),
        (TypeError, "epsilon is a NoneType, but has to be a number", {"epsilon": None}),
        (ValueError, "epsilon is -1.0, but has to be 0 or more and finite", {"epsilon": -1}),
        (ValueError, "epsilon is inf, but has to be 0 or more and finite", {"epsilon": float("inf")}),
    ]
    if kind == "nnx":
        wrong += [
            (TypeError, "num_features is a str, but has to be an int", {"cols": "12"}),
            (TypeError, "num_features is a bool, but has to be an int", {"cols": True}),
            (ValueError, "num_features is 0, but has to be 1 or more", {"cols": 0}),
        ]
    for exception, sentence, options in wrong:
        with pytest.raises(exception) as caught:
            Norm(kind, OURS[kind], **options)
        assert str(caught.value) == sentence
