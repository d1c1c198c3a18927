"""RMSNorm and LayerNorm for Keras 3: layers that are subclasses of Keras' own, on its backends tensorflow, torch and jax.

    >>> import keras, isonorm.keras
    >>> layer = isonorm.keras.RMSNormalization()
    >>> layer(keras.ops.ones((2, 4))).shape == (2, 4)
    True

Constructors, weights, policies, configurations and saved models are Keras'; `call` alone is isonorm's, in the CPU's memory.
What isonorm has no kernel for is computed by Keras: other backends, devices and types, and symbolic tensors.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, Optional

from isonorm._arrays import axes_of, check_eps

try:
    import keras
except ModuleNotFoundError as error:
    if error.name != "keras":  # that of Keras' backend: the sentence is its own
        raise
    raise ModuleNotFoundError(f"{error}: isonorm.keras needs Keras, as `pip install 'keras>=3.11'` installs it") from None

# Before 3.11 Keras' own norms took sums of 16 bits, and it had no operation layer_normalization.
if tuple(int(part) for part in keras.__version__.split(".")[:2]) < (3, 11):
    raise ImportError(f"isonorm.keras needs keras 3.11 or later, but this is keras {keras.__version__}")

__all__ = ["LayerNormalization", "RMSNormalization", "swap"]

_BACKEND = keras.config.backend()
# The functions of that framework, and the framework itself.
_face: Any = importlib.import_module(f"isonorm.{_BACKEND}") if _BACKEND in ("tensorflow", "torch", "jax") else None
_framework: Any = importlib.import_module(_BACKEND) if _face else None
_TYPES = ("float32", "bfloat16", "float16", "float64")


def _is_ours(x: Any) -> bool:
    """Whether isonorm computes norms of x. What is symbolic is no tensor of the framework."""
    if _face is None or keras.backend.standardize_dtype(x.dtype) not in _TYPES:
        return False
    if _BACKEND == "torch":
        tensor = isinstance(x, _framework.Tensor)
        return tensor and x.device.type in ("cpu", "meta") and x.layout is _framework.strided
    if _BACKEND == "tensorflow":
        return isinstance(x, _framework.Tensor) and not _accelerators()
    # Keras traces the call of a model with symbolic sizes, to find the shape of what it returns.
    known = isinstance(x, _framework.Array) and all(isinstance(size, int) for size in x.shape)
    return known and _framework.default_backend() == "cpu"


@functools.lru_cache(maxsize=None)
def _accelerators() -> list[str]:
    """To one of which TensorFlow moves what a model computes. It does not let them change after its first computation."""
    return [device.name for device in _framework.config.list_logical_devices() if device.device_type != "CPU"]


# What a layer tells Keras on TensorFlow: XLA has no kernel of isonorm's. Its constructor sets it, and has to stay Keras' own, whose
# arguments Keras looks at.
_SUPPORTS_JIT = property(
    lambda layer: layer.__dict__.get("supports_jit", False) and bool(_accelerators()),
    lambda layer, value: layer.__dict__.update(supports_jit=value),
)


def _set_epsilon(layer: Any, value: Any) -> None:
    if value is not None:
        check_eps(value, "epsilon")
    layer.__dict__["epsilon"] = value


_EPSILON = property(lambda layer: layer.__dict__.get("epsilon"), _set_epsilon)  # which the constructor sets


def _norm(layer: Any, x: Any, weight: Any, bias: Any, rms: bool) -> Any:
    """The rows of x along the layer's axes, which come to the end in their order first: there, and with a weight of as many
    dimensions, Keras' own norms are right on every backend too."""
    given, axes, last = layer.axis, [-1], [-1]
    if given != last:  # of x without a known number of dimensions, which TensorFlow has, the last is all that can be named
        ndim = len(x.shape)
        given = [axis + ndim if axis < 0 else axis for axis in given]
        axes, last = sorted(given), list(range(ndim - len(given), ndim))
    if given != axes:  # weights have the order of layer.axis, where build() has sorted [1, -1] into [-1, 1]
        order = [given.index(axis) for axis in axes]
        weight, bias = (None if v is None else keras.ops.transpose(v, order) for v in (weight, bias))
    moved = axes != last
    if moved:
        x = keras.ops.moveaxis(x, axes, last)
    eps = keras.config.epsilon() if layer.epsilon is None else layer.epsilon
    if _is_ours(x):
        weight, bias = (None if v is None else keras.ops.convert_to_tensor(v) for v in (weight, bias))
        options: dict[str, Any] = {}
        if len(last) > 1:
            options = {"normalized_shape": x.shape[-len(last) :]} if _BACKEND == "torch" else {"axis": last}
        y = (_face.rms_norm if rms else _face.layer_norm)(x, weight, bias, eps=eps, **options)
    elif rms:
        y = keras.ops.rms_normalization(x, scale=weight, axis=last, epsilon=eps)
    else:
        y = keras.ops.layer_normalization(x, gamma=weight, beta=bias, axis=last, epsilon=eps)
    return keras.ops.moveaxis(y, last, axes) if moved else y


@keras.saving.register_keras_serializable(package="isonorm", name="RMSNormalization")
class RMSNormalization(keras.layers.RMSNormalization):  # type: ignore[misc]
    """A drop-in for `keras.layers.RMSNormalization`, which it is a subclass of: the same constructor, weight and configuration.

        >>> import keras, isonorm.keras
        >>> layer = isonorm.keras.RMSNormalization(dtype="mixed_bfloat16", name="norm")
        >>> str(layer(keras.ops.ones((2, 4))).dtype)[-8:], layer.scale.dtype, layer.scale.path
        ('bfloat16', 'float32', 'norm/scale')

    Contract "torch": computed in float32, rounded once, to the compute type of the policy, which x and scale are converted to
    first, as Keras has it. float64 is computed in float64, where Keras' own takes float32 on these backends.

    axis: one or several, any of them: scale belongs to these axes, where Keras' own is an error, or takes the last ones.
    epsilon: 1e-6 unless given; None is `keras.config.epsilon()`.

    layer(x): [..., cols] → the same shape. Raises what Keras raises, ValueError for axes that x does not have, or that are
    named twice, TypeError and ValueError for an epsilon that is none, and what rms_norm of isonorm.tensorflow, isonorm.torch or
    isonorm.jax does.
    """

    epsilon = _EPSILON
    if _BACKEND == "tensorflow":
        supports_jit = _SUPPORTS_JIT

    def build(self, input_shape: Any) -> None:
        axes_of(self.axis, input_shape)  # before Keras stumbles over what x does not have
        super().build(input_shape)

    def call(self, x: Any) -> Any:
        return _norm(self, x, self.scale, None, True)


@keras.saving.register_keras_serializable(package="isonorm", name="LayerNormalization")
class LayerNormalization(keras.layers.LayerNormalization):  # type: ignore[misc]
    """A drop-in for `keras.layers.LayerNormalization`, which it is a subclass of: the same constructor, weights, configuration.

        >>> import keras, isonorm.keras
        >>> layer = isonorm.keras.LayerNormalization(epsilon=0.0, center=False)
        >>> keras.ops.convert_to_numpy(layer(keras.ops.array([[1.0, 3.0]]))).tolist()
        [[-1.0, 1.0]]

    Contract "layer_norm": computed in float32, or in float64 for float64, and rounded to x's type, then, as Keras has it, to
    the compute type of the policy. The deprecated rms_scaling is computed by Keras.

    axis: one or several, any of them. epsilon: 1e-3 unless given; None is `keras.config.epsilon()`.

    layer(x): [..., cols] → the same shape. Raises as RMSNormalization does.
    """

    epsilon = _EPSILON
    if _BACKEND == "tensorflow":
        supports_jit = _SUPPORTS_JIT

    def build(self, input_shape: Any) -> None:
        axes_of(self.axis, input_shape)
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        if self.rms_scaling:
            return super().call(inputs)
        return keras.ops.cast(_norm(self, inputs, self.gamma, self.beta, False), self.compute_dtype)


_SWAPPED: tuple[Any, ...] = (RMSNormalization, LayerNormalization)


def swap(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A new layer of that configuration: isonorm's where layer is a norm of Keras, and one of its own class where it is not.

    It is a clone_function of `keras.models.clone_model`, which makes new weights, and layers of the same names:

        >>> import keras, isonorm.keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.RMSNormalization()])
        >>> swapped = keras.models.clone_model(model, clone_function=isonorm.keras.swap)
        >>> swapped.set_weights(model.get_weights())
        >>> [type(layer).__module__.split(".")[0] for layer in swapped.layers]
        ['keras', 'isonorm']

    Subclasses of Keras' norms stay what they are. For models within models pass clone_model recursive=True. Raises what
    get_config and from_config of the layer raise.
    """
    ours: Optional[Any] = next((cls for cls in _SWAPPED if type(layer) is cls.__bases__[0]), None)
    return (ours or type(layer)).from_config(layer.get_config())
