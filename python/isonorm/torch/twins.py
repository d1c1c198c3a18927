"""Twins of classes of Hugging Face's transformers: the same constructor, attributes, representation and types of results.

Values follow the classes' own roundings, which docs/numerics.md defines under the contracts "llama", "t5" and "gemma"; sums are
taken in isonorm's order. Where a float64 tensor is among them, all is computed in float64, while the classes go down to
float32, and rounded once, to the type that the class returns.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor
from torch.nn import Parameter

from isonorm._arrays import check_eps
from isonorm.torch.functional import rms_norm
from isonorm.torch.modules import Norm, reset, shape_of

_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class _Twin(Norm):
    weight: Parameter

    def __init__(self, size: Any, name: str, eps: float, contract: str) -> None:
        super().__init__()
        check_eps(eps)
        self.contract = contract
        self.weight = Parameter(torch.empty(shape_of(size, name)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the weight that changes nothing, as in the constructor."""
        reset(self, self.weight)

    def _normalise(self, x: Tensor, eps: float) -> Tensor:
        own = self._parameters
        weight: Tensor = own["weight"] if "weight" in own else self.weight  # type: ignore[assignment]
        dtype = None if getattr(x, "dtype", None) is weight.dtype else self._type_of_result(x, weight)
        if dtype is None:
            y: Tensor = rms_norm(x, weight, eps=eps, contract=self.contract)
            return y
        if x.dtype != torch.float64 and weight.dtype != torch.float64:
            return rms_norm(x, weight, eps=eps, contract=self.contract, dtype=dtype)  # type: ignore[no-any-return]
        return rms_norm(x.double(), weight.double(), eps=eps, contract=self.contract).to(dtype)  # type: ignore[no-any-return]

    def _type_of_result(self, x: Any, weight: Tensor) -> Optional[torch.dtype]:
        """None for what the function refuses, of which torch may know no such type."""
        known = isinstance(x, Tensor) and x.dtype in _FLOATS and weight.dtype in _FLOATS
        return self._result_type(x, weight) if known else None

    def _result_type(self, x: Tensor, weight: Tensor) -> torch.dtype:
        return torch.promote_types(x.dtype, weight.dtype)


class LlamaRMSNorm(_Twin):
    """`LlamaRMSNorm` of Hugging Face, and the classes of other models with its body (Mistral, Qwen2, Qwen3, ...).

        >>> import torch, isonorm.torch
        >>> norm = isonorm.torch.LlamaRMSNorm(8)
        >>> norm.variance_epsilon = 1e-5
        >>> norm
        LlamaRMSNorm((8,), eps=1e-05)

    forward(hidden_states): [..., hidden_size] → the same shape. ``x * rstd`` is rounded to x's type before the weight
    multiplies it, and the result has the type to which those of x and weight promote. Raises as isonorm.torch.rms_norm does.
    """

    def __init__(self, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__(hidden_size, "hidden_size", eps, "llama")
        self.variance_epsilon = eps

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self._normalise(hidden_states, self.variance_epsilon)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.variance_epsilon}"


class T5RMSNorm(_Twin):
    """`T5LayerNorm` of Hugging Face, which is an RMSNorm.

        >>> import torch, isonorm.torch
        >>> isonorm.torch.T5RMSNorm(8).half()(torch.ones(1, 8)).dtype
        torch.float16

    forward(hidden_states): [..., hidden_size] → the same shape. A weight of float16 or bfloat16 decides the type, to which
    ``x * rstd`` is rounded before the weight multiplies it; of others the result has the type to which those of x and weight
    promote. Raises as isonorm.torch.rms_norm does.
    """

    def __init__(self, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__(hidden_size, "hidden_size", eps, "t5")
        self.variance_epsilon = eps

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self._normalise(hidden_states, self.variance_epsilon)

    def _result_type(self, x: Tensor, weight: Tensor) -> torch.dtype:
        if weight.dtype in (torch.float16, torch.bfloat16):
            return weight.dtype
        return torch.promote_types(x.dtype, weight.dtype)


class GemmaRMSNorm(_Twin):
    """`GemmaRMSNorm` of Hugging Face: the factor is ``1 + weight``, which begins with zeros, and the result has x's type.

        >>> import torch, isonorm.torch
        >>> isonorm.torch.GemmaRMSNorm(4).weight.tolist()
        [0.0, 0.0, 0.0, 0.0]

    forward(x): [..., dim] → the same shape and type; nothing is rounded before the end. Raises as
    isonorm.torch.rms_norm does.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__(dim, "dim", eps, "gemma")
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self._normalise(x, self.eps)

    def _result_type(self, x: Tensor, weight: Tensor) -> torch.dtype:
        return x.dtype

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.eps}"
