"""The norm as a module of Flax Linen: `isonorm.jax.linen.RMSNorm`."""

from __future__ import annotations

from typing import Any, Optional

import jax.numpy as jnp
from flax import linen
from jax import Array

from isonorm._arrays import check_eps
from isonorm.contracts import ContractLike
from isonorm.jax import _flax
from isonorm.jax.functional import rms_norm

__all__ = ["RMSNorm"]


class RMSNorm(linen.RMSNorm):
    """A drop-in for `flax.linen.RMSNorm`, which it is a subclass of: the same fields, parameter and types of results.

        >>> import jax, jax.numpy as jnp, isonorm.jax.linen
        >>> norm = isonorm.jax.linen.RMSNorm()
        >>> variables = norm.init(jax.random.key(0), jnp.ones((2, 4)))
        >>> norm.apply(variables, jnp.ones((2, 4), jnp.bfloat16)).dtype, variables["params"]["scale"].shape
        (dtype('float32'), (4,))

    The fields are those of Flax's, such as epsilon, 1e-6, dtype, param_dtype and use_scale, and contract. use_fast_variance
    and force_float32_reductions choose between formulas of Flax and have no effect.
    contract: which roundings: a name or an isonorm.Contract without a gate. Contracts that add 1 to the weight begin with
    zeros. Checkpoints of either load into the other.

    apply(variables, x): x of [..., features] → the same shape. Raises ValueError for what this norm does not have: axis_name, a
    mask, feature_axes that are not reduction_axes; the rest as isonorm.jax.rms_norm does. The constructor raises for an epsilon that is
    none.
    """

    contract: ContractLike = "torch"

    def __post_init__(self) -> None:
        check_eps(self.epsilon, "epsilon")
        super().__post_init__()

    @linen.compact
    def __call__(self, x: Any, *, mask: Optional[Array] = None) -> Array:
        x = _flax.array_of(x)
        contract = _flax.contract_of(self.contract)
        axes = _flax.axes_of(self, x.ndim, mask)
        scale = None
        if self.use_scale:
            init = _flax.initializer(self.scale_init, contract, linen.initializers.ones)
            scale = self.param("scale", init, [x.shape[axis] for axis in axes], self.param_dtype)
        dtype = self.dtype or jnp.result_type(*(a for a in (x, scale) if a is not None))
        y: Array = rms_norm(x, scale, eps=self.epsilon, contract=contract, axis=axes, dtype=dtype)
        return y
