"""Rows of isonorm beside ONNX Runtime and NumPy: into memory that is there, and allocating."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch_rows
from onnx_norm import OnnxNorm
from race import Candidate
from rows import CASES, EPS, LARGE, Against, Data, Row

import isonorm


def plain_numpy(x: np.ndarray, weight: np.ndarray, out: np.ndarray) -> np.ndarray:
    """As one writes it: in f32, with a temporary array for the squares."""
    wide = x.astype(np.float32, copy=False)
    scale = 1 / np.sqrt(np.mean(np.square(wide), axis=-1, keepdims=True) + EPS)
    y = out if out.dtype == np.float32 else np.empty(out.shape, np.float32)
    np.multiply(wide, scale, out=y)
    np.multiply(y, weight, out=y)
    if y is not out:
        out[...] = y
    return out


def given(dtype: str, threads: int) -> Callable[[Data, bool], list[Candidate]]:
    def make(data: Data, quick: bool) -> list[Candidate]:
        candidates = []
        onnx = OnnxNorm(data.x, data.weight, dtype, EPS, threads)
        for name, statement, function in (
            ("isonorm", "rms_norm(x, weight, eps=eps, out=y)", isonorm.rms_norm),
            ("ONNX Runtime", "run(bound)", onnx.session.run_with_iobinding),
            ("NumPy", "plain_numpy(x, weight, y)", plain_numpy),
        ):
            y = np.zeros_like(data.x)
            names = {"x": data.x, "weight": data.weight, "eps": EPS, "y": y, "rms_norm": function, "run": function}
            names.update(plain_numpy=function, bound=onnx.bound(y))
            candidates.append(Candidate(name, statement, names, lambda y=y: (y,)))
        return candidates

    return make


def allocating(dtype: str, threads: int) -> Callable[[Data, bool], list[Candidate]]:
    def make(data: Data, quick: bool) -> list[Candidate]:
        onnx = OnnxNorm(data.x, data.weight, dtype, EPS, threads)
        names = {"x": data.x, "weight": data.weight, "eps": EPS, "np": np, "onnx": onnx}
        names.update(
            rms_norm=isonorm.rms_norm, plain_numpy=plain_numpy, session=onnx.session, feeds=onnx.feeds, values=onnx.values
        )
        run_values = "session.run_with_ort_values(None, values)"
        candidates = [
            Candidate("isonorm", "rms_norm(x, weight, eps=eps)", names),
            Candidate("ONNX Runtime, OrtValue", run_values, names, lambda: (onnx.allocating(),)),
        ]
        if dtype == "f32":  # run() takes arrays of NumPy's own types only
            run = "session.run(None, feeds)"
            candidates.append(Candidate("ONNX Runtime, run()", run, names, lambda: tuple(onnx.session.run(None, onnx.feeds))))
        return [*candidates, Candidate("NumPy", "plain_numpy(x, weight, np.empty_like(x))", names)]

    return make


def rows() -> list[Row]:
    table = []
    for threads, shape, dtype in CASES:
        exact = torch_rows.exact(False, False)
        against = (Against("ONNX Runtime", 1), Against("NumPy"))
        table.append(Row("numpy_out", threads, shape, dtype, given(dtype, threads), against, exact))
        goal = torch_rows.FRESH if shape == LARGE else 1
        against = (Against("ONNX Runtime, OrtValue", goal), Against("ONNX Runtime, run()", goal), Against("NumPy"))
        table.append(Row("numpy_allocating", threads, shape, dtype, allocating(dtype, threads), against, exact))
    return table
