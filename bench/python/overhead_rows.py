"""Rows of what Python costs: a call above C's, a module above its function, and of what fresh memory costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch_rows
from c_call import CCall
from race import Candidate
from rows import EPS, LARGE, MORE, NUMPY, ROW, Against, Data, Row
from torch.nn import functional as F

import isonorm
import isonorm.torch


def numpy_call(data: Data, quick: bool) -> list[Candidate]:
    y = np.zeros_like(data.x)
    call = CCall(data.x, data.weight, y, EPS)
    names = {"x": data.x, "weight": data.weight, "y": y, "eps": EPS, "rms_norm": isonorm.rms_norm}
    c, e, a = call.arguments
    names.update(run=call.run, empty=call.empty, c=c, e=e, a=a, call=call)
    # Both have what ctypes costs: once in the C call, and once in the other one's empty call.
    return [
        Candidate(
            "isonorm and an empty call by ctypes", "rms_norm(x, weight, eps=eps, out=y); empty(c, e, a)", names, lambda: (y,)
        ),
        Candidate("C by ctypes", "run(c, e, a)", names, lambda: (y,)),
    ]


def modules(dtype: str, grad: bool) -> Any:
    """The same call with the parameters of a module, and by the module."""

    def make(data: Data, quick: bool) -> list[Candidate]:
        names = torch_rows.tensors(data, dtype, grad)
        norm = isonorm.torch.RMSNorm(names["cols"], eps=EPS, dtype=names["x"].dtype)
        theirs = torch.nn.RMSNorm(names["cols"], eps=EPS, dtype=names["x"].dtype)
        with torch.no_grad():
            norm.weight.copy_(names["weight"])
            theirs.weight.copy_(names["weight"])
        names.update(norm=norm, theirs=theirs, weight=norm.weight, rms_norm=isonorm.torch.rms_norm, f=F.rms_norm)
        after = ".backward(dy); x.grad = weight.grad = theirs.weight.grad = None" if grad else ""
        calls = {
            "module": "norm(x)",
            "function": "rms_norm(x, weight, eps=eps)",
            "nn.RMSNorm": "theirs(x)",
            "F.rms_norm": "f(x, cols, weight, eps)",
        }
        return [
            Candidate(name, call + after, names, lambda call=call: (eval(call, dict(names)),)) for name, call in calls.items()
        ]

    return make


def memory(dtype: str) -> Any:
    """One norm into memory from different places."""

    def make(data: Data, quick: bool) -> list[Candidate]:
        names = torch_rows.tensors(data, dtype, False)
        arrays = {"a": data.x, "w": data.weight, "out": np.zeros_like(data.x)}
        names.update(arrays, numpy_norm=isonorm.rms_norm, torch_norm=isonorm.torch.rms_norm, into=isonorm.into)
        names.update(empty_like=torch.empty_like)
        return [
            Candidate("out=", "numpy_norm(a, w, eps=eps, out=out)", names, lambda: (arrays["out"],)),
            Candidate("isonorm's", "numpy_norm(a, w, eps=eps)", names),
            Candidate("isonorm.torch's", "torch_norm(x, weight, eps=eps)", names),
            Candidate("torch's", "into(empty_like(x), x, weight, eps=eps)", names),
        ]

    return make


def rows() -> list[Row]:
    exact = torch_rows.exact(False, False)
    table = [Row("numpy_call", 1, ROW, dtype, numpy_call, (Against("C by ctypes", 1.2, MORE),), exact) for dtype in NUMPY]
    for name, grad, around, there in (
        ("module", False, torch.no_grad, 8),
        ("module_backward", True, torch.enable_grad, 59),
    ):
        against = (Against("function", 1.5, MORE, ("F.rms_norm", there)),)
        table += [Row(name, 1, ROW, dtype, modules(dtype, grad), against, exact, around) for dtype in NUMPY]
    for threads in (1, 2):
        against = (Against("isonorm's"), Against("isonorm.torch's"), Against("torch's"))
        table += [Row("memory", threads, LARGE, dtype, memory(dtype), against, exact, torch.no_grad) for dtype in NUMPY]
    return table
