"""Rows of isonorm.torch beside eager torch and torch.compile: forward, and forward with backward; outputs are allocated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import oracle
import torch
from race import Candidate
from rows import CASES, EPS, LARGE, MANY, ROW, TORCH, Against, Data, Row
from torch.nn import functional as F

import isonorm.torch

# At least so many times as fast as eager torch.
FORWARD_GOALS = {
    (ROW, "f32"): 8 / 3, (ROW, "bf16"): 8 / 3, (MANY, "f32"): 3, (MANY, "bf16"): 8, (LARGE, "f32"): 2.5, (LARGE, "bf16"): 7,
}  # fmt: skip
BACKWARD_GOALS = {(ROW, "f32"): 59 / 25, (ROW, "bf16"): 59 / 25, (LARGE, "f32"): 4, (LARGE, "bf16"): 10}
FRESH = 0.95  # the goal beside others whose outputs wait for the same pages


def tensor(array: Any, dtype: str, grad: bool = False) -> torch.Tensor:
    """A tensor of its own, with the bits of an array."""
    return torch.from_numpy(array.astype("float32")).to(TORCH[dtype]).clone().requires_grad_(grad)


def tensors(data: Data, dtype: str, grad: bool) -> dict[str, Any]:
    x, weight, bias = (tensor(array, dtype, grad) for array in (data.x, data.weight, data.bias))
    return {"x": x, "dy": tensor(data.dy, dtype), "weight": weight, "bias": bias, "cols": (x.shape[-1],), "eps": EPS}


def _torchs_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, x.shape[-1:], weight, EPS)


def compiled_norm(quick: bool) -> Callable[..., Any]:
    """By inductor, for one shape and number of threads. A quick run compiles nothing: what it checks is that graphs are made and
    that their numbers are right; rows whose small shapes are the same share a graph."""
    if quick:
        torch._dynamo.config.recompile_limit = 64
    else:
        torch._dynamo.reset()
    return torch.compile(_torchs_norm, dynamic=False, fullgraph=True, backend="aot_eager" if quick else "inductor")


def rms_norms(names: dict[str, Any], quick: bool) -> dict[str, tuple[str, dict[str, Any]]]:
    """Expressions of x and weight, and the names in them."""
    return {
        "isonorm": ("rms_norm(x, weight, eps=eps)", {**names, "rms_norm": isonorm.torch.rms_norm}),
        "torch": ("rms_norm(x, cols, weight, eps)", {**names, "rms_norm": F.rms_norm}),
        "torch.compile": ("rms_norm(x, weight)", {**names, "rms_norm": compiled_norm(quick)}),
        "F.rms_norm after enable()": ("rms_norm(x, cols, weight, eps)", {**names, "rms_norm": F.rms_norm}),
    }


class Nothing(torch.autograd.Function):
    """What autograd takes for any function written in Python."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors)


def layer_norms(names: dict[str, Any], quick: bool) -> dict[str, tuple[str, dict[str, Any]]]:
    """Expressions of x, weight and bias, and the names in them."""
    return {
        "isonorm": ("layer_norm(x, weight, bias, eps=eps)", {**names, "layer_norm": isonorm.torch.layer_norm}),
        "torch": ("layer_norm(x, cols, weight, bias, eps)", {**names, "layer_norm": F.layer_norm}),
        "F.layer_norm after enable()": ("layer_norm(x, cols, weight, bias, eps)", {**names, "layer_norm": F.layer_norm}),
    }


def _around(name: str) -> Any:
    return {"around": lambda: isonorm.torch.enabled()} if "enable()" in name else {}


def forward(norms: Callable[..., Any], dtype: str) -> Callable[[Data, bool], list[Candidate]]:
    def make(data: Data, quick: bool) -> list[Candidate]:
        calls = norms(tensors(data, dtype, False), quick)
        candidates = [Candidate(name, call, names, **_around(name)) for name, (call, names) in calls.items()]
        # What reads and writes as much, and computes nothing: no outputs to compare.
        return candidates if quick else [*candidates, Candidate("x.clone()", "x.clone()", candidates[0].names)]

    return make


def backward(norms: Callable[..., Any], dtype: str, inputs: tuple[str, ...]) -> Callable[[Data, bool], list[Candidate]]:
    reset = "".join(f"; {name}.grad = None" for name in inputs)

    def make(data: Data, quick: bool) -> list[Candidate]:
        candidates = []
        calls = norms(tensors(data, dtype, True), quick)
        for name, (call, names) in calls.items():

            def outputs(call: str = call, names: dict[str, Any] = names) -> tuple[Any, ...]:
                y = eval(call, dict(names))
                return (y, *torch.autograd.grad(y, [names[name] for name in inputs], names["dy"]))

            candidates.append(Candidate(name, f"{call}.backward(dy){reset}", names, outputs, **_around(name)))
        if not quick:  # it has no outputs to compare
            names = {**candidates[0].names, "nothing": Nothing.apply}
            candidates.append(Candidate("an empty autograd.Function", f"nothing(x, weight).backward(dy){reset}", names))
        return candidates

    return make


def exact(layer: bool, grad: bool) -> Callable[[Data], tuple[oracle.Exact, ...]]:
    return lambda data: oracle.norm(data.x, data.weight, data.bias if layer else None, data.dy if grad else None, EPS, layer)


def rows() -> list[Row]:
    table = []
    for threads, shape, dtype in CASES:
        against_compiled = Against("torch.compile", FRESH if shape == LARGE else 1)
        for name, goals, make, around in (
            ("forward", FORWARD_GOALS, forward(rms_norms, dtype), torch.no_grad),
            ("forward_backward", BACKWARD_GOALS, backward(rms_norms, dtype, ("x", "weight")), torch.enable_grad),
        ):
            against = (Against("torch", goals.get((shape, dtype))), against_compiled)
            of = exact(False, name == "forward_backward")
            table.append(Row(name, threads, shape, dtype, make, against, of, around))
    for threads, shape, dtype in CASES:
        if shape not in (ROW, MANY, LARGE):
            continue
        against = (Against("torch"),)
        make = forward(layer_norms, dtype)
        table.append(Row("layer_norm", threads, shape, dtype, make, against, exact(True, False), torch.no_grad))
        make = backward(layer_norms, dtype, ("x", "weight", "bias"))
        table.append(Row("layer_norm_backward", threads, shape, dtype, make, against, exact(True, True), torch.enable_grad))
    return table
