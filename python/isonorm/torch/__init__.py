"""RMSNorm and LayerNorm for PyTorch: functions here, modules that are drop-ins for torch's, and operators.

    >>> import torch, isonorm.torch
    >>> x = torch.tensor([[3.0, 4.0]])
    >>> isonorm.torch.rms_norm(x, eps=1e-6)
    tensor([[0.8485, 1.1314]])

The second argument of the functions is the weight, and not the normalized_shape of `torch.nn.functional.rms_norm`. They
compute on the CPU, with torch's own threads, and work under autograd, torch.compile, torch.export, torch.func and
checkpointing. `torch.ops.isonorm.rms_norm(x, weight=None, bias=None, *, eps, contract="torch")` is the operator for graphs of
your own; those whose names begin with an underscore, and those of gradients, are not for use elsewhere. `enable()`
replaces torch's own kernels of norms in the whole process.
"""

from isonorm.torch.functional import Rope, layer_norm, qk_norm, rms, rms_norm, rms_penalty
from isonorm.torch.fused import FusedAddRMSNorm, GatedRMSNorm, GroupedRMSNorm, PartialRMSNorm, QKNormRope, QuantizedRMSNorm
from isonorm.torch.gradients import double_backward, layer_norm_backward, rms_norm_backward
from isonorm.torch.modules import LayerNorm, RMSNorm
from isonorm.torch.override import disable, enable, enabled
from isonorm.torch.twins import GemmaRMSNorm, LlamaRMSNorm, T5RMSNorm
from isonorm.torch.watch import Watch, watch

__all__ = [
    "FusedAddRMSNorm",
    "GatedRMSNorm",
    "GemmaRMSNorm",
    "GroupedRMSNorm",
    "LayerNorm",
    "LlamaRMSNorm",
    "PartialRMSNorm",
    "QKNormRope",
    "QuantizedRMSNorm",
    "RMSNorm",
    "Rope",
    "T5RMSNorm",
    "Watch",
    "disable",
    "double_backward",
    "enable",
    "enabled",
    "layer_norm",
    "layer_norm_backward",
    "qk_norm",
    "rms",
    "rms_norm",
    "rms_norm_backward",
    "rms_penalty",
    "watch",
]
