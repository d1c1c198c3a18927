"""Every norm of the process: ``enable()`` replaces torch's own kernels on the CPU, ``disable()`` gives them back.

    >>> import torch, isonorm.torch
    >>> x = torch.randn(2, 8)
    >>> with isonorm.torch.enabled():
    ...     y = torch.nn.functional.rms_norm(x, (8,), eps=1e-6)
    >>> torch.equal(y, isonorm.torch.rms_norm(x, eps=1e-6))
    True

Replaced are the kernels behind ``F.rms_norm`` and ``nn.RMSNorm`` (``aten::_fused_rms_norm`` and its backward), and
those behind ``F.layer_norm`` and ``nn.LayerNorm`` (``aten::native_layer_norm`` and its backward). Models, autograd's
formulas, double backward and ``torch.func`` stay as they are; forward gives the bits of `isonorm.torch.rms_norm` and
`isonorm.torch.layer_norm` with the same eps.

What stays torch's own, results included:

- under ``torch.compile`` with inductor, and in what was traced for any backend before ``enable()``: the compiler takes
  a norm apart before a kernel is looked for. To have isonorm there, call `isonorm.torch.rms_norm` or use the modules;
- ``torch.vmap``, which takes RMSNorm apart too; an x in channels_last; a weight of another type than x (RMSNorm; torch
  warns of it), also under autocast; complex numbers; an eps that is negative; tensors on other devices, meta and fake
  tensors;
- gradients in which a row's 1 / sqrt(mean(x²) + eps) is not from 2**-48 to 2**47, and with LayerNorm its mean not below
  2**96.

Gradients of LayerNorm: torch saves mean and rstd of f16 and bf16 rounded to 16 bits (f32 if the weight is f32), and its
backward gets no eps. So for these types they are as accurate as torch's own, but not bit for bit those of
`isonorm.torch.layer_norm`, whose backward has f32 statistics.

``torch.export`` keeps RMSNorm as one node of ``aten::_fused_rms_norm`` even after ``run_decompositions()``, as long as
there is a kernel for it: export before ``enable()`` where the graph may have core operators only.

A graph that was recorded while the kernels were replaced can be used afterwards, and the other way round. For that, as
torch has no kernel of ``_fused_rms_norm_backward`` on the CPU, isonorm's one stays once it is there; nothing else calls
it.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

import torch

from isonorm.torch import _library

__all__ = ["disable", "enable", "enabled"]

_FORWARD = {"rms_norm": "_fused_rms_norm", "layer_norm": "native_layer_norm"}
_SCHEMAS = {
    "_fused_rms_norm": "(Tensor input, int[] normalized_shape, Tensor? weight, float? eps) -> (Tensor, Tensor)",
    "_fused_rms_norm_backward": "(Tensor grad_out, Tensor input, int[] normalized_shape, Tensor rstd, Tensor? weight, "
    "bool[2] output_mask) -> (Tensor, Tensor)",
    "native_layer_norm": "(Tensor input, SymInt[] normalized_shape, Tensor? weight, Tensor? bias, float eps) -> "
    "(Tensor, Tensor, Tensor)",
    "native_layer_norm_backward": "(Tensor grad_out, Tensor input, SymInt[] normalized_shape, Tensor mean, Tensor rstd, "
    "Tensor? weight, Tensor? bias, bool[3] output_mask) -> (Tensor, Tensor, Tensor)",
}

_replace = _library.handle.isonorm_torch_replace
_replace.argtypes = (ctypes.c_char_p, ctypes.c_bool)
_replace.restype = ctypes.c_bool

_logger = logging.getLogger("isonorm")
_lock = threading.RLock()
_asked = {"rms_norm": False, "layer_norm": False}  # by enable()
_blocks = {"rms_norm": 0, "layer_norm": 0}  # that are inside of enabled()
_replaced: set[str] = set()  # operators
_torchs_own: dict[str, Callable[..., Any]] = {}
_fallbacks: list[torch.library.Library] = []


def enable(*, rms_norm: bool = True, layer_norm: bool = True) -> None:
    """Replaces torch's kernels of RMSNorm and LayerNorm, or of one of them, on the CPU, for the whole process.

    `isonorm.torch.override` lists what stays torch's own: what inductor compiles, mixed types, channels_last, other devices.
    What is not named stays as it is, and what is replaced already stays so. Switch while no other thread computes norms: torch
    does not guard its tables of kernels against that.

        >>> import torch, isonorm.torch
        >>> x = torch.randn(2, 8)
        >>> isonorm.torch.enable()
        >>> torch.equal(torch.nn.functional.rms_norm(x, (8,), eps=1e-6), isonorm.torch.rms_norm(x, eps=1e-6))
        True
        >>> isonorm.torch.disable()

    Raises RuntimeError if this torch does not let its kernels be replaced.
    """
    with _lock:
        _asked.update({name: True for name, wanted in (("rms_norm", rms_norm), ("layer_norm", layer_norm)) if wanted})
        _apply()


def disable() -> None:
    """Takes back every `enable`: torch's kernels are in their places again, but for a block of `enabled` that has not ended.

        >>> import isonorm.torch
        >>> isonorm.torch.enable()
        >>> isonorm.torch.disable()  # and nothing happens where nothing is enabled

    Raises as `enable` does.
    """
    with _lock:
        _asked.update(rms_norm=False, layer_norm=False)
        _apply()


@contextlib.contextmanager
def enabled(*, rms_norm: bool = True, layer_norm: bool = True) -> Iterator[None]:
    """Replaces torch's kernels, as `enable` does, until the block ends. Blocks may lie in each other, also in several threads:
    the kernels are replaced in the whole process until the last one ends.

        >>> import torch, isonorm.torch
        >>> with isonorm.torch.enabled():
        ...     y = torch.nn.LayerNorm(8)(torch.randn(2, 8))

    Raises as `enable` does.
    """
    names = [name for name, wanted in (("rms_norm", rms_norm), ("layer_norm", layer_norm)) if wanted]
    with _lock:
        for name in names:
            _blocks[name] += 1
        _apply()
    try:
        yield
    finally:
        with _lock:
            for name in names:
                _blocks[name] -= 1
            _apply()


def _apply() -> None:
    for name, forward in _FORWARD.items():
        wanted = _asked[name] or _blocks[name] > 0
        # A graph needs the backward as soon as there is a forward.
        for operator in (forward + "_backward", forward) if wanted else (forward, forward + "_backward"):
            _switch(operator, wanted)


def _switch(operator: str, on: bool) -> None:
    if on == (operator in _replaced):
        return
    name = f"aten::{operator}"
    if on:
        _keep(operator, name)
    elif operator not in _torchs_own:
        return  # graphs that need it may be alive, and torch has no other
    if not _replace(operator.encode(), on):
        raise RuntimeError(f"torch {torch.__version__} does not let its kernel of {name} be replaced")
    (_replaced.add if on else _replaced.remove)(operator)
    _logger.info("%s of CPU tensors is %s's now", name, "isonorm" if on else "torch")
    # What the dispatcher in Python remembers of the operator was found in the table as it was.
    getattr(torch.ops.aten, operator).default._dispatch_cache.clear()


def _keep(operator: str, name: str) -> None:
    """Finds what computes the operator so far, and lets the C++ kernel call it as an operator of isonorm's."""
    if torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, "CPU"):
        _torchs_own[operator] = torch.library.get_kernel(name, "CPU").call_boxed
    if not _fallbacks:
        create: Any = torch.library.Library  # which has no types
        library = create("isonorm", "FRAGMENT")
        for other, schema in _SCHEMAS.items():
            library.define(f"_torch_{other.lstrip('_')}{schema}")
            library.impl(f"_torch_{other.lstrip('_')}", _fallback(other), "CPU", with_keyset=True)
        _fallbacks.append(library)


def _fallback(operator: str) -> Callable[..., Any]:
    def call(keyset: torch._C.DispatchKeySet, *arguments: Any) -> Any:
        own = _torchs_own.get(operator)
        return own(keyset, *arguments) if own is not None else _rms_norm_backward(*arguments)

    return call


def _rms_norm_backward(
    dy: torch.Tensor,
    x: torch.Tensor,
    normalized_shape: Sequence[int],
    rstd: torch.Tensor,
    weight: Optional[torch.Tensor],
    output_mask: Sequence[bool],
) -> tuple[Optional[torch.Tensor], Optional[torch.Tensor]]:
    """The gradients of include/isonorm/isonorm.h by torch's operators, for rows that the C ABI would compute otherwise."""
    compute = rstd.dtype if weight is None else torch.promote_types(rstd.dtype, weight.dtype)
    axes = tuple(range(x.dim() - len(normalized_shape), x.dim()))
    r = rstd.to(compute)
    c = x.to(compute) * r
    g = dy.to(compute)
    dx = dweight = None
    if output_mask[0]:
        gw = g if weight is None else g * weight.to(compute)
        dx = (r * (gw - c * (gw * c).mean(axes, keepdim=True))).to(x.dtype)
    if output_mask[1] and weight is not None:
        dweight = (g * c).sum(tuple(range(axes[0]))) if axes[0] > 0 else g * c
        dweight = dweight.to(weight.dtype)
    return dx, dweight
