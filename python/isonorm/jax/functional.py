"""RMSNorm and LayerNorm of arrays of JAX: functions. `isonorm.jax` has their names."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Optional, Union

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isonorm import contracts
from isonorm._arrays import Axis, check_is, flag, integer, result
from isonorm.contracts import ContractLike
from isonorm.jax import _check
from isonorm.jax._check import array, known_number
from isonorm.jax._exchange import Axes, alike, axes_of
from isonorm.jax._formula import wide
from isonorm.jax._options import FORWARD, FORWARD_OPERANDS, FORWARD_RESULTS, TABLES, mask
from isonorm.jax._partition import Operation
from isonorm.jax._primitives import forward_p
from isonorm.norm import _STYLES, Quantization

ArrayLike = Union[Array, np.ndarray]
MeshAxis = Union[str, tuple[str, ...], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Rope:
    """Rotation (RoPE, Su et al. 2021) of what leaves the norm, in the same call; see `isonorm/rope.h`.

        >>> import jax.numpy as jnp, isonorm.jax
        >>> angles = jnp.outer(jnp.arange(5.0), jnp.array([1.0, 0.1]))
        >>> rope = isonorm.jax.Rope(jnp.cos(angles), jnp.sin(angles), position_axis=0)
        >>> isonorm.jax.rms_norm(jnp.ones((5, 2, 4)), eps=1e-6, rope=rope).shape  # tokens, heads, head_dim
        (5, 2, 4)

    cos, sin: [table positions, R / 2], float32 or x's type; R is at most head_dim. Gradients do not flow into them. Of a table
        that has every value twice, as Hugging Face makes it, pass the first half of each row: ``cos[:, : cos.shape[1] // 2]``.
    positions: int32 or int64, rows of the tables, one for each index of the first leading dimensions of x. None:
        position_offset + the index along dimension `position_axis` of x. position_offset is part of what is compiled: where it
        changes from call to call, as when tokens are generated, pass positions.
    style: "half" turns i and i + R / 2 (Llama, Qwen3, Gemma in Hugging Face's code), "interleaved" 2 i and 2 i + 1 (GPT-J).

    It is a pytree of its arrays. The call that gets it raises ValueError for another style, a position_axis that is no leading
    axis of x, and tables of other shapes; positions that the tables do not have are seen when the call is run, and raise
    JaxRuntimeError.
    """

    cos: ArrayLike
    sin: ArrayLike
    positions: Optional[ArrayLike] = None
    position_axis: int = 0
    position_offset: int = 0
    style: str = "half"


jax.tree_util.register_dataclass(
    Rope, data_fields=["cos", "sin", "positions"], meta_fields=["position_axis", "position_offset", "style"]
)


class Static(NamedTuple):
    """The arguments that are known when a call is traced."""

    contract: str
    eps: float
    groups: int
    window: int
    axis: tuple[int, ...]
    dtype: Optional[np.dtype]
    results: tuple[str, ...]
    style: int = 0
    position_axis: int = 0
    position_offset: int = 0
    rows_axis: Axes = ()
    quantize: Optional[Quantization] = None
    overwrite: bool = False


def _traced(arrays: tuple[Optional[Array], ...], call: Static) -> list[Any]:
    """The call inside of jax.jit, where arrays have shapes and types."""
    given = {name: a for name, a in zip(FORWARD_OPERANDS, arrays) if a is not None}
    options, frame = _check.checked(given, call)
    x = given["x"]
    axes, last = frame.axes, tuple(range(x.ndim - len(frame.axes), x.ndim))
    moved = axes != (x.ndim - 1,)
    if moved:
        for name in {"x", "residual", "gate"} & given.keys():
            given[name] = jnp.moveaxis(given[name], axes, last).reshape(*frame.lead, frame.cols)
    for name in ("weight", "bias"):
        if name in given:
            vector = given[name].reshape(-1)
            if jnp.float64 in (vector.dtype, x.dtype):
                vector = vector.astype(wide(x.dtype))
            given[name] = vector
    for name in TABLES:
        if name in given:
            given[name] = jax.lax.stop_gradient(given[name])
    given = alike(given, rows_axis=call.rows_axis)
    dtypes = {"y": call.dtype or x.dtype, "residual_out": given["residual"].dtype if "residual" in given else None}
    if call.quantize is not None:
        dtypes |= {"y": call.quantize.numpy_dtype, "scale": call.quantize._scale_dtype}
    operation = Operation(
        FORWARD,
        options,
        mask(FORWARD_OPERANDS, given),
        0,
        mask(FORWARD_RESULTS, call.results),
        tuple(np.dtype(dtypes.get(name, wide(x.dtype))) for name in FORWARD_RESULTS if name in call.results),
    )
    found = forward_p.bind(*(given[name] for name in FORWARD_OPERANDS if name in given), operation=operation)
    for i, name in enumerate(operation.result_names):
        if moved and name in ("y", "residual_out"):
            found[i] = jnp.moveaxis(found[i].reshape(*frame.lead, *(x.shape[a] for a in axes)), last, axes)
    return found


_compiled = jax.jit(_traced, static_argnums=1, inline=True)


def rms_norm(
    x: ArrayLike,
    weight: Optional[ArrayLike] = None,
    bias: Optional[ArrayLike] = None,
    *,
    eps: float,
    contract: ContractLike = "torch",
    residual: Optional[ArrayLike] = None,
    gate: Optional[ArrayLike] = None,
    groups: int = 1,
    window: Optional[int] = None,
    rope: Optional[Rope] = None,
    quantize: Optional[Quantization] = None,
    axis: Axis = -1,
    dtype: Any = None,
    rows_axis: MeshAxis = None,
    overwrite: bool = False,
    return_rstd: bool = False,
    return_mean: bool = False,
) -> Any:
    """Normalises rows: ``y = round(x * rstd) * (weight + weight_offset) + bias`` with ``rstd = 1 / sqrt(mean(x^2) + eps)``.

        >>> import jax.numpy as jnp, isonorm.jax
        >>> x = jnp.array([[1.0, 2.0, 3.0, 4.0]])
        >>> isonorm.jax.rms_norm(x, jnp.array([1.0, 1.0, 1.0, 2.0]), eps=1e-6)
        Array([[0.36514834, 0.7302967 , 1.095445  , 2.9211867 ]], dtype=float32)

    Zhang and Sennrich 2019; docs/numerics.md says where each contract rounds. The same bits on every CPU, for every number of
    threads, for a row alone as in its batch, compiled or not. Differentiable in x, weight, bias, residual and gate, in forward
    and in reverse mode, any number of times.

    x: [..., cols] of float32, bfloat16, float16 or, with jax_enable_x64, float64: an array of JAX or of NumPy.
    weight, bias: [cols] (with several axes: the normalised shape), None: ones and zeros. Types may differ among float32,
        bfloat16 and float16. Of float64 beside another x they are rounded to float32 first, to nearest even, and beside an x of
        float64 they become float64; their gradients have their own types.
    eps: there is no default. A number that is known when the call is traced, finite, not negative; rounded to the compute type,
        float32 (float64 for float64).
    contract: a name or an isonorm.Contract: what is rounded where.
    residual: like x. The row that is normalised is x + residual, which is a second result, `residual_out`, of residual's type.
    gate: like x; for contracts with a gate_place, such as "mamba2" and "qwen3_next_gated".
    groups: groups of neighbouring columns that are normalised by themselves; rstd gets a last dimension of them.
    window: the first values of a group that the statistic sees (pRMSNorm); None: all. rope: rotates the result.
    quantize: an isonorm.Quantization, which makes the result int8 or an 8-bit float; `scale` is a further result where it is
        computed. It is part of what is compiled. That has no gradient, and asking for one raises ValueError.
    axis: one axis or several; XLA copies x if they are not the last ones.
    dtype: of y; None: x's.
    rows_axis: inside of jax.shard_map the axes of its mesh that rows are divided along: the gradients of weight and bias are then
        those of the rows of all devices along them, with the bits that one device would find: see `isonorm.jax.parallel`.
    overwrite: y takes x's memory, residual_out residual's, and in backward x's gradient that of y's gradient, where types are
        equal. Inside of jax.jit, for arrays that are computed there and read by nothing else, or donated to it. Arrays of
        others stay as they are: XLA copies them first, which takes longer than a result of its own. Where gradients need x, y has
        memory of its own.
    return_rstd, return_mean (LayerNorm): add them to the results, [...], in float32 (float64 for float64). Gradients do not
        flow through them.

    Returns y, or a named tuple of y, residual_out, scale, mean, rstd: those there are.
    Raises ValueError and, for arguments of other types, TypeError, when the call is traced; the sentence names the argument.
    """
    check_is(rope, Rope, "rope")
    check_is(quantize, Quantization, "quantize")
    results = ["y"]
    if residual is not None:
        results.append("residual_out")
    if quantize is not None and isinstance(quantize.scale, str):
        results.append("scale")
    if flag(return_mean, "return_mean"):
        results.append("mean")
    if flag(return_rstd, "return_rstd"):
        results.append("rstd")
    call = Static(
        contract if type(contract) is str else contracts.resolve(contract).text,
        known_number(eps, "eps"),
        integer(groups, "groups"),
        0 if window is None else integer(window, "window"),
        _check.axes(axis),
        None if dtype is None else _check.result_type(dtype),
        tuple(results),
        rows_axis=axes_of(rows_axis, "rows_axis"),
        quantize=quantize,
        overwrite=flag(overwrite, "overwrite"),
    )
    arrays: tuple[Any, ...] = (
        array(x, "x"),
        None if weight is None else array(weight, "weight"),
        None if bias is None else array(bias, "bias"),
        None if residual is None else array(residual, "residual"),
        None if gate is None else array(gate, "gate"),
    )
    if rope is None:
        arrays += (None, None, None)
    else:
        tables, call = _turned(rope, call)
        arrays += tables
    return result("Norm", dict(zip(results, _compiled(arrays, call))))


def _turned(rope: Rope, call: Static) -> tuple[tuple[Any, ...], Static]:
    if not isinstance(rope.style, str) or rope.style not in _STYLES:
        raise ValueError(f"style is {rope.style!r}, but has to be 'half' or 'interleaved'")
    numbers = (
        _STYLES[rope.style],
        integer(rope.position_axis, "position_axis"),
        integer(rope.position_offset, "position_offset"),
    )
    tables = (
        array(rope.cos, "rope.cos"),
        array(rope.sin, "rope.sin"),
        None if rope.positions is None else array(rope.positions, "rope.positions"),
    )
    return tables, call._replace(style=numbers[0], position_axis=numbers[1], position_offset=numbers[2])


def layer_norm(
    x: ArrayLike,
    weight: Optional[ArrayLike] = None,
    bias: Optional[ArrayLike] = None,
    *,
    eps: float,
    contract: ContractLike = "layer_norm",
    **options: Any,
) -> Any:
    """LayerNorm: ``y = (x - mean) * rstd * weight + bias`` with ``rstd = 1 / sqrt(var + eps)`` (Ba, Kiros and Hinton 2016).

        >>> import jax.numpy as jnp, isonorm.jax
        >>> isonorm.jax.layer_norm(jnp.array([[1.0, 3.0]]), eps=0)
        Array([[-1.,  1.]], dtype=float32)

    Arguments, results and errors are those of `rms_norm`, but for window, which a mean excludes. Raises ValueError for a
    contract without a mean.
    """
    if contracts.resolve(contract).statistic != "layer":
        raise ValueError(f"contract {contract!r} has no mean: use rms_norm")
    return rms_norm(x, weight, bias, eps=eps, contract=contract, **options)


def qk_norm(
    q: ArrayLike,
    k: ArrayLike,
    q_weight: Optional[ArrayLike] = None,
    k_weight: Optional[ArrayLike] = None,
    *,
    eps: float,
    contract: ContractLike = "torch",
    rope: Optional[Rope] = None,
    rows_axis: MeshAxis = None,
    overwrite: bool = False,
) -> tuple[Array, Array]:
    """Normalises the heads of q and k, and with `rope` rotates them, as Qwen3 has it. Differentiable in all four.

        >>> import jax.numpy as jnp, isonorm.jax
        >>> q, k = isonorm.jax.qk_norm(jnp.ones((5, 4, 8)), jnp.ones((5, 2, 8)), eps=1e-6)
        >>> q.shape, k.shape
        ((5, 4, 8), (5, 2, 8))

    q: [..., tokens, heads, head_dim], k: the same with heads of its own. q_weight, k_weight: [head_dim]. eps, contract, rope,
    rows_axis, overwrite: as in rms_norm; of [batch, heads, tokens, head_dim], rope.position_axis is 2. Returns (q, k). Raises as
    rms_norm does, but that a ValueError says which of them it speaks of.
    """
    for name, value in {"q": q, "k": k, "q_weight": q_weight, "k_weight": k_weight}.items():
        if value is not None or name in ("q", "k"):
            array(value, name)
    options: dict[str, Any] = {"eps": eps, "contract": contract, "rope": rope, "rows_axis": rows_axis, "overwrite": overwrite}
    results = []
    for name, x, weight in (("q", q, q_weight), ("k", k, k_weight)):
        try:
            results.append(rms_norm(x, weight, **options))
        except ValueError as error:
            raise ValueError(f"In {name}: {error}") from None
    return results[0], results[1]
