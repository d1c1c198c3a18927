"""What the norms of a model see: `with watch(model) as w:` records every norm of a forward pass under its module's name."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import threading
from collections.abc import Iterable
from typing import Any, Optional, Union

import torch
from torch import Tensor

import isonorm
from isonorm.torch.modules import Norm, machine_eps, normalised

# GroupNorm, BatchNorm and InstanceNorm do not normalise rows; a name alone is enough to look, since nothing is replaced.
_NAME = re.compile(r"(rms|layer|l2)_?norm(?!.*(linear|mlp|block))", re.IGNORECASE)
_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def watch(
    model: torch.nn.Module, *, eps: Optional[float] = None, keep: int = 1 << 20, progress: Optional[bool] = None
) -> Watch:
    """Records every norm of the forward passes inside a ``with`` block.

        >>> import torch, isonorm.torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8))
        >>> with isonorm.torch.watch(model) as w:
        ...     y = model(torch.randn(3, 4))
        >>> w.records[0]["module"], w.records[0]["class"], w.records[0]["shape"]
        ('1', 'LayerNorm', (3, 8))

    Norms are isonorm's modules, torch.nn.RMSNorm and LayerNorm, and any module whose class has RMSNorm or LayerNorm in its name
    or is known to isonorm.transformers; of a module that is made of such norms, these. Calls of functions are not seen.
    Forward pre-hooks look at inputs: nothing in the model is changed, results are the same bits, and the hooks go with the
    block, also after an exception. Compiled models run eagerly inside the block. Other devices' tensors are copied to the CPU.

    eps: for the comparison; None: each module's own, and 1e-6 where it has none.
    keep: how many values `Watch.html` may use of each norm: evenly spaced whole rows of its first call, all of them where they
        are few enough, copied in their own type. Memory is at most that for each norm (one row at least), beside one dict of
        numbers for each call; 0: none, and no `html`.
    progress: as in isonorm.compare and isonorm.write_report, which do the work.
    Raises TypeError if model is no torch.nn.Module, ValueError if there is no norm in it, or for a negative keep.
    """
    return Watch(model, eps=eps, keep=keep, progress=progress)


class Watch:
    """What `watch` returns; see there.

    records: a list of dicts, which pandas takes as they are, one for each call of a norm in order: "module", the name in the
        model (of QKNormRope "name.q" and "name.k"); "class"; "call", how often this module was called before; "shape" of its
        input; "eps"; and what isonorm.compare says of what is normalised, which is x + residual or x * f(gate) where a norm has
        those. A pass that checkpointing repeats inside the block is recorded again.
    skipped: (module, reason) for calls of which nothing could be recorded, such as empty or meta tensors.

        >>> import torch, isonorm.torch
        >>> isonorm.torch.Watch(torch.nn.RMSNorm(8))
        <watch: 1 norms, 0 records>

    Raises as `watch` does, and RuntimeError for a block within its own.
    """

    def __init__(
        self, model: torch.nn.Module, *, eps: Optional[float] = None, keep: int = 1 << 20, progress: Optional[bool] = None
    ) -> None:
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"model is a {type(model).__name__}, but has to be a torch.nn.Module")
        if keep < 0:
            raise ValueError(f"keep is {keep}, but has to be at least 0")
        self.records: list[dict[str, Any]] = []
        self.skipped: list[tuple[str, str]] = []
        self._modules = dict(_norms(model))
        if not self._modules:
            raise ValueError(
                "model has no norm: no module of isonorm or torch.nn, and no class with RMSNorm or LayerNorm in its name"
            )
        self._compiled = any(m._compiled_call_impl is not None or "_orig_mod" in m._modules for m in model.modules())
        self._eps = eps
        self._keep = keep
        self._progress = progress
        self._kept: dict[str, Tensor] = {}
        self._calls: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stack: Optional[contextlib.ExitStack] = None

    def __enter__(self) -> Watch:
        if self._stack is not None:
            raise RuntimeError("this watch is in a with block already")
        with contextlib.ExitStack() as stack:
            if self._compiled:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            for name, module in self._modules.items():
                handle = module.register_forward_pre_hook(self._hook(name), with_kwargs=True)
                stack.callback(handle.remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.close()

    def __repr__(self) -> str:
        return f"<watch: {len(self._modules)} norms, {len(self.records)} records>"

    def html(self, path: Union[str, os.PathLike[str]], *, overwrite: bool = False) -> None:
        """Writes the report of `isonorm stats` on the inputs of the norms, as one page that needs nothing else.

        It shows the first call of each norm, and of that the rows that `keep` allows. overwrite: an existing file may be
        replaced.
        Raises ValueError if nothing was recorded or keep is 0, and what isonorm.write_report raises.
        """
        if not self._kept:
            raise ValueError("keep is 0, so that no input was kept" if self._keep == 0 else "no call of a norm was recorded")
        named = {name or "(model)": rows for name, rows in self._kept.items()}
        eps = 1e-6 if self._eps is None else self._eps
        isonorm.write_report(path, named, eps=eps, overwrite=overwrite, progress=self._progress)

    def _hook(self, name: str) -> Any:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            with torch.no_grad(), self._lock:
                self._look(name, module, args, kwargs)

        return hook

    def _look(self, name: str, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = self._calls.get(name, 0)
        self._calls[name] = call + 1
        # A hook must not break the pass that it looks at: the module's own forward says better what is wrong with its input.
        try:
            inputs = _inputs(module, args, kwargs)
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            self.skipped.append((name, f"its input cannot be told: {error}"))
            return
        for part, (x, groups) in inputs.items():
            full = f"{name}.{part}" if part and name else part or name
            try:
                self._record(full, module, call, x, groups)
            except (RuntimeError, TypeError, ValueError) as error:
                self.skipped.append((full, str(error)))

    def _record(self, name: str, module: torch.nn.Module, call: int, x: Tensor, groups: int) -> None:
        if x.dtype not in _TYPES:
            raise TypeError(f"x is of {x.dtype}, which has no comparison")
        if x.numel() == 0 or x.is_meta:
            raise ValueError(f"x has shape {tuple(x.shape)} and no values")
        eps = _eps(module, x) if self._eps is None else self._eps
        rows = _rows(module, x, groups).cpu()
        record = {"module": name, "class": _class(module).__name__, "call": call, "shape": tuple(x.shape)}
        record["eps"] = eps
        self.records.append(record | isonorm.compare(rows, eps=eps, progress=self._progress))
        if self._keep and name not in self._kept:
            self._kept[name] = _sample(rows, self._keep)


def _norms(model: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Module]]:
    certain, likely = {}, {}
    for name, module in model.named_modules():
        if isinstance(module, (Norm, torch.nn.RMSNorm, torch.nn.LayerNorm)):
            certain[module] = name
        elif _NAME.search(_class(module).__name__) or _body(module) is not None:
            likely[module] = name
    for module, name in (certain | likely).items():
        parts = [part for part in module.modules() if part is not module and (part in certain or part in likely)]
        if module in certain or not parts:
            yield re.sub(r"\b_orig_mod(\.|$)", "", name).rstrip("."), module


@functools.cache
def _knowledge() -> Any:
    try:
        from isonorm.transformers import bodies, patched
    except ImportError:
        return None
    return bodies, patched


def _class(module: torch.nn.Module) -> type:
    """The class of a module, and of one that isonorm.transformers patched what it was."""
    known = _knowledge()
    return (known and known[1].original_class(type(module))) or type(module)


def _body(module: torch.nn.Module) -> Any:
    """What isonorm.transformers knows of the module's class, None if that is nothing."""
    known = _knowledge()
    cls = _class(module)
    if known is None or cls.__module__.startswith("torch."):
        return None
    body = known[0].body_of(cls)
    return None if isinstance(body, str) else body


def _inputs(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, tuple[Tensor, int]]:
    """What a module normalises and in how many groups, by names inside the module; "" is the only one."""
    if isinstance(module, Norm):
        groups = getattr(module, "groups", 1)
        return {part: (x, groups) for part, x in module._norm_inputs(*args, **kwargs).items()}
    body = _body(module)
    if body is not None and body.plan is not None:
        given = dict(zip(body.parameters, args)) | kwargs
        plan = body.plan(module, *(given[name] for name in body.parameters if name in given))
        if plan is not None:
            x = normalised(plan["x"], contract=plan["contract"], gate=plan.get("gate"))
            return {"": (x, plan.get("groups", 1))}
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            return {"": (value, 1)}
    raise TypeError("forward was given no tensor")


def _rows(module: torch.nn.Module, x: Tensor, groups: int) -> Tensor:
    """x as [rows, cols], where a row is what is normalised by itself."""
    x = x.detach()
    shape = getattr(module, "normalized_shape", None)
    if getattr(module, "data_format", None) == "channels_first":
        x = x.movedim(1, -1)
    if not isinstance(shape, (tuple, list)) or len(shape) > x.dim():
        shape = x.shape[-1:]
    cols = math.prod(x.shape[x.dim() - len(shape) :])
    return x.reshape(-1, cols // groups)


def _eps(module: torch.nn.Module, x: Tensor) -> float:
    for name in ("eps", "variance_epsilon", "epsilon"):
        value = getattr(module, name, None)
        if isinstance(value, (int, float)) and 0 <= value < math.inf:
            return float(value)
    return machine_eps(x) if isinstance(module, (Norm, torch.nn.RMSNorm)) else 1e-6


def _sample(rows: Tensor, keep: int) -> Tensor:
    count = rows.shape[0]
    wanted = max(1, min(count, keep // rows.shape[1]))
    if wanted == count:
        return rows.clone()
    return rows[torch.arange(wanted) * count // wanted]
