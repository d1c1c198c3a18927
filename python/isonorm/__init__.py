"""RMSNorm and LayerNorm, forward and backward, with the same bits everywhere.

    >>> import numpy as np, isonorm
    >>> isonorm.rms_norm(np.array([[3.0, 4.0]], np.float32), eps=1e-6)
    array([[0.8485281, 1.1313708]], dtype=float32)

This module computes with arrays of NumPy. `isonorm.torch` has functions and modules for PyTorch, `isonorm.jax` for JAX,
`isonorm.keras` layers for Keras 3, `isonorm.transformers` patches models of Hugging Face; each is loaded only when it is
imported.
"""

import logging as _logging

from isonorm import _native, checkpoint, contracts, parallel
from isonorm._arrays import get_num_threads, set_num_threads
from isonorm._stats import compare, digest, stats, write_report
from isonorm.contracts import Contract
from isonorm.gradients import double_backward, layer_norm_backward, rms_norm_backward
from isonorm.info import kernels, last_kernel, set_target, target, targets
from isonorm.norm import Quantization, Rope, into, layer_norm, qk_norm, rms_norm
from isonorm.vectors import rms, rms_backward, rms_penalty

__version__: str = _native.version()

_logging.getLogger("isonorm").addHandler(_logging.NullHandler())

__all__ = [
    "Contract",
    "Quantization",
    "Rope",
    "checkpoint",
    "compare",
    "contracts",
    "digest",
    "double_backward",
    "get_num_threads",
    "into",
    "kernels",
    "last_kernel",
    "layer_norm",
    "layer_norm_backward",
    "parallel",
    "qk_norm",
    "rms",
    "rms_backward",
    "rms_norm",
    "rms_norm_backward",
    "rms_penalty",
    "set_num_threads",
    "set_target",
    "stats",
    "target",
    "targets",
    "write_report",
]
