"""RMSNorm and LayerNorm for JAX: functions here, modules for Flax in `isonorm.jax.nnx` and `isonorm.jax.linen`.

    >>> import jax.numpy as jnp, isonorm.jax
    >>> isonorm.jax.rms_norm(jnp.array([[3.0, 4.0]]), eps=1e-6)
    Array([[0.8485281, 1.1313708]], dtype=float32)

They compute on the CPU, with XLA's own threads, and work under jax.jit, grad, jvp, vmap, scan, checkpoint, shard_map, and where
arrays are divided among devices.
"""

from isonorm.jax import _library  # noqa: F401  before all else: it says so where there is no JAX that will do
from isonorm.jax import parallel
from isonorm.jax._vectors import rms, rms_penalty
from isonorm.jax.functional import Rope, layer_norm, qk_norm, rms_norm

__all__ = ["Rope", "layer_norm", "parallel", "qk_norm", "rms", "rms_norm", "rms_penalty"]
