"""How each known body is computed: plans that say what isonorm.torch.rms_norm has to be called with.

A plan takes the module and what its forward was given, and returns keyword arguments, or None where this call has to be left to
the module's own forward: another device, a float64, a type or an attribute whose result we do not have bit by bit in the same
contract. It never changes the type of a result: that is the type that the module's own forward gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Optional

import torch
from torch import Tensor, nn

from isonorm.contracts import Contract, ContractLike

Arguments = Optional[dict[str, Any]]
Plan = Callable[..., Arguments]
Types = dict[tuple[torch.dtype, torch.dtype], torch.dtype]

# float64 is missing: the known bodies compute it in float32, and our kernels do not.
_KINDS = (torch.float32, torch.bfloat16, torch.float16)
_PAIRS = [(x, weight) for x in _KINDS for weight in _KINDS]
# The type of a result for the types of (x, weight).
PROMOTED: Types = {pair: torch.promote_types(*pair) for pair in _PAIRS}
AS_X: Types = {pair: pair[0] for pair in _PAIRS}
AS_WEIGHT: Types = {pair: pair[1] for pair in _PAIRS}
EQUAL: Types = {(kind, kind): kind for kind in _KINDS}

_TENSORS = (Tensor, nn.Parameter)
_STRIDED = torch.strided
GATES = {"silu": "silu", "swish": "silu", "sigmoid": "sigmoid"}


def _read(tensor: Any) -> bool:
    """Whether it is memory that our kernels can read, and nothing that only looks like a tensor."""
    return type(tensor) in _TENSORS and tensor.is_cpu and tensor.layout is torch.strided and not tensor.is_nested


def _eps(value: Any) -> bool:
    return type(value) in (float, int) and 0 <= value < math.inf


def _row(x: Any, eps: Any, groups: int = 1) -> bool:
    if not (_read(x) and x.dtype in _KINDS and x.dim() > 0 and x.size(-1) > 0 and _eps(eps)):
        return False
    # The result of the known bodies lies in memory as x does, which `patched` can give for these.
    return x.is_contiguous() or groups == 1 and x.stride(-1) == 1 and 0 not in x.stride()


def _result(x: Tensor, weight: Any, types: Types) -> Optional[torch.dtype]:
    """The type of y; None where the weight is not one value for each column, or of a type that leaves us."""
    if not _read(weight) or weight.dim() != 1 or weight.size(0) != x.size(-1):
        return None
    return types.get((x.dtype, weight.dtype))


def _groups(x: Any, size: Any) -> Optional[int]:
    """How many groups of that size a row has, None if it cannot be cut into such."""
    if not isinstance(x, Tensor) or x.dim() == 0 or type(size) is not int or size <= 0 or x.size(-1) % size != 0:
        return None
    return x.size(-1) // size


def _call(x: Tensor, weight: Any, eps: float, contract: ContractLike, dtype: torch.dtype, **more: Any) -> Arguments:
    if dtype is not x.dtype:  # a call without it is the shortest
        more["dtype"] = dtype
    return {"x": x, "weight": weight, "eps": eps, "contract": contract, **more}


def weighted(contract: ContractLike, types: Types, eps_name: str) -> Plan:
    """Norms of a row and a weight; `types` says of which type the result is."""

    def plan(module: Any, x: Any) -> Arguments:
        own = module.__dict__
        eps, weight = own.get(eps_name), own["_parameters"].get("weight")
        if (  # what most calls are, in less time
            type(x) is Tensor
            and type(weight) is nn.Parameter
            and type(eps) is float
            and x.dtype is weight.dtype
            and x.dtype in _KINDS
            and x.is_cpu
            and weight.is_cpu
            and x.layout is weight.layout is _STRIDED
            and not x.is_nested
            and x.shape[-1:] == weight.shape
            and x.numel() > 0
            and x.is_contiguous()
            and 0.0 <= eps < math.inf
            and "weight" not in own
        ):
            return {"x": x, "weight": weight, "eps": eps, "contract": contract}
        eps, weight = getattr(module, eps_name), module.weight
        if not _row(x, eps):
            return None
        dtype = _result(x, weight, types)
        return None if dtype is None else _call(x, weight, eps, contract, dtype)

    return plan


def weightless(kinds: tuple[torch.dtype, ...] = _KINDS) -> Plan:
    """Norms without a weight, rounded once, to x's type."""

    def plan(module: Any, x: Any) -> Arguments:
        return _call(x, None, module.eps, "torch", x.dtype) if _row(x, module.eps) and x.dtype in kinds else None

    return plan


_weighted_torch = weighted("torch", AS_X, "eps")
_weightless = weightless()


def optional_weight(module: Any, x: Any) -> Arguments:
    """Gemma4: with_scale says whether there is a weight."""
    return _weighted_torch(module, x) if module.with_scale else _weightless(module, x)


def centred(module: Any, x: Any) -> Arguments:
    """MuseSpark: 1 + weight is rounded to the weight's type, before it is widened."""
    if not _row(x, module.eps) or _result(x, module.weight, AS_X) is None:
        return None
    return _call(x, 1.0 + module.weight, module.eps, "torch", x.dtype)


def input_scaled(module: Any, x: Any) -> Arguments:
    """MuseSpark: what is normalised is x (1 + weight), stored as x is."""
    if not _row(x, module.eps) or _result(x, module.weight, AS_X) is None:
        return None
    return _call((x.float() * (1.0 + module.weight).float()).type_as(x), None, module.eps, "torch", x.dtype)


def grouped_gemma(module: Any, x: Any) -> Arguments:
    """Qwen4: group_size columns are normalised by themselves."""
    groups = 1 if module.group_size is None else _groups(x, module.group_size)
    if groups is None or x.numel() == 0 or not _row(x, module.eps, groups):
        return None
    dtype = _result(x, module.weight, AS_X)
    return None if dtype is None else _call(x, module.weight, module.eps, "gemma", dtype, groups=groups)


def xlstm(module: Any, x: Any) -> Arguments:
    """xLSTM: rounded to x's type, then times the weight. Its bias is added after a rounding that no contract has."""
    if module.bias is not None or not _row(x, module.eps):
        return None
    if not module.force_float32_reductions and x.dtype != torch.float32:
        return None
    if module.weight is None:
        return _call(x, None, module.eps, "torch", x.dtype)
    dtype = _result(x, module.weight, PROMOTED)
    return None if dtype is None else _call(x, module.weight, module.eps, "llama", dtype)


def _gate(x: Tensor, gate: Any) -> bool:
    return _read(gate) and gate.dtype in _KINDS and gate.shape == x.shape


def gate_before(module: Any, x: Any, gate: Any = None) -> Arguments:
    """Mamba2: x silu(gate), groups, rounded to x's type, then times the weight."""
    groups = _groups(x, module.group_size)
    if groups is None or not _row(x, module.variance_epsilon, groups) or not (gate is None or _gate(x, gate)):
        return None
    return _mamba2(module, x, gate, groups)


def gate_before_ungrouped(module: Any, x: Any, gate: Any = None) -> Arguments:
    """Mamba2 before it had groups."""
    if not _row(x, module.variance_epsilon) or not (gate is None or _gate(x, gate)):
        return None
    return _mamba2(module, x, gate, 1)


def _mamba2(module: Any, x: Tensor, gate: Any, groups: int) -> Arguments:
    dtype = _result(x, module.weight, PROMOTED)
    if dtype is None:
        return None
    contract = "llama" if gate is None else "mamba2"
    return _call(x, module.weight, module.variance_epsilon, contract, dtype, gate=gate, groups=groups)


def gate_after(contracts: dict[str, Contract], activation: Optional[str] = None) -> Plan:
    """Qwen3-Next and Kimi: the result of a norm times silu or sigmoid of the gate; None: as module.activation says."""

    def plan(module: Any, x: Any, gate: Any = None) -> Arguments:
        contract = contracts.get(GATES.get(activation or module.activation, ""))
        if contract is None or not _row(x, module.variance_epsilon) or not _gate(x, gate):
            return None
        dtype = _result(x, module.weight, AS_X)
        return None if dtype is None else _call(x, module.weight, module.variance_epsilon, contract, dtype, gate=gate)

    return plan


def falcon(before: Contract, after: Contract, squeezes: bool = False) -> Plan:
    """Falcon-H1: n_groups, and a gate on either side; the weight multiplies in float32. squeezes: an only token's axis goes."""

    def plan(module: Any, x: Any, gate: Any = None) -> Arguments:
        groups = module.n_groups
        if type(groups) is not int or groups < 1 or not _row(x, module.variance_epsilon, groups):
            return None
        if x.dim() not in (2, 3) or x.size(-1) % groups != 0 or not (gate is None or _gate(x, gate)):
            return None
        if squeezes and x.dim() == 3 and x.size(1) == 1:
            return None
        dtype = _result(x, module.weight, AS_X)
        if dtype is None:
            return None
        contract: ContractLike = "torch" if gate is None else after if module.norm_before_gate else before
        return _call(x, module.weight, module.variance_epsilon, contract, dtype, gate=gate, groups=groups)

    return plan
