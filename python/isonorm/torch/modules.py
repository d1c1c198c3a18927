"""Norms as modules: drop-ins for those of `torch.nn`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from torch import Tensor

from isonorm._arrays import check_eps, size_of
from isonorm.contracts import ContractLike, resolve
from isonorm.torch.functional import layer_norm, rms_norm

Shape = Union[int, Sequence[int]]

_F32_EPS = torch.finfo(torch.float32).eps
_F64_EPS = torch.finfo(torch.float64).eps


class Norm(torch.nn.Module):
    """What all modules here share: options of the call in attributes, eps=None as torch has it, and what they show."""

    _statistic = "rms"
    _gated = False
    eps: Any  # a float, or None where the constructor takes it
    contract: ContractLike

    def _set_contract(self, contract: ContractLike) -> None:
        found = resolve(contract)
        if found.statistic != self._statistic:
            other = "LayerNorm" if found.statistic == "layer" else "RMSNorm"
            raise ValueError(f"contract {contract!r} does not belong to {type(self).__name__}: use {other}")
        if (found.gate_place != "none") != self._gated:
            has = "no gate, but gate_place has to be 'before' or 'after'" if self._gated else "a gate: use GatedRMSNorm"
            raise ValueError(f"contract {contract!r} has {has}")
        self.contract = contract

    def _parameter(self, name: str) -> Optional[Tensor]:
        # The dictionary is quicker than torch's __getattr__; pruning, parametrizations and FSDP put an attribute in its place.
        own = self._parameters
        return own[name] if name in own else getattr(self, name)

    def _eps(self, x: Tensor) -> float:
        return machine_eps(x) if self.eps is None else self.eps

    def _norm_inputs(self, x: Tensor) -> dict[str, Tensor]:
        """What `watch` looks at: the rows that are normalised, under "" or names of their own; takes forward's arguments."""
        return {"": x}

    def _contract_repr(self, default: ContractLike) -> str:
        return "" if self.contract == default else f", contract={self.contract!r}"

    def __prepare_scriptable__(self) -> Any:
        raise RuntimeError(
            f"torch.jit.script does not compile isonorm.torch.{type(self).__name__}: "
            "use torch.compile, torch.export or torch.jit.trace"
        )


def normalised(
    x: Tensor, *, contract: ContractLike, residual: Optional[Tensor] = None, gate: Optional[Tensor] = None
) -> Tensor:
    """The rows whose statistics a norm of that contract takes."""
    found = resolve(contract)
    if residual is not None:
        if found.sum_rounding == "stored":
            return (x + residual).to(residual.dtype)
        wide = torch.promote_types(x.dtype, torch.float32)
        return x.to(wide) + residual.to(wide)
    if gate is not None and found.gate_place == "before":
        function = torch.sigmoid if found.gate_function == "sigmoid" else torch.nn.functional.silu
        return x.float() * function(gate.float())
    return x


def machine_eps(x: Tensor) -> float:
    """What torch.nn.RMSNorm takes for eps=None."""
    return _F64_EPS if getattr(x, "dtype", None) == torch.float64 else _F32_EPS  # what is no tensor is refused by the function


def shape_of(normalized_shape: Any, name: str = "normalized_shape") -> tuple[int, ...]:
    """One size or several, as a constructor is given them."""
    if isinstance(normalized_shape, str):
        raise TypeError(f"{name} is a str, but has to be an int or several")
    try:
        sizes: tuple[Any, ...] = tuple(normalized_shape)
    except TypeError:
        sizes = (normalized_shape,)
    if not sizes:
        raise ValueError(f"{name} is empty, but has to have one size or more")
    return tuple(size_of(size, name) for size in sizes)


def check_optional_eps(eps: Optional[float]) -> None:
    """Of a constructor for which None is the machine epsilon."""
    if eps is not None:
        check_eps(eps)


def reset(module: Norm, weight: Optional[Tensor], bias: Optional[Tensor] = None) -> None:
    if weight is not None:
        torch.nn.init.constant_(weight, 1.0 - resolve(module.contract).weight_offset)
    if bias is not None:
        torch.nn.init.zeros_(bias)


class RMSNorm(Norm, torch.nn.RMSNorm):
    """A drop-in for `torch.nn.RMSNorm`, which it is a subclass of: the same constructor, parameters and representation.

        >>> import torch, isonorm.torch
        >>> norm = isonorm.torch.RMSNorm(4, eps=1e-6)
        >>> norm(torch.tensor([1.0, 2.0, 3.0, 4.0])).dtype
        torch.float32

    normalized_shape: the last axis, or the last ones. eps: None is the machine epsilon of float32 for float32, bfloat16 and
    float16, and that of float64 for float64, as torch has it; it may be written at any time.
    contract: which roundings: a name or an isonorm.Contract. Contracts that add 1 to the weight begin with zeros.
    forward(x): [..., normalized_shape] → the same shape and type, whatever the weight's type is; where only one of them is
    float64, the weight is converted, to float64 or to float32.
    Raises what `isonorm.torch.rms_norm` raises; the constructor TypeError and ValueError for a size, an eps or a contract that is
    none. torch.jit.script is refused with a RuntimeError.
    """

    def __init__(
        self,
        normalized_shape: Shape,
        eps: Optional[float] = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        contract: ContractLike = "torch",
    ) -> None:
        self._set_contract(contract)
        shape_of(normalized_shape)
        check_optional_eps(eps)
        torch.nn.RMSNorm.__init__(self, normalized_shape, eps, elementwise_affine, device, dtype)

    def reset_parameters(self) -> None:
        """Sets a weight that changes nothing: ones, or zeros for contracts that add 1 to it."""
        reset(self, self.weight)

    def forward(self, x: Tensor) -> Tensor:
        own = self._parameters
        weight: Optional[Tensor] = own["weight"] if "weight" in own else self.weight
        eps = self.eps
        if eps is None:
            eps = machine_eps(x)
        shape: Optional[tuple[int, ...]] = self.normalized_shape
        if weight is not None and len(self.normalized_shape) == 1:
            shape = None  # the weight has it, and the function's shortest way wants none
        y: Tensor = rms_norm(x, weight, eps=eps, contract=self.contract, normalized_shape=shape)
        return y

    def extra_repr(self) -> str:
        return super().extra_repr() + self._contract_repr("torch")


class LayerNorm(Norm, torch.nn.LayerNorm):
    """A drop-in for `torch.nn.LayerNorm`, which it is a subclass of: the same constructor, parameters and representation.

        >>> import torch, isonorm.torch
        >>> isonorm.torch.LayerNorm(2)
        LayerNorm((2,), eps=1e-05, elementwise_affine=True, bias=True)

    forward(input): [..., normalized_shape] → the same shape and type; weight and bias may have others; where only one of them
    is float64, they are converted as in RMSNorm.
    contract: a contract whose statistic is "layer". torch.jit.script is refused with a RuntimeError.
    """

    _statistic = "layer"
    eps: float

    def __init__(
        self,
        normalized_shape: Shape,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        contract: ContractLike = "layer_norm",
    ) -> None:
        self._set_contract(contract)
        shape_of(normalized_shape)
        check_eps(eps)
        torch.nn.LayerNorm.__init__(self, normalized_shape, eps, elementwise_affine, bias, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        own = self._parameters
        weight = own["weight"] if "weight" in own else self.weight
        bias = own["bias"] if "bias" in own else self.bias
        shape = None if weight is not None and len(self.normalized_shape) == 1 else self.normalized_shape
        y: Tensor = layer_norm(input, weight, bias, eps=self.eps, contract=self.contract, normalized_shape=shape)
        return y

    def extra_repr(self) -> str:
        return super().extra_repr() + self._contract_repr("layer_norm")
