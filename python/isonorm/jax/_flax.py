"""What the modules for Flax share."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from isonorm._arrays import check_real
from isonorm.contracts import Contract, ContractLike, resolve


def array_of(x: Any) -> Any:
    """What Flax's own norms take: whatever JAX makes an array of."""
    check_real(x, "x")
    return jnp.asarray(x)


def contract_of(contract: ContractLike) -> Contract:
    found = resolve(contract)
    if found.statistic != "rms":
        raise ValueError(f"contract {contract!r} does not belong to RMSNorm: its statistic is {found.statistic!r}")
    if found.gate_place != "none":
        raise ValueError(f"contract {contract!r} has a gate: use isonorm.jax.rms_norm")
    return found


def initializer(given: Any, contract: Contract, ones: Any) -> Any:
    """Of a weight that changes nothing: zeros instead of Flax's default where the contract adds 1 to it."""

    def constant(key: Any, shape: Any, dtype: Any = jnp.float32) -> Any:
        return jnp.full(shape, 1.0 - contract.weight_offset, dtype)

    return constant if given is ones and contract.weight_offset else given


def axes_of(module: Any, ndim: int, mask: Any) -> tuple[int, ...]:
    """The axes that are normalised, once nothing is asked for that this norm does not have."""
    if mask is not None:
        raise ValueError("mask is given, but a row is normalised as a whole: use flax's own RMSNorm")
    for name in ("axis_name", "axis_index_groups"):
        if getattr(module, name) is not None:
            raise ValueError(f"{name} is {getattr(module, name)!r}, but a row lies on one device: use flax's own RMSNorm")
    axes = []
    for given in (module.reduction_axes, module.feature_axes):
        numbers = tuple(given) if isinstance(given, (tuple, list)) else (given,)
        axes.append(tuple(sorted(number % ndim if ndim else number for number in numbers)))
    if axes[0] != axes[1]:
        raise ValueError(
            f"feature_axes is {module.feature_axes}, but has to name the same axes as reduction_axes, {module.reduction_axes}"
        )
    return axes[0]
