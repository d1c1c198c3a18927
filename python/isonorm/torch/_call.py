"""How a call finds its way: plain kernel, autograd, compiled graph, or a transform of torch.func."""

from __future__ import annotations

import collections
import itertools
from typing import Any, Callable, NoReturn, Optional

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from isonorm import contracts
from isonorm.contracts import ContractLike
from isonorm.torch import _autograd, _ops  # noqa: F401  registers what torch has to know
from isonorm.torch._autograd import eager
from isonorm.torch._library import ops

compiling: Callable[[], bool] = torch.compiler.is_compiling
transforming: Callable[[], bool] = torch._C._are_functorch_transforms_active
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
        if compiling():
            return self.compiled(*args)
        if transforming() or forward_ad._current_level >= 0:
            return self.transformed(*args)
        return (self.eager if any_gradient(args) else self.plain)(*args)


def any_gradient(args: Any) -> bool:
    """Whether autograd has to see a call."""
    return grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in args)


FORWARD, BACKWARD, DOUBLE_BACKWARD, QK_NORM, RMS, RMS_BACKWARD, RMS_PENALTY = map(
    Way, ("forward", "backward", "double_backward", "qk_norm", "rms", "rms_backward", "rms_penalty")
)


plain: Callable[..., Tensor] = _autograd.Plain.apply
# Without what torch's Python does for wrapped tensors, which have no memory to be computed from.
record: Callable[..., Tensor] = super(Function, _autograd.Plain).apply


def text_of(contract: ContractLike) -> str:
    """A contract as operators take it."""
    return contract if type(contract) is str else contracts.resolve(contract).text


def takes_mean(contract: str) -> bool:
    """Whether the contract of that text is a LayerNorm."""
    return contract == "layer_norm" or contract.startswith("2,")


def explain(error: BaseException, **tensors: Any) -> NoReturn:
    """Raises what is wrong with the arguments, where torch's own message does not say it; else the error."""
    for name, value in tensors.items():
        if value is None:
            continue
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is a {type(value).__name__}, but has to be a torch.Tensor") from None
        if value.layout != torch.strided:
            raise RuntimeError(f"{name} has the layout {value.layout}, but has to be a dense tensor") from None
        if value.device.type not in ("cpu", "meta"):
            raise RuntimeError(f"{name} is on {value.device}, but isonorm computes on the CPU") from None
    raise error


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
        sizes = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
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
