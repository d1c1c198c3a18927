"""Plans for the norms that are PyTorch's own, and for LayerNorm: see plans.py, whose rules they follow."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from isonorm.transformers.plans import _KINDS, AS_X, EQUAL, Arguments, Plan, Types, _eps, _read, _result

# torch.nn.functional.layer_norm takes no other mixes.
_LAYER_NORM: Types = {**EQUAL, (torch.bfloat16, torch.float32): torch.bfloat16, (torch.float16, torch.float32): torch.float16}


def _rows(x: Any, shape: tuple[int, ...], eps: Any) -> bool:
    if not (_read(x) and x.dtype in _KINDS and x.numel() > 0 and x.dim() >= len(shape) and _eps(eps)):
        return False
    return bool(x.shape[-len(shape) :] == shape and x.stride(-1) == 1)


def _parameters(x: Tensor, types: Types, shape: tuple[int, ...], *parameters: Optional[Tensor]) -> bool:
    """Whether those parameters that there are have one type that goes with x's, and the normalised shape."""
    given = [parameter for parameter in parameters if parameter is not None]
    if not all(_read(parameter) and parameter.shape == shape and (x.dtype, parameter.dtype) in types for parameter in given):
        return False
    return len({parameter.dtype for parameter in given}) <= 1


def torch_rms_norm(module: Any, x: Any) -> Arguments:
    """torch.nn.RMSNorm: eps=None is that of float32 for 16-bit types too."""
    eps = torch.finfo(torch.float32).eps if module.eps is None else module.eps
    shape = module.normalized_shape
    if not _rows(x, shape, eps) or not _parameters(x, EQUAL, shape, module.weight):
        return None
    return {"x": x, "weight": module.weight, "eps": eps, "contract": "torch", "normalized_shape": shape}


def _layer_norm(x: Any, shape: Any, weight: Optional[Tensor], bias: Optional[Tensor], eps: Any, types: Types) -> Arguments:
    if not _rows(x, shape, eps) or not _parameters(x, types, shape, weight, bias):
        return None
    return {"x": x, "weight": weight, "bias": bias, "eps": eps, "normalized_shape": shape}


def layer_norm(module: Any, x: Any) -> Arguments:
    """torch.nn.LayerNorm."""
    return _layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps, _LAYER_NORM)


def layer_norm_float(module: Any, x: Any) -> Arguments:
    """LayerNorm of x as float32, with parameters that are; rounded to x's type."""
    types = {(kind, torch.float32): kind for kind in _KINDS}
    return _layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps, types)


def olmo(module: Any, x: Any) -> Arguments:
    """Olmo: LayerNorm without parameters, its eps written into the body."""
    return _layer_norm(x, module.normalized_shape, None, None, 1e-5, EQUAL)


def offset_layer_norm(module: Any, x: Any) -> Arguments:
    """VideoPrism: times 1 + weight, which is rounded to the weight's type."""
    if not _rows(x, module.normalized_shape, module.eps) or not _read(module.weight):
        return None
    return _layer_norm(x, module.normalized_shape, module.weight + 1.0, module.bias, module.eps, _LAYER_NORM)


def channels(only_first: bool) -> Plan:
    """ConvNeXt, EoMT: LayerNorm of the channels of an image, which are its second axis or its last."""

    def plan(module: Any, image: Any) -> Arguments:
        if only_first or module.data_format == "channels_first":
            if not isinstance(image, Tensor) or image.dim() != 4:
                return None
            call = layer_norm(module, image.permute(0, 2, 3, 1))
            return None if call is None else {**call, "channels_first": True}
        return layer_norm(module, image)

    return plan


def cohere(module: Any, x: Any) -> Arguments:
    """Cohere: LayerNorm of the last axis in float32, times the weight; a weight for each head is left to the module."""
    eps, weight = module.variance_epsilon, module.weight
    if not _rows(x, x.shape[-1:] if isinstance(x, Tensor) else (), eps) or not x.is_contiguous():
        return None
    dtype = _result(x, weight, AS_X)
    return None if dtype is None else {"x": x, "weight": weight, "eps": eps}
