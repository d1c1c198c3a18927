"""Norms as modules that `torch.nn` does not have: with a residual, gate, groups, window, rotation, or quantised outputs."""

from __future__ import annotations

import math
from typing import Any, Optional, Union

import torch
from torch import Tensor
from torch.nn import Parameter

from isonorm._arrays import integer, size_of
from isonorm._native import real
from isonorm.contracts import ContractLike
from isonorm.norm import Quantization
from isonorm.torch.functional import Rope, qk_norm, rms_norm
from isonorm.torch.modules import Norm, Shape, check_optional_eps, normalised, reset, shape_of


class _Affine(Norm):
    """A norm of its own constructor, with a weight and possibly a bias of the normalised shape."""

    _default_contract: ContractLike = "torch"
    normalized_shape: tuple[int, ...]
    elementwise_affine: bool
    weight: Optional[Parameter]
    bias: Optional[Parameter]
    __constants__ = ["normalized_shape", "eps", "elementwise_affine"]

    def __init__(
        self,
        normalized_shape: Shape,
        eps: Optional[float],
        elementwise_affine: bool,
        bias: bool,
        device: Any,
        dtype: Any,
        contract: ContractLike,
    ) -> None:
        super().__init__()
        self.normalized_shape = shape_of(normalized_shape)
        check_optional_eps(eps)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self._set_contract(contract)
        for name, there in (("weight", elementwise_affine), ("bias", elementwise_affine and bias)):
            values = Parameter(torch.empty(self.normalized_shape, device=device, dtype=dtype)) if there else None
            self.register_parameter(name, values)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets weights that change nothing: ones (zeros for contracts that add 1 to the weight), and no bias."""
        reset(self, self.weight, self.bias)

    def extra_repr(self) -> str:
        text = f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        if self.bias is not None:
            text += ", bias=True"
        return text + self._contract_repr(self._default_contract)


class FusedAddRMSNorm(_Affine):
    """Adds and normalises: ``forward(x, residual)`` → (y, sum), ``sum = x + residual`` and y its norm. Inputs are untouched.

        >>> import torch, isonorm.torch
        >>> y, total = isonorm.torch.FusedAddRMSNorm(2, eps=1e-6)(torch.ones(1, 2), torch.ones(1, 2))
        >>> total
        tensor([[2., 2.]], grad_fn=...)

    x, residual: [..., normalized_shape]. y has x's type and sum residual's, which may be wider. Both are differentiable.
    Constructor and errors as those of RMSNorm.
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
        super().__init__(normalized_shape, eps, elementwise_affine, False, device, dtype, contract)

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        y, total = rms_norm(
            x,
            self._parameter("weight"),
            eps=self._eps(x),
            contract=self.contract,
            residual=residual,
            normalized_shape=self.normalized_shape,
        )
        return y, total

    def _norm_inputs(self, x: Tensor, residual: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"": normalised(x, contract=self.contract, residual=residual)}


class GatedRMSNorm(_Affine):
    """A norm with a gate: ``forward(x, gate)`` is ``norm(x) * silu(gate)``, as Qwen3-Next has it, unless told.

        >>> import torch, isonorm.torch
        >>> isonorm.torch.GatedRMSNorm(8, contract="mamba2", groups=2)
        GatedRMSNorm((8,), eps=1e-06, elementwise_affine=True, groups=2, contract='mamba2')

    x, gate: [..., normalized_shape], both float32, bfloat16 or float16; float64 has no gate. y has x's type.
    contract: one with a gate_place; "mamba2" is ``norm(x * silu(gate))``. groups: of columns, normalised by themselves.
    eps: 1e-6, as in the classes of Hugging Face; None as in RMSNorm. Raises as RMSNorm does; ValueError for a contract without
    a gate, and for groups that do not divide the columns.
    """

    _default_contract = "qwen3_next_gated"
    _gated = True

    def __init__(
        self,
        normalized_shape: Shape,
        eps: Optional[float] = 1e-6,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        contract: ContractLike = "qwen3_next_gated",
        groups: int = 1,
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, False, device, dtype, contract)
        self.groups = _groups(groups, self.normalized_shape)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        y: Tensor = rms_norm(
            x,
            self._parameter("weight"),
            eps=self._eps(x),
            contract=self.contract,
            gate=gate,
            groups=self.groups,
            normalized_shape=self.normalized_shape,
        )
        return y

    def _norm_inputs(self, x: Tensor, gate: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"": normalised(x, contract=self.contract, gate=gate)}

    def extra_repr(self) -> str:
        text = f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        return text + (f", groups={self.groups}" if self.groups != 1 else "") + self._contract_repr(self._default_contract)


class GroupedRMSNorm(_Affine):
    """Groups of neighbouring columns, each normalised by itself, with one weight for all columns.

        >>> import torch, isonorm.torch
        >>> isonorm.torch.GroupedRMSNorm(8, groups=2)
        GroupedRMSNorm((8,), eps=None, elementwise_affine=True, groups=2)

    forward(x): [..., normalized_shape], whose size groups divides, → the same shape and type. The rest as in RMSNorm.
    Raises as RMSNorm does, and ValueError for other groups.
    """

    def __init__(
        self,
        normalized_shape: Shape,
        groups: int,
        eps: Optional[float] = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        contract: ContractLike = "torch",
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, False, device, dtype, contract)
        self.groups = _groups(groups, self.normalized_shape)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = rms_norm(
            x,
            self._parameter("weight"),
            eps=self._eps(x),
            contract=self.contract,
            groups=self.groups,
            normalized_shape=self.normalized_shape,
        )
        return y

    def extra_repr(self) -> str:
        return super().extra_repr() + f", groups={self.groups}"


def _groups(groups: int, shape: tuple[int, ...]) -> int:
    cols, groups = math.prod(shape), integer(groups, "groups")
    if groups < 1 or cols % groups != 0:
        raise ValueError(f"groups is {groups}, but has to divide the {cols} values of normalized_shape {shape}")
    return groups


class PartialRMSNorm(_Affine):
    """pRMSNorm of Zhang and Sennrich 2019: the RMS of the first ``int(p * cols)`` values scales the whole row.

        >>> import torch, isonorm.torch
        >>> isonorm.torch.PartialRMSNorm(64, p=0.25).window
        16

    p: over 0, at most 1; 1/16 is the paper's choice. eps: 1e-8, added to the root, as in the paper's code; None as in RMSNorm.
    bias: adds a learned bias, which the paper's code calls offset.
    forward(x): [..., normalized_shape] → the same shape and type. Raises as RMSNorm does, and ValueError for another p.
    """

    _default_contract = "paper"

    def __init__(
        self,
        normalized_shape: Shape,
        p: float = 0.0625,
        eps: Optional[float] = 1e-8,
        elementwise_affine: bool = True,
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        contract: ContractLike = "paper",
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, bias, device, dtype, contract)
        cols = math.prod(self.normalized_shape)
        p = real(p, "p")
        if not 0.0 < p <= 1.0 or int(p * cols) < 1:
            raise ValueError(f"p is {p}, but has to be at most 1 and to leave one value or more of {cols}")
        self.p = p
        self.window = int(p * cols)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = rms_norm(
            x,
            self._parameter("weight"),
            self._parameter("bias"),
            eps=self._eps(x),
            contract=self.contract,
            window=self.window,
            normalized_shape=self.normalized_shape,
        )
        return y

    def extra_repr(self) -> str:
        return super().extra_repr() + f", p={self.p}"


class QKNormRope(Norm):
    """Normalises the heads of q and k, each with a weight of its own, and rotates them (RoPE), in one call.

        >>> import torch, isonorm.torch
        >>> norm = isonorm.torch.QKNormRope(8)
        >>> q, k = torch.ones(2, 5, 4, 8), torch.ones(2, 5, 1, 8)
        >>> angles = torch.outer(torch.arange(5.0), torch.tensor([1.0, 0.1, 0.01, 0.001]))
        >>> q, k = norm(q, k, angles.cos(), angles.sin())
        >>> q.shape, k.shape
        (torch.Size([2, 5, 4, 8]), torch.Size([2, 5, 1, 8]))

    head_dim: size of the last axis of q and k. eps: 1e-6, as in Qwen3; None as in RMSNorm. contract: "llama", Qwen3's.
    position_axis: the axis of q and k that counts tokens: 1 for [batch, tokens, heads, head_dim], 2 for Hugging Face's
        [batch, heads, tokens, head_dim]. style: "half" or "interleaved", as in isonorm.torch.Rope.
    The parameters are q_weight and k_weight, [head_dim].

    forward(q, k, cos=None, sin=None, positions=None, position_offset=0) → (q, k), of their shapes and types. cos, sin: tables
    [positions, R / 2] (of one with every value twice, as Hugging Face makes it, the first half of each row); without them
    nothing is rotated. positions, position_offset, errors: as in isonorm.torch.Rope. Inputs are untouched.
    """

    q_weight: Optional[Parameter]
    k_weight: Optional[Parameter]

    def __init__(
        self,
        head_dim: int,
        eps: Optional[float] = 1e-6,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        contract: ContractLike = "llama",
        position_axis: int = 1,
        style: str = "half",
    ) -> None:
        super().__init__()
        self._set_contract(contract)
        if style not in ("half", "interleaved"):
            raise ValueError(f"style is {style!r}, but has to be 'half' or 'interleaved'")
        self.head_dim = head_dim = size_of(head_dim, "head_dim")
        check_optional_eps(eps)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.position_axis = position_axis
        self.style = style
        for name in ("q_weight", "k_weight"):
            values = Parameter(torch.empty(head_dim, device=device, dtype=dtype)) if elementwise_affine else None
            self.register_parameter(name, values)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets weights that change nothing: ones, or zeros for contracts that add 1 to them."""
        reset(self, self.q_weight)
        reset(self, self.k_weight)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        cos: Optional[Tensor] = None,
        sin: Optional[Tensor] = None,
        positions: Optional[Tensor] = None,
        position_offset: int = 0,
    ) -> tuple[Tensor, Tensor]:
        if (cos is None) != (sin is None):
            raise ValueError(f"{'cos' if cos is None else 'sin'} is None, but cos and sin have to be given together")
        rope = None
        if cos is not None and sin is not None:
            rope = Rope(cos, sin, positions, self.position_axis, position_offset, self.style)
        q_out, k_out = qk_norm(
            q,
            k,
            self._parameter("q_weight"),
            self._parameter("k_weight"),
            eps=self._eps(q),
            contract=self.contract,
            rope=rope,
        )
        return q_out, k_out

    def _norm_inputs(self, q: Tensor, k: Tensor, *rest: Any, **options: Any) -> dict[str, Tensor]:  # type: ignore[override]
        return {"q": q, "k": k}

    def extra_repr(self) -> str:
        text = f"{self.head_dim}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        return text + f", position_axis={self.position_axis}, style={self.style!r}" + self._contract_repr("llama")


class QuantizedRMSNorm(_Affine):
    """A norm whose result is int8 or an 8-bit float, for layers that multiply such; an inference module without gradients.

        >>> import torch, isonorm.torch
        >>> y, scale = isonorm.torch.QuantizedRMSNorm(4, "int8")(torch.tensor([[1.0, -2.0, 3.0, -4.0]]))
        >>> y
        tensor([[  32,  -64,   95, -127]], dtype=torch.int8)

    quantize: "int8", "float8_e4m3fn", "float8_e5m2", which take a dynamic scale for each row, or an isonorm.Quantization.
    forward(x, residual=None) → (y, scale), or with a residual (y, residual_out, scale) with residual_out = x + residual,
    which is what is normalised. scale: as isonorm.torch.rms_norm gives it; of a static scale the number as [1], float32.
    The weight does not require a gradient. Raises RuntimeError for inputs that do, while gradients are recorded. The rest of
    the constructor as in RMSNorm.
    """

    def __init__(
        self,
        normalized_shape: Shape,
        quantize: Union[str, Quantization],
        eps: Optional[float] = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        contract: ContractLike = "torch",
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, False, device, dtype, contract)
        if self.weight is not None:
            self.weight.requires_grad_(False)
        self.quantize = Quantization(quantize) if isinstance(quantize, str) else quantize
        if not isinstance(self.quantize, Quantization):
            raise TypeError(f"quantize is a {type(quantize).__name__}, but has to be a name or an isonorm.Quantization")

    def forward(self, x: Tensor, residual: Optional[Tensor] = None) -> tuple[Tensor, ...]:
        for name, tensor in (("x", x), ("residual", residual)):
            if getattr(tensor, "requires_grad", False) and torch.is_grad_enabled():
                raise RuntimeError(
                    f"{name} requires a gradient, which quantised results do not have: detach it or use torch.no_grad()"
                )
        weight = self._parameter("weight")
        result = rms_norm(
            x,
            None if weight is None else weight.detach(),
            eps=self._eps(x),
            contract=self.contract,
            residual=residual,
            quantize=self.quantize,
            normalized_shape=self.normalized_shape,
        )
        if isinstance(self.quantize.scale, str):
            return tuple(result)
        given = x.new_full((1,), self.quantize.scale, dtype=torch.float32)
        return (result, given) if residual is None else (*result, given)

    def _norm_inputs(self, x: Tensor, residual: Optional[Tensor] = None) -> dict[str, Tensor]:
        return {"": normalised(x, contract=self.contract, residual=residual)}

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, {self.quantize}, eps={self.eps}, elementwise_affine={self.elementwise_affine}" + (
            self._contract_repr(self._default_contract)
        )
