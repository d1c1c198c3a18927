"""How a call finds its way: plain kernel, autograd, compiled graph, or a transform of torch.func."""

from __future__ import annotations

import collections
import itertools
import operator
from typing import Any, Callable, NoReturn, Optional

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from isonorm import contracts
from isonorm._arrays import check_real, class_of
from isonorm.contracts import ContractLike
from isonorm.torch import _autograd, _ops  # noqa: F401  registers what torch has to know
from isonorm.torch._autograd import eager
from isonorm.torch._direct import compiling, tracing, untransformed
from isonorm.torch._library import ops

grad_enabled: Callable[[], bool] = torch.is_grad_enabled


class Way:
    """One operation in its four forms, which take the same arguments."""

    def __init__(self, name: str) -> None:
        self.function: Any = _autograd.FUNCTIONS[name]
        self.compiled = getattr(ops, name).default
        self.plain = getattr(ops, "_" + name if hasattr(ops, "_" + name) else name).default
        self.transformed: Callable[..., Any] = self.function.apply
        self.eager: Callable[..., Any] = eager(self.function)

    def __call__(self, *args: Any) -> Any:
        if compiling() or tracing():
            return self.compiled(*args)
        if not untransformed():
            return self.transformed(*args)
        return (self.eager if any_gradient(args) else self.plain)(*args)


def any_gradient(args: Any) -> bool:
    """Whether autograd has to see a call."""
    return grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in args)


FORWARD, BACKWARD, DOUBLE_BACKWARD, QK_NORM, RMS, RMS_BACKWARD, RMS_PENALTY = map(
    Way, ("forward", "backward", "double_backward", "qk_norm", "rms", "rms_backward", "rms_penalty")
)


NAMES = frozenset(contracts.names())
plain: Callable[..., Tensor] = _autograd.Plain.apply
# Without what torch's Python does for wrapped tensors, which have no memory to be computed from.
record: Callable[..., Tensor] = super(Function, _autograd.Plain).apply


def text_of(contract: ContractLike) -> str:
    """A contract as operators take it."""
    return contract if type(contract) is str and contract in NAMES else contracts.resolve(contract).text


def takes_mean(contract: str) -> bool:
    """Whether the contract of that text is a LayerNorm."""
    return contract == "layer_norm" or contract.startswith("2,")


# Types of which the kernels speak themselves.
_KNOWN = (
    *(torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.uint8, torch.int32, torch.int64),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
)


def matched(vector: Tensor, x: Tensor, name: str) -> Tensor:
    """A weight or bias in a type that goes with x, as in NumPy's face: of float64 beside another x it is rounded to float32, to
    nearest even, and with an x of float64 it becomes float64. Autograd sees it."""
    if torch.float64 not in (vector.dtype, x.dtype) or vector.dtype is x.dtype:
        return vector
    if not compiling() and untransformed() and type(vector) in (Tensor, torch.nn.Parameter) and vector.device.type == "cpu":
        if vector.numel() > 0 and vector.untyped_storage().nbytes() == 0:  # torch would read it all the same
            raise RuntimeError(f"{name} has no memory, but is not empty")
    return vector.to(torch.promote_types(x.dtype, torch.float32))


def explain(
    error: BaseException,
    required: dict[str, Any],
    optional: dict[str, Any] = {},
    numbers: dict[str, Any] = {},
    integers: dict[str, Any] = {},
    **kinds: tuple[Any, type],
) -> NoReturn:
    """Raises what is wrong with the arguments, where the error itself does not say it in one sentence; else the error."""
    for name, value in {**required, **optional}.items():
        if value is None and name in optional:
            continue
        if not isinstance(value, Tensor):
            check_real(value, name)
            raise TypeError(f"{name} is a {class_of(value)}, but has to be a torch.Tensor{_advice(name, value)}") from None
        if value.is_nested:
            raise RuntimeError(f"{name} is a nested tensor, but has to be a dense one") from None
        if value.layout != torch.strided:
            raise RuntimeError(f"{name} has the layout {value.layout}, but has to be a dense tensor") from None
        _check_device(name, value)
        if value.dim() > 64:
            raise RuntimeError(f"{name} has {value.dim()} dimensions, but may have 64 at most") from None
        if value.dtype not in _KNOWN:
            raise RuntimeError(f"{name} has dtype {value.dtype}, but has to be float32, bfloat16, float16 or float64") from None
    for name, value in numbers.items():
        _check_number(name, value, float, "a number")
    for name, value in integers.items():
        _check_number(name, value, operator.index, "an int")
    for name, (value, kind) in kinds.items():
        if value is not None and not isinstance(value, kind):
            wanted = kind.__name__ if kind is bool else f"{kind.__module__.removesuffix('.functional')}.{kind.__name__}"
            raise TypeError(f"{name} is a {type(value).__name__}, but has to be a {wanted}") from None
        if kind is torch.dtype and value is not None and value not in _KNOWN:
            raise RuntimeError(f"{name} is {value}, but results are float32, bfloat16, float16 or float64") from None
    raise error


def _advice(name: str, value: Any) -> str:
    if name == "weight" and isinstance(value, (int, tuple, list)):
        return ": it comes second, where torch.nn.functional has normalized_shape"
    if isinstance(value, np.ndarray):
        return ": torch.from_numpy() makes one, and isonorm has the same functions for arrays"
    return ": torch.tensor() makes one" if isinstance(value, (int, float, list, tuple)) else ""


def _check_device(name: str, tensor: Tensor) -> None:
    if tensor.device.type not in ("cpu", "meta"):
        raise RuntimeError(f"{name} is on {tensor.device}, but isonorm computes on the CPU: pass {name}.cpu()") from None


def _check_number(name: str, value: Any, number: Callable[[Any], Any], wanted: str) -> None:
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        found = number(value)
        too_large = number is operator.index and not -(2**63) <= found < 2**63
    except OverflowError:
        too_large = True
    except Exception:
        raise TypeError(f"{name} is a {type(value).__name__}, but has to be {wanted}") from None
    if too_large:
        raise RuntimeError(f"{name} is too large: it has to be {wanted} of 64 bits") from None


def _result_types(name: str, fields: tuple[str, ...]) -> dict[tuple[bool, ...], Any]:
    types: dict[tuple[bool, ...], Any] = {}
    for there in itertools.product((False, True), repeat=len(fields)):
        types[there] = collections.namedtuple(name, [f for f, t in zip(fields, there) if t])
    return types


_RESULTS = {
    "Norm": _result_types("Norm", ("y", "residual_out", "scale", "mean", "rstd")),
    "Gradients": _result_types("Gradients", ("dx", "dweight", "dbias", "dgate")),
    "SecondGradients": _result_types("SecondGradients", ("dx", "dweight", "ddy")),
}


def result(name: str, *values: Optional[Tensor]) -> Any:
    """The only value there is, or a named tuple of all of them."""
    there = [v for v in values if v is not None]
    return there[0] if len(there) == 1 else _RESULTS[name][tuple([v is not None for v in values])](*there)


class Frame:
    """How several trailing sizes become the one that the operators normalise, and results get them back. A copy where the
    memory of x does not lie so; autograd sees both."""

    def __init__(self, x: Tensor, normalized_shape: Any) -> None:
        try:
            sizes = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        except TypeError:
            raise TypeError(f"normalized_shape is {normalized_shape!r}, but has to be an int or several") from None
        if not sizes or x.shape[-len(sizes) :] != sizes:
            raise RuntimeError(f"normalized_shape is {sizes}, but x has shape {tuple(x.shape)}: its last sizes must be these")
        self.sizes = sizes

    def rows(self, tensor: Optional[Tensor]) -> Any:
        return tensor if tensor is None or len(self.sizes) == 1 else tensor.flatten(-len(self.sizes))

    def vector(self, tensor: Optional[Tensor], name: str) -> Any:
        if tensor is None or len(self.sizes) == 1:
            return tensor
        if tensor.shape != self.sizes:
            raise RuntimeError(f"{name} has shape {tuple(tensor.shape)}, but normalized_shape is {self.sizes}")
        return tensor.flatten()

    def restored(self, tensor: Optional[Tensor]) -> Any:
        if tensor is None or len(self.sizes) == 1:
            return tensor
        return tensor.unflatten(-1, self.sizes)  # type: ignore[no-untyped-call]
