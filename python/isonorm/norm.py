"""RMSNorm and LayerNorm of NumPy arrays: forward."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional, Union

import numpy as np

from isonorm import _arrays, _native
from isonorm._arrays import (
    LARGE_BYTES, MAX_DIMS, Axis, Frame, check_array, check_is, compute_dtype, empty, flag, fresh_groups, integer, parameter,
    result, result_dtype, thread_count,
)  # fmt: skip
from isonorm.contracts import ContractLike, packed, resolve

_STYLES = {"half": 1, "interleaved": 2}
_LAST, _ONE = -1, 1  # as the defaults of arguments: whatever else is given, even an array, is another object
_KINDS = {"static": 1, "dynamic": 2, "power_of_two": 3}


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotation (RoPE, Su et al. 2021) of what leaves the norm, in the same call; see `isonorm/rope.h`.

        >>> import numpy as np, isonorm
        >>> angles = np.outer(np.arange(5), [1, 0.1]).astype(np.float32)
        >>> rope = isonorm.Rope(np.cos(angles), np.sin(angles), position_axis=0)
        >>> isonorm.rms_norm(np.ones((5, 2, 4), np.float32), eps=1e-6, rope=rope).shape  # tokens, heads, head_dim
        (5, 2, 4)

    cos, sin: [table positions, R / 2], float32 or x's type; R is at most head_dim. Of a table that has every value twice, as
        Hugging Face makes it, pass the first half of each row: ``cos[:, :cos.shape[1] // 2]``.
    positions: int32 or int64, rows of the tables, one for each index of the first leading axes of x. None: position_offset +
        the index along axis `position_axis` of x.
    style: "half" turns i and i + R / 2 (Llama, Qwen3, Gemma in Hugging Face's code), "interleaved" 2 i and 2 i + 1 (GPT-J).

    The call that gets it raises ValueError for another style, a position_axis that is no leading axis of x, tables of other
    shapes, and positions that they do not have.
    """

    cos: np.ndarray
    sin: np.ndarray
    positions: Optional[np.ndarray] = None
    position_axis: int = 0
    position_offset: int = 0
    style: str = "half"

    def _tuple(self, ndim: int) -> tuple[Any, ...]:
        if not isinstance(self.style, str) or self.style not in _STYLES:
            raise ValueError(f"style is {self.style!r}, but has to be 'half' or 'interleaved'")
        axis = integer(self.position_axis, "position_axis")
        if not -ndim <= axis < ndim - 1 or axis == -1:
            raise ValueError(f"position_axis is {axis}, but has to be a leading axis of x, which has {ndim} dimensions")
        axis = 0 if self.positions is not None else axis % ndim
        return (_STYLES[self.style], axis, self.cos, self.sin, self.positions, self.position_offset)


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How y becomes int8 or an 8-bit float: ``q = round(y / scale)``, to nearest even, saturating.

        >>> import numpy as np, isonorm
        >>> x = np.array([[1, -2, 3, -4]], np.float32)
        >>> isonorm.rms_norm(x, eps=1e-6, quantize=isonorm.Quantization("int8")).y
        array([[  32,  -64,   95, -127]], dtype=int8)

    dtype: "int8", "float8_e4m3fn" or "float8_e5m2"; the last two are types of ml_dtypes.
    scale: "dynamic" (the largest |y| of a row or group divided by the largest value of dtype), "power_of_two" (E8M0 scales of
        OCP Microscaling Formats), or a number: a static scale for the whole tensor.
    group_cols: a scale for each 32, 64 or 128 columns; 0: one for each row.
    rounded_to: "bfloat16" or "float16": y is rounded to it first, as if it had been stored. None: it is not.
    min_scale, scale_ub: bounds of the scale and of the largest |y|; 0: none. See `isonorm_quantization` in types.h.

    y is [..., cols], its computed scale [...], with group_cols [..., cols / group_cols], in float32 or float8_e8m0fnu.
    Raises ValueError for words that are none of these; the call that gets it for sizes that do not go together.
    """

    dtype: str
    scale: Union[str, float] = "dynamic"
    group_cols: int = 0
    rounded_to: Optional[str] = None
    min_scale: float = 0.0
    scale_ub: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.dtype, str) or self.dtype not in ("int8", "float8_e4m3fn", "float8_e5m2"):
            raise ValueError(f"dtype is {self.dtype!r}, but has to be 'int8', 'float8_e4m3fn' or 'float8_e5m2'")
        if isinstance(self.scale, str) and self.scale not in ("dynamic", "power_of_two"):
            raise ValueError(f"scale is {self.scale!r}, but has to be 'dynamic', 'power_of_two' or a number")
        if not isinstance(self.scale, str):
            _native.real(self.scale, "scale")
        if not (self.rounded_to is None or isinstance(self.rounded_to, str) and self.rounded_to in ("bfloat16", "float16")):
            raise ValueError(f"rounded_to is {self.rounded_to!r}, but has to be 'bfloat16', 'float16' or None")
        integer(self.group_cols, "group_cols")
        for name in ("min_scale", "scale_ub"):
            _native.real(getattr(self, name), name)

    @property
    def numpy_dtype(self) -> np.dtype:
        """The type of y; needs ml_dtypes for the 8-bit floats."""
        return np.dtype(np.int8) if self.dtype == "int8" else _ml_dtype(self.dtype)

    def _tuple(self) -> tuple[Any, ...]:
        kind = self.scale if isinstance(self.scale, str) else "static"
        return (_KINDS[kind], self.rounded_to or "", self.group_cols, float(self.min_scale), float(self.scale_ub))

    @property
    def _scale_dtype(self) -> np.dtype:
        return np.dtype(np.float32) if self.scale == "dynamic" else _ml_dtype("float8_e8m0fnu")


def _ml_dtype(name: str) -> np.dtype:
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            f"{name} is a type of the package ml_dtypes, which is not installed: pip install 'isonorm[bfloat16]'"
        ) from None
    return np.dtype(getattr(ml_dtypes, name))


def rms_norm(
    x: np.ndarray,
    weight: Optional[np.ndarray] = None,
    bias: Optional[np.ndarray] = None,
    *,
    eps: float,
    contract: ContractLike = "torch",
    residual: Optional[np.ndarray] = None,
    gate: Optional[np.ndarray] = None,
    groups: int = 1,
    window: Optional[int] = None,
    rope: Optional[Rope] = None,
    quantize: Optional[Quantization] = None,
    axis: Axis = -1,
    dtype: Any = None,
    out: Optional[np.ndarray] = None,
    residual_out: Optional[np.ndarray] = None,
    return_rstd: bool = False,
    return_mean: bool = False,
    threads: Optional[int] = None,
) -> Any:
    """Normalises rows: ``y = round(x * rstd) * (weight + weight_offset) + bias`` with ``rstd = 1 / sqrt(mean(x^2) + eps)``.

    Zhang and Sennrich 2019; where each contract rounds is in docs/numerics.md, whose numbers this gives bit for bit, on every
    CPU, for every number of threads, and for a row alone as in its batch.

        >>> import numpy as np, isonorm
        >>> x = np.array([[1, 2, 3, 4], [10, 20, 30, 40]], np.float32)
        >>> isonorm.rms_norm(x, np.array([1, 1, 1, 2], np.float32), eps=1e-6)[0]
        array([0.36514834, 0.7302967 , 1.095445  , 2.9211867 ], dtype=float32)
        >>> y, rstd = isonorm.rms_norm(x, eps=1e-6, return_rstd=True)
        >>> rstd.shape
        (2,)

    x: [..., cols] of float32, bfloat16 (of ml_dtypes), float16 or float64, with any strides of the leading axes. Nothing is
        copied but an input whose last axis is not contiguous.
    weight, bias: [cols] (with several axes: the normalised shape), None: ones and zeros. Types may differ among float32,
        bfloat16 and float16. Of float64 beside another x they are rounded to float32 first, to nearest even.
    eps: there is no default. Finite, not negative; rounded to the compute type, float32 (float64 for float64).
    contract: a name or an isonorm.Contract: what is rounded where.
    residual: like x. The row that is normalised is x + residual, which is a second result, `residual_out`.
    gate: like x; for contracts with a gate_place, such as "mamba2" and "qwen3_next_gated".
    groups: groups of neighbouring columns that are normalised by themselves; rstd gets a last axis of them.
    window: the first values of a group that the statistic sees (pRMSNorm); None: all.
    rope: rotates the result. quantize: makes it int8 or an 8-bit float; `scale` is a further result where it is computed.
    axis: one axis or several. If they are not the last ones, or several of them are not contiguous, x is copied.
    dtype: of y; None: x's.
    out, residual_out: arrays for the results, like x with types of their own; they may be x itself.
    return_rstd, return_mean (LayerNorm): adds them to the results, [...], in float32 (float64 for float64).
    threads: how many to use at most; None: set_num_threads(), else one for each CPU. Little work is done by one.

    Returns y, or a named tuple of y, residual_out, scale, mean, rstd: those there are.
    Raises TypeError for arrays of other types and ValueError for shapes and values; each sentence names the argument.
    """
    if type(x) is np.ndarray and not (
        bias is not None
        or residual is not None
        or residual_out is not None
        or gate is not None
        or quantize is not None
        or rope is not None
        or return_rstd is not False
        or return_mean is not False
        or window is not None
        or groups is not _ONE
        or dtype is not None
        or axis is not _LAST
    ):
        # The shortest way, for a short row.
        count = thread_count(threads) if threads is not None else _arrays.default_threads
        if out is not None:
            y = out
        elif x.nbytes < LARGE_BYTES:
            y = np.empty(x.shape, x.dtype)
        else:
            y = empty(x.shape, x.dtype)
        if x.ndim <= MAX_DIMS and _native.forward_plain(packed(contract), eps, x, weight, y, count):
            return y
    check_array(x, "x")
    check_is(rope, Rope, "rope")
    check_is(quantize, Quantization, "quantize")
    frame = Frame(x, axis)
    values: dict[str, Any] = {}
    if dtype is not None:
        dtype = result_dtype(dtype)
    if quantize is not None:
        if dtype is not None and dtype != quantize.numpy_dtype:
            raise ValueError(f"dtype is {dtype}, but quantize gives {quantize.dtype}")
        dtype = quantize.numpy_dtype
    y, values["y"] = frame.output(out, x.dtype if dtype is None else dtype, "out")
    total = None
    if residual is not None:
        check_array(residual, "residual")
        total, values["residual_out"] = frame.output(residual_out, residual.dtype, "residual_out")
    elif residual_out is not None:
        raise ValueError("residual_out is given without residual")
    scale = None
    if quantize is not None:
        if isinstance(quantize.scale, str):
            counts = (frame.cols // quantize.group_cols,) if quantize.group_cols > 0 else ()
            scale, values["scale"] = frame.per_row(counts, quantize._scale_dtype)
        else:
            scale = np.array([quantize.scale], np.float32)
    per_row = fresh_groups(groups, frame.cols)
    mean = rstd = None
    if flag(return_mean, "return_mean"):
        mean, values["mean"] = frame.per_row(per_row, compute_dtype(x))
    if flag(return_rstd, "return_rstd"):
        rstd, values["rstd"] = frame.per_row(per_row, compute_dtype(x))
    link = (
        frame.view(x, "x"),
        frame.vector(parameter(weight, "weight", x), "weight"),
        frame.vector(parameter(bias, "bias", x), "bias"),
        frame.view(residual, "residual"),
        frame.view(gate, "gate"),
        None if rope is None else rope._tuple(len(frame.rows) + 1),
        None if quantize is None else quantize._tuple(),
        scale,
        y,
        total,
        mean,
        rstd,
        groups,
        0 if window is None else window,
    )
    _native.forward(packed(contract), eps, thread_count(threads), (link,))
    return result("Norm", values)


def layer_norm(
    x: np.ndarray,
    weight: Optional[np.ndarray] = None,
    bias: Optional[np.ndarray] = None,
    *,
    eps: float,
    contract: ContractLike = "layer_norm",
    **options: Any,
) -> Any:
    """LayerNorm: ``y = (x - mean) * rstd * weight + bias`` with ``rstd = 1 / sqrt(var + eps)`` (Ba, Kiros and Hinton 2016).

        >>> import numpy as np, isonorm
        >>> y, mean, rstd = isonorm.layer_norm(np.array([[1.0, 3.0]]), eps=0, return_mean=True, return_rstd=True)
        >>> y, mean, rstd
        (array([[-1.,  1.]]), array([2.]), array([1.]))

    Arguments, results and errors are those of `rms_norm`, but for window, which a mean excludes. Raises ValueError for a
    contract without a mean.
    """
    if resolve(contract).statistic != "layer":
        raise ValueError(f"contract {contract!r} has no mean: use rms_norm")
    return rms_norm(x, weight, bias, eps=eps, contract=contract, **options)


def into(
    out: Any,
    x: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    eps: float,
    contract: ContractLike = "torch",
    residual: Any = None,
    gate: Any = None,
    groups: int = 1,
    window: Optional[int] = None,
    residual_out: Any = None,
    mean: Any = None,
    rstd: Any = None,
    threads: Optional[int] = None,
) -> Any:
    """`rms_norm` of tensors in CPU memory of any framework that has DLPack: PyTorch, JAX, TensorFlow, NumPy.

    Nothing is copied and no gradient is recorded: a tensor of torch that requires one is a ValueError. The last axis is
    normalised; x, weight and the other inputs are as in rms_norm.

        >>> import numpy as np, isonorm
        >>> x = np.array([[3, 4]], np.float32)
        >>> isonorm.into(np.empty((1, 2), np.float32), x, eps=1e-6)
        array([[0.8485281, 1.1313708]], dtype=float32)

    out, residual_out, mean, rstd: results, already of the right shape; out and residual_out like x, mean and rstd [...].
        Arrays of NumPy or tensors of torch: those of other frameworks, which take them for constant, are a TypeError.

    Returns out. Raises TypeError too for tensors elsewhere than in CPU memory, and for float64 beside other types: here nothing
    is cast. The rest as rms_norm.
    """
    link = (
        x,
        weight,
        bias,
        residual,
        gate,
        None,
        None,
        None,
        out,
        residual_out,
        mean,
        rstd,
        groups,
        0 if window is None else window,
    )
    _native.forward(packed(contract), eps, thread_count(threads), (link,), True)
    return out


def qk_norm(
    q: np.ndarray,
    k: np.ndarray,
    q_weight: Optional[np.ndarray] = None,
    k_weight: Optional[np.ndarray] = None,
    *,
    eps: float,
    contract: ContractLike = "torch",
    rope: Optional[Rope] = None,
    out: Optional[tuple[np.ndarray, np.ndarray]] = None,
    threads: Optional[int] = None,
) -> Any:
    """Normalises the heads of q and k, and with `rope` rotates them (RoPE, Su et al. 2021), in one call, as Qwen3 has it.

        >>> import numpy as np, isonorm
        >>> packed = np.ones((5, 6, 8), np.float32)  # tokens, 4 heads of q beside 2 of k, head_dim
        >>> q, k = isonorm.qk_norm(packed[:, :4], packed[:, 4:], eps=1e-6)
        >>> q.shape, k.shape
        ((5, 4, 8), (5, 2, 8))

    q: [..., tokens, heads, head_dim], k: the same with heads of its own; views of one packed tensor will do. q_weight,
    k_weight: [head_dim]. out: arrays for the results, which may be q and k themselves. Returns a named tuple (q, k). Raises
    as rms_norm does.
    """
    check_array(q, "q")
    check_array(k, "k")
    check_is(rope, Rope, "rope")
    if out is not None and not (isinstance(out, (tuple, list)) and len(out) == 2):
        raise TypeError("out has to be a pair of arrays, for q and k")
    outputs = out if out is not None else (empty(q.shape, q.dtype), empty(k.shape, k.dtype))
    links = tuple(
        (x, parameter(weight, name, x), None, None, None, rope and rope._tuple(x.ndim), None, None, y, None, None, None, 1, 0)
        for x, weight, name, y in ((q, q_weight, "q_weight", outputs[0]), (k, k_weight, "k_weight", outputs[1]))
    )
    _native.forward(packed(contract), eps, thread_count(threads), links)
    return result("QK", {"q": outputs[0], "k": outputs[1]})
