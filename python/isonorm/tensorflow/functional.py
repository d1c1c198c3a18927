"""RMSNorm and LayerNorm of tensors of TensorFlow: functions. `isonorm.tensorflow` has their names."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf

from isonorm._arrays import Axis, axes_of, check_is, check_real, class_of, flag, integer, result
from isonorm._native import real
from isonorm.contracts import ContractLike, resolve
from isonorm.norm import _STYLES
from isonorm.tensorflow import _gradients  # noqa: F401  which registers
from isonorm.tensorflow._formula import wide
from isonorm.tensorflow._library import ops, settle_threads
from isonorm.tensorflow._options import FORWARD_OPERANDS, Options, forward_text

TensorLike = Union[tf.Tensor, tf.Variable, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Rope:
    """Rotation (RoPE, Su et al. 2021) of what leaves the norm, in the same call; see `isonorm/rope.h`.

        >>> import tensorflow as tf, isonorm.tensorflow
        >>> angles = tf.range(5.0)[:, None] * [1.0, 0.1]
        >>> rope = isonorm.tensorflow.Rope(tf.cos(angles), tf.sin(angles), position_axis=0)
        >>> isonorm.tensorflow.rms_norm(tf.ones((5, 2, 4)), eps=1e-6, rope=rope).shape  # tokens, heads, head_dim
        TensorShape([5, 2, 4])

    cos, sin: [table positions, R / 2], float32 or x's type; R is at most head_dim. Gradients do not flow into them. Of a table
        that has every value twice, as Hugging Face makes it, pass the first half of each row: ``cos[:, : cos.shape[1] // 2]``.
    positions: int32 or int64, rows of the tables, one for each index of the first leading dimensions of x. None:
        position_offset + the index along dimension `position_axis` of x. position_offset is a number of the graph: where it
        changes from call to call, as when tokens are generated, pass positions.
    style: "half" turns i and i + R / 2 (Llama, Qwen3, Gemma in Hugging Face's code), "interleaved" 2 i and 2 i + 1 (GPT-J).

    The call that gets it raises ValueError for another style and a position_axis that is no leading axis of x, and
    InvalidArgumentError for tables of other shapes and positions that they do not have.
    """

    cos: TensorLike
    sin: TensorLike
    positions: Optional[TensorLike] = None
    position_axis: int = 0
    position_offset: int = 0
    style: str = "half"


FLOATS = frozenset((tf.float32, tf.bfloat16, tf.float16, tf.float64))
_INTEGERS = frozenset((tf.int32, tf.int64))


def _tensor(value: Any, name: str, types: frozenset[Any] = FLOATS) -> Any:
    found = value if isinstance(value, tf.Tensor) else _converted(value, name, types)
    if found.dtype not in types:
        raise _other_type(found.dtype.name, name, types)
    return found


def _converted(value: Any, name: str, types: frozenset[Any]) -> Any:
    check_real(value, name)
    if isinstance(value, (tf.Variable, np.ndarray)) or hasattr(value, "__tf_tensor__"):
        try:
            return tf.convert_to_tensor(value)
        except (TypeError, ValueError) as error:
            if isinstance(value, np.ndarray):  # of a type that TensorFlow does not have
                raise _other_type(value.dtype, name, types) from None
            raise TypeError(f"{name} cannot be made a tensor: {str(error).splitlines()[0]}") from None
    convertible = isinstance(value, (int, float, list, tuple)) or hasattr(value, "__dlpack__")
    hint = ": tf.convert_to_tensor() makes one" if convertible else ""
    raise TypeError(f"{name} is a {class_of(value)}, but has to be a tensor, a variable or an array of NumPy{hint}")


def _other_type(dtype: Any, name: str, types: frozenset[Any]) -> TypeError:
    allowed = "float32, bfloat16, float16 or float64" if types is FLOATS else "int32 or int64"
    return TypeError(f"{name} is {dtype}, but has to be {allowed}")


def number(value: Any, name: str) -> float:
    """A number that is part of the graph."""
    if type(value) is float:
        return value
    if isinstance(value, tf.Tensor) and not hasattr(value, "numpy"):
        raise TypeError(f"{name} is a tensor of a graph, but has to be a number that is known when the graph is made")
    return real(value, name)


class _Axes:
    """How the axes of x become rows, and results axes again."""

    def __init__(self, x: Any, axis: Axis) -> None:
        ndim = x.shape.rank
        if ndim is None:
            raise ValueError(f"axis is {axis}, but x has an unknown number of dimensions: only axis -1 can be normalised")
        self.axes = sorted(axes_of(axis, x.shape))
        lead = [i for i in range(ndim) if i not in self.axes]
        self.order = lead + self.axes
        self.back = [self.order.index(i) for i in range(ndim)]
        self.moved, self.ndim, self.leading = self.order != list(range(ndim)), ndim, len(lead)
        self.sizes = tf.TensorShape([x.shape[a] for a in self.axes])

    def rows(self, array: Any, name: str) -> Any:
        if array.shape.rank not in (None, self.ndim):
            raise ValueError(f"{name} has shape {array.shape}, but x has {self.ndim} dimensions")
        if self.moved:
            array = tf.transpose(array, self.order)
        if len(self.axes) == 1:
            return array
        sizes = tf.shape(array)
        return tf.reshape(array, tf.concat([sizes[: self.leading], [tf.reduce_prod(sizes[self.leading :])]], 0))

    def vector(self, array: Any, name: str) -> Any:
        count, cols = array.shape.num_elements(), self.sizes.num_elements()  # None where TensorFlow does not know it
        if len(self.axes) == 1:
            if None not in (count, cols) and count != cols:
                raise ValueError(f"{name} has shape {array.shape}, but x has {cols} values along axis {self.axes[0]}")
            return array
        if not any(array.shape.is_compatible_with(shape) for shape in (self.sizes, [cols])):
            raise ValueError(f"{name} has shape {array.shape}, but the normalised axes of x have {self.sizes}")
        return tf.reshape(array, [-1])

    def restore(self, rows: Any, x: Any) -> Any:
        if len(self.axes) > 1:
            sizes = tf.shape(x)
            rows = tf.reshape(rows, tf.gather(sizes, self.order))
        if self.moved:
            rows = tf.transpose(rows, self.back)
        rows.set_shape(x.shape)
        return rows


def rms_norm(
    x: TensorLike,
    weight: Optional[TensorLike] = None,
    bias: Optional[TensorLike] = None,
    *,
    eps: float,
    contract: ContractLike = "torch",
    residual: Optional[TensorLike] = None,
    gate: Optional[TensorLike] = None,
    groups: int = 1,
    window: Optional[int] = None,
    rope: Optional[Rope] = None,
    axis: Axis = -1,
    dtype: Any = None,
    return_rstd: bool = False,
    return_mean: bool = False,
) -> Any:
    """Normalises rows: ``y = round(x * rstd) * (weight + weight_offset) + bias`` with ``rstd = 1 / sqrt(mean(x^2) + eps)``.

        >>> import tensorflow as tf, isonorm.tensorflow
        >>> x = tf.constant([[1.0, 2.0, 3.0, 4.0]])
        >>> isonorm.tensorflow.rms_norm(x, tf.constant([1.0, 1.0, 1.0, 2.0]), eps=1e-6).numpy()
        array([[0.36514834, 0.7302967 , 1.095445  , 2.9211867 ]], dtype=float32)

    Zhang and Sennrich 2019; docs/numerics.md says where each contract rounds. The same bits on every CPU, for every number of
    threads, for a row alone as in its batch, eagerly and in graphs. Differentiable in x, weight, bias, residual and gate, any
    number of times.

    x: [..., cols] of float32, bfloat16, float16 or float64; sizes may be unknown in a graph.
    weight, bias: [cols] (with several axes: the normalised shape), None: ones and zeros. Types may differ among float32,
        bfloat16 and float16. Of float64 beside another x they are rounded to float32 first, to nearest even, and beside an x of
        float64 they become float64; their gradients have their own types.
    eps: there is no default. A number, finite, not negative; rounded to the compute type, float32 (float64 for float64).
    contract: a name or an isonorm.Contract: what is rounded where.
    residual: like x. The row that is normalised is x + residual, which is a second result, `residual_out`, of residual's type.
    gate: like x; for contracts with a gate_place, such as "mamba2" and "qwen3_next_gated".
    groups: groups of neighbouring columns that are normalised by themselves; rstd gets a last dimension of them.
    window: the first values of a group that the statistic sees (pRMSNorm); None: all. rope: rotates the result.
    axis: one axis or several; x is transposed, which is a copy, if they are not the last ones.
    dtype: of y; None: x's.
    return_rstd, return_mean (LayerNorm): add them to the results, [...], in float32 (float64 for float64). Gradients do not
        flow through them.

    Returns y, or a named tuple of y, residual_out, mean, rstd: those there are.
    Raises ValueError for unknown contracts and axes, TypeError for arguments and tensors of other types, and InvalidArgumentError,
    with a sentence that names the argument, for all else, when the operation is run.
    """
    return _norm(
        {"x": x, "weight": weight, "bias": bias, "residual": residual, "gate": gate},
        "", eps, contract, groups, window, rope, axis, dtype, return_rstd, return_mean,
    )  # fmt: skip


def _norm(
    given: dict[str, Any], subject: str, eps: float, contract: ContractLike, groups: int = 1, window: Optional[int] = None,
    rope: Optional[Rope] = None, axis: Axis = -1, dtype: Any = None, return_rstd: bool = False, return_mean: bool = False,
) -> Any:  # fmt: skip
    """subject: which of several norms an error of the operation is of."""
    values = {name: _tensor(value, name) for name, value in given.items() if value is not None or name == "x"}
    settle_threads()
    x = values["x"]
    to = wide(x.dtype)
    axes = None if type(axis) is int and axis == -1 else _Axes(x, axis)
    for name in ("weight", "bias"):
        if name in values:
            vector = values[name] if axes is None else axes.vector(values[name], name)
            values[name] = tf.cast(vector, to) if (vector.dtype == tf.float64) != (to == tf.float64) else vector
    if axes is not None:
        for name in ("x", "residual", "gate"):
            if name in values:
                values[name] = axes.rows(values[name], name)
    turn = None if rope is None else _turned(rope, values)
    results = (("mean",) if flag(return_mean, "return_mean") else ()) + (("rstd",) if flag(return_rstd, "return_rstd") else ())
    text = _text(
        contract if type(contract) is str else resolve(contract),
        number(eps, "eps"),
        integer(groups, "groups"),
        0 if window is None else integer(window, "window"),
        turn,
        tuple(values),
        results,
    )
    others = [values[name] for name in FORWARD_OPERANDS if name in values]
    y_type = x.dtype if dtype is None else type_of(dtype, "results are")
    more: Any = {"options": text, "Ty": y_type, "Tstatistics": [to] * len(results), "subject": subject}
    if "residual" not in values:
        found = ops.isonorm_norm(values["x"], others, **more)
        outputs = {"y": found[0]}
    else:
        found = ops.isonorm_add_norm(values["x"], others, Tresidual_out=values["residual"].dtype, **more)
        outputs = {"y": found[0], "residual_out": found[1]}
    if axes is not None:
        outputs = {name: axes.restore(rows, x) for name, rows in outputs.items()}
    for name, statistic in zip(results, found[-1]):
        if not tf.executing_eagerly():
            statistic.set_shape(_per_row(values["x"].shape, groups))
        outputs[name] = statistic
    return result("Norm", outputs)


@functools.lru_cache(maxsize=4096)
def _text(
    contract: ContractLike,
    eps: float,
    groups: int,
    window: int,
    turn: Optional[tuple[int, int, int]],
    operands: tuple[str, ...],
    results: tuple[str, ...],
) -> str:
    """The options of a call, which a program makes many times."""
    return forward_text(Options(resolve(contract).text, eps, groups, window, *(turn or (0, 0, 0)), operands, results))


def type_of(dtype: Any, what: str) -> Any:
    """A `dtype=` argument; what: of whom it is the type, in the sentence that refuses another."""
    try:
        found = tf.as_dtype(dtype)
    except Exception:
        raise TypeError(f"dtype is {dtype!r}, but has to be a type of TensorFlow or of NumPy") from None
    if found not in FLOATS:
        raise TypeError(f"dtype is {found.name}, but {what} float32, bfloat16, float16 or float64")
    return found


def _per_row(shape: Any, groups: int) -> Any:
    if shape.rank is None:
        return tf.TensorShape(None)
    return shape[:-1].concatenate(groups) if groups > 1 else shape[:-1]


def _turned(rope: Rope, values: dict[str, Any]) -> tuple[int, int, int]:
    """The numbers of that rotation, whose tables come to the values."""
    check_is(rope, Rope, "rope")
    if not isinstance(rope.style, str) or rope.style not in _STYLES:
        raise ValueError(f"style is {rope.style!r}, but has to be 'half' or 'interleaved'")
    values["cos"], values["sin"] = _tensor(rope.cos, "rope.cos"), _tensor(rope.sin, "rope.sin")
    axis, ndim = integer(rope.position_axis, "position_axis"), values["x"].shape.rank
    if rope.positions is not None:
        values["positions"], axis = _tensor(rope.positions, "rope.positions", _INTEGERS), 0
    elif ndim is None and axis >= 0:
        pass  # which the operation checks
    elif ndim is None or not -ndim <= axis < ndim - 1 or axis == -1:
        known = "an unknown number of" if ndim is None else ndim
        raise ValueError(f"position_axis is {axis}, but has to be a leading axis of x, which has {known} dimensions")
    else:
        axis %= ndim
    return _STYLES[rope.style], axis, integer(rope.position_offset, "position_offset")


def layer_norm(
    x: TensorLike,
    weight: Optional[TensorLike] = None,
    bias: Optional[TensorLike] = None,
    *,
    eps: float,
    contract: ContractLike = "layer_norm",
    **options: Any,
) -> Any:
    """LayerNorm: ``y = (x - mean) * rstd * weight + bias`` with ``rstd = 1 / sqrt(var + eps)`` (Ba, Kiros and Hinton 2016).

        >>> import tensorflow as tf, isonorm.tensorflow
        >>> isonorm.tensorflow.layer_norm(tf.constant([[1.0, 3.0]]), eps=0).numpy()
        array([[-1.,  1.]], dtype=float32)

    Arguments, results and errors are those of `rms_norm`, but for window, which a mean excludes. Raises ValueError for a
    contract without a mean.
    """
    if resolve(contract).statistic != "layer":
        raise ValueError(f"contract {contract!r} has no mean: use rms_norm")
    return rms_norm(x, weight, bias, eps=eps, contract=contract, **options)


def qk_norm(
    q: TensorLike,
    k: TensorLike,
    q_weight: Optional[TensorLike] = None,
    k_weight: Optional[TensorLike] = None,
    *,
    eps: float,
    contract: ContractLike = "torch",
    rope: Optional[Rope] = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Normalises the heads of q and k, and with `rope` rotates them, as Qwen3 has it. Differentiable in all four.

        >>> import tensorflow as tf, isonorm.tensorflow
        >>> q, k = isonorm.tensorflow.qk_norm(tf.ones((5, 4, 8)), tf.ones((5, 2, 8)), eps=1e-6)
        >>> q.shape, k.shape
        (TensorShape([5, 4, 8]), TensorShape([5, 2, 8]))

    q: [..., tokens, heads, head_dim], k: the same with heads of its own. q_weight, k_weight: [head_dim]. eps, contract, rope:
    as in rms_norm; of [batch, heads, tokens, head_dim], rope.position_axis is 2. Returns (q, k). Raises as rms_norm does, but
    that ValueError and InvalidArgumentError say which of them they speak of.
    """
    for name, value in {"q": q, "k": k, "q_weight": q_weight, "k_weight": k_weight}.items():
        if value is not None or name in ("q", "k"):
            _tensor(value, name)
    results = []
    for name, x, weight in (("q", q, q_weight), ("k", k, k_weight)):
        try:
            results.append(_norm({"x": x, "weight": weight}, name, eps, contract, rope=rope))
        except ValueError as error:
            raise ValueError(f"In {name}: {error}") from None
    return results[0], results[1]
