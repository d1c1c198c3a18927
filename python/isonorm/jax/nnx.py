"""The norm as a module of Flax NNX: `isonorm.jax.nnx.RMSNorm`."""

from __future__ import annotations

from typing import Any, Optional

import jax.numpy as jnp
from flax import nnx
from jax import Array

from isonorm._arrays import check_eps, size_of
from isonorm.contracts import ContractLike
from isonorm.jax import _flax
from isonorm.jax.functional import rms_norm

__all__ = ["RMSNorm"]


class RMSNorm(nnx.RMSNorm):
    """A drop-in for `flax.nnx.RMSNorm`, which it is a subclass of: the same constructor, parameter and types of results.

        >>> import jax.numpy as jnp, flax.nnx, isonorm.jax.nnx
        >>> norm = isonorm.jax.nnx.RMSNorm(4, rngs=flax.nnx.Rngs(0))
        >>> norm(jnp.ones((2, 4), jnp.bfloat16)).dtype, norm.scale.shape
        (dtype('float32'), (4,))

    options: the other arguments of Flax's constructor, such as epsilon, 1e-6, dtype, param_dtype, use_scale, and rngs, which is
    needed. use_fast_variance chooses between formulas of Flax and has no effect.
    contract: which roundings: a name or an isonorm.Contract without a gate. Contracts that add 1 to the weight begin with
    zeros. Checkpoints of either load into the other.

    norm(x): [..., num_features] → the same shape. Raises ValueError for what this norm does not have: axis_name, a mask,
    feature_axes that are not reduction_axes; the rest as isonorm.jax.rms_norm does. The constructor raises for a num_features or an
    epsilon that is none.
    """

    def __init__(self, num_features: int, *, contract: ContractLike = "torch", **options: Any) -> None:
        size_of(num_features, "num_features")
        check_eps(options.get("epsilon", 1e-6), "epsilon")
        ones = nnx.initializers.ones
        options["scale_init"] = _flax.initializer(options.get("scale_init", ones), _flax.contract_of(contract), ones)
        self.contract = contract
        super().__init__(num_features, **options)

    def __call__(self, x: Any, mask: Optional[Array] = None) -> Array:
        x = _flax.array_of(x)
        axes = _flax.axes_of(self, x.ndim, mask)
        scale = None if self.scale is None else self.scale[...]
        if hasattr(self, "promote_dtype"):  # of flax 0.12
            x, scale = self.promote_dtype((x, scale), dtype=self.dtype)
        dtype = self.dtype or jnp.result_type(*(a for a in (x, scale) if a is not None))
        y: Array = rms_norm(x, scale, eps=self.epsilon, contract=self.contract, axis=axes, dtype=dtype)
        return y
