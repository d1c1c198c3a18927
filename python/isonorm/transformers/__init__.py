"""Models of Hugging Face and of your own with isonorm's norms, by one line:

    >>> import torch, isonorm.transformers
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.RMSNorm(8))
    >>> print(isonorm.transformers.patch(model))
    module  number  class    contract  result
    1       1       RMSNorm  torch     swapped
    1 swapped, 0 skipped
    >>> isonorm.transformers.unpatch(model)
    1

A norm is swapped only if the source of its class is known, so that the numbers stay those of its own contract. What is known
was read in the library `transformers` from 4.41 on, which is not imported here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Union

from torch import nn

from isonorm.transformers.bodies import Body, body_of
from isonorm.transformers.patched import original_class, patched_class, shares
from isonorm.transformers.report import Report, Row

__all__ = ["Report", "Row", "patch", "unpatch"]

_logger = logging.getLogger("isonorm")


def patch(model: nn.Module, *, layer_norm: bool = True, dry_run: bool = False) -> Report:
    """Swaps every norm of a model whose source is known for the contract that is exactly its own.

        >>> import torch, isonorm.transformers
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.RMSNorm(8), torch.nn.LayerNorm(8))
        >>> report = isonorm.transformers.patch(model, dry_run=True)
        >>> len(report), report.swapped[0].name, report.swapped[1].contract
        (2, '1', 'layer_norm')

    A module stays the same object, with a subclass of its class: names of parameters, hooks, attributes, isinstance, saving and
    loading, copying, pickling, generate and torch.compile are as before. It computes by isonorm on a CPU, in float32, bfloat16
    and float16 and their mixes; anything else runs the module's own forward: another device, float64, a subclass of Tensor, a
    call that would raise. The type of a result is always that of the module's own forward, and so is its order in memory.

    layer_norm: swaps LayerNorm too, PyTorch's and those known of `transformers`; False leaves them as they are.
    dry_run: changes nothing; the report says what would be swapped.

    Returns a Report: print it. Skipped are norms whose source is unknown (an altered copy, a newer version), whose forward was
    replaced by another package (kernels, accelerate, Liger), that are parametrized, and those that compute what no contract is.
    Raises TypeError if model is no torch.nn.Module.
    """
    _check(model)
    bodies: dict[type, Union[Body, str]] = {}
    rows, swaps = [], []
    for name, module in model.named_modules():
        cls = type(module)
        original = original_class(cls)
        if original is not None:
            rows.append(Row(name, original.__name__, cls._isonorm_contract, "patched already"))
            continue
        if cls.__module__.startswith("isonorm."):
            continue
        if cls not in bodies:
            bodies[cls] = body_of(cls)
        body = bodies[cls]
        if isinstance(body, str):
            if _is_like_a_norm(module):
                rows.append(Row(name, cls.__name__, "", body))
            continue
        reason = _obstacle(module, body, layer_norm)
        rows.append(Row(name, cls.__name__, body.contract, reason))
        if not reason:
            swaps.append((module, patched_class(cls, body)))
    if not dry_run:
        for module, made in swaps:
            module.__class__ = made
    report = Report(tuple(rows), dry_run)
    _logger.info("patch:\n%s", report)
    return report


def unpatch(model: nn.Module) -> int:
    """Gives every patched module its class back; returns their number.

        >>> import torch, isonorm.transformers
        >>> isonorm.transformers.unpatch(torch.nn.RMSNorm(8))
        0

    Raises TypeError if model is no torch.nn.Module, and RuntimeError, before anything is changed, for one whose gradients
    `isonorm.torch.parallel.share_gradients` has made those of all replicas: DistributedDataParallel leaves them alone.
    """
    _check(model)
    for name, module in model.named_modules():
        if shares(type(module)):
            raise RuntimeError(
                f"{name or type(module).__name__} shares its gradients by isonorm.torch.parallel.share_gradients, and would have "
                "those of this process alone: unpatch the model before, or build it again"
            )
    patched = list(_patched(model))
    for module, cls in patched:
        module.__class__ = cls
    _logger.info("unpatch: %d modules have their classes back", len(patched))
    return len(patched)


def _patched(model: nn.Module) -> Iterator[tuple[nn.Module, type]]:
    for module in model.modules():
        cls = original_class(type(module))
        if cls is not None:
            yield module, cls


def _check(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, but has to be a torch.nn.Module")


def _obstacle(module: nn.Module, body: Body, layer_norm: bool) -> str:
    """Why a module of a known body is skipped, empty if it is not."""
    if body.plan is None:
        return body.reason
    if "forward" in module.__dict__:
        return "its forward was replaced by another package"
    if "parametrizations" in module._modules:
        return "it is parametrized"
    if body.layer_norm and not layer_norm:
        return "LayerNorm stays, by layer_norm=False"
    return (body.check(module) or "") if body.check else ""


def _is_like_a_norm(module: nn.Module) -> bool:
    # A parametrized module has a class that torch made of its own.
    parametrized = "parametrizations" in module._modules
    cls = type(module).__bases__[0] if parametrized else type(module)
    if cls.__module__.startswith("torch."):
        return False
    if "norm" in cls.__name__.lower() and len(module._modules) == parametrized:
        return True
    methods = (found.__code__.co_names for found in vars(cls).values() if hasattr(found, "__code__"))
    return any("rsqrt" in names or {"F", "rms_norm"} <= set(names) for names in methods)
