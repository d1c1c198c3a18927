"""The short way for a few rows: tensors are read by DLPack's C exchange API, without torch's dispatcher.

Between the layers of a model the dispatcher's code is cold, and takes several times as long as the row. Nothing but speed
depends on this way: what is out of the ordinary goes by the operators, which compute the same bits."""

from __future__ import annotations

from typing import Callable

import torch
from torch.autograd import forward_ad

from isonorm import _native

compiling: Callable[[], bool] = torch.compiler.is_compiling
_C = torch._C
_exchange = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
if _exchange is not None:
    _native.attach_torch(torch.Tensor, torch.nn.Parameter, _exchange, torch.empty_like)

_transforms: Callable[[], bool] = _C._are_functorch_transforms_active
_dispatch_modes: Callable[[], int] = _C._len_torch_dispatch_stack
_function_modes: Callable[[], int] = _C._len_torch_function_stack
_trace: Callable[[], object] = _C._get_tracing_state
_profiling: Callable[[], bool] = torch.autograd._profiler_enabled  # type: ignore[attr-defined]

# None where a tensor is not ordinary, and for whatever is wrong: then nothing has been done.
forward = _native.tensor_forward
backward = _native.tensor_backward


def tracing() -> bool:
    """Whether torch.jit.trace records operators."""
    return _trace() is not None


def untransformed() -> bool:
    """Whether no transform of torch.func is active, and no forward mode."""
    return not _transforms() and forward_ad._current_level < 0


def unwatched() -> bool:
    """Whether nobody has to see operators: no mode, no trace, no profiler."""
    return not (_dispatch_modes() or _function_modes() or _profiling() or tracing())
