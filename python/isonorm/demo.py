"""What isonorm promises, shown in some seconds: ``python -m isonorm demo``."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import time
from typing import Any, Callable

import numpy as np

import isonorm

ROWS, COLS = 512, 4096
CONTRACTS = ("torch", "llama", "gemma")


def _heading(text: str) -> None:
    bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    print(f"\n\033[1m{text}\033[0m" if bold else f"\n{text}")


def _half() -> tuple[str, Any]:
    """The type of 16 bits that NumPy has here."""
    try:
        import ml_dtypes
    except ImportError:
        return "float16", np.float16
    return "bfloat16", ml_dtypes.bfloat16


def activations() -> tuple[np.ndarray, np.ndarray]:
    """Rows as transformers have them, of random numbers: a mean that is not zero, and a few channels that are much larger."""
    random = np.random.default_rng(12)
    x = random.standard_normal((ROWS, COLS), np.float32)
    x += np.float32(0.2)
    x[:, random.choice(COLS, 6, replace=False)] *= np.float32(40)
    return x, 1 + np.float32(0.1) * random.standard_normal(COLS, np.float32)


def _check(kept: bool) -> str:
    return "the same bits" if kept else "OTHER BITS"


def same_bits(x: np.ndarray, weight: np.ndarray) -> bool:
    """Rows alone, in a batch, by every number of threads, on every instruction set. True: all of them agree."""
    _heading("The same bits, however a row is computed")
    all_kept = True

    def show(what: str, y: np.ndarray) -> None:
        nonlocal all_kept
        found = isonorm.digest(y)
        all_kept = all_kept and found == expected
        print(f"  {what:<44} {found}  {_check(found == expected)}")

    def normalise(x: np.ndarray, threads: int = 1) -> np.ndarray:
        return np.asarray(isonorm.rms_norm(x, weight, eps=1e-6, threads=threads))

    expected = isonorm.digest(normalise(x))
    show(f"{ROWS} rows of {COLS} in one call", normalise(x))
    show("each row alone", np.stack([normalise(row) for row in x]))
    show("in batches of 7", np.concatenate([normalise(x[i : i + 7]) for i in range(0, ROWS, 7)]))
    for threads in (2, 5):
        show(f"by at most {threads} threads", normalise(x, threads))
    chosen = isonorm.target()
    try:
        for target in isonorm.targets():
            isonorm.set_target(target)
            show(f"with the instructions of {target}", normalise(x))
    finally:
        isonorm.set_target(chosen)
    return all_kept


def contracts(x: np.ndarray, weight: np.ndarray) -> None:
    """In how many values the contracts differ."""
    name, dtype = _half()
    _heading(f"What the frameworks call RMSNorm differs: {name}, share of the values with other bits")
    x, weight = x[:64].astype(dtype), weight.astype(dtype)
    bits = {c: isonorm.rms_norm(x, weight, eps=1e-6, contract=c).view(np.uint16) for c in CONTRACTS}
    print("  " + " " * 8 + "".join(f"{c:>10}" for c in CONTRACTS))
    for a in CONTRACTS:
        print(f"  {a:<8}" + "".join(f"{np.mean(bits[a] != bits[b]):>10.2%}" for b in CONTRACTS))
    print("  (gemma multiplies by 1 + weight; llama rounds before the weight, torch after it)")


def norms(x: np.ndarray) -> None:
    """LayerNorm against RMSNorm."""
    found = isonorm.compare(x)
    _heading("LayerNorm against RMSNorm on these rows")
    print(f"  {'':<12}{'mean':>10}{'std':>10}")
    for label, key in (("input", ""), ("RMSNorm", "rms_norm_"), ("LayerNorm", "layer_norm_")):
        mean, std = (round(found[key + name], 5) + 0.0 for name in ("mean", "std"))  # no -0.00000
        print(f"  {label:<12}{mean:>10.5f}{std:>10.5f}")
    print(f"  cosine between the two: {found['cosine_mean']:.5f} on average, {found['cosine_min']:.5f} at least")


def _milliseconds(call: Callable[[], Any], seconds: float = 0.4) -> float:
    """The best of all calls in that time, which the machine's other work disturbs least."""
    call()
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def speed(x: np.ndarray, weight: np.ndarray) -> None:
    """Beside NumPy's expression and, if torch is installed, its F.rms_norm."""
    _heading(f"One thread, float32, {ROWS} rows of {COLS}, a fresh output each time")
    results = {
        "isonorm": _milliseconds(lambda: isonorm.rms_norm(x, weight, eps=1e-6, threads=1)),
        "NumPy": _milliseconds(lambda: x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(1e-6)) * weight),
    }
    if importlib.util.find_spec("torch") is None:
        print("  (torch is not installed)")
    else:
        import torch

        threads, tensors = torch.get_num_threads(), (torch.from_numpy(x), torch.from_numpy(weight))
        torch.set_num_threads(1)
        with torch.no_grad():
            results["torch"] = _milliseconds(lambda: torch.nn.functional.rms_norm(tensors[0], (COLS,), tensors[1], 1e-6))
        torch.set_num_threads(threads)
    for label, milliseconds in results.items():
        times = "" if label == "isonorm" else f"  {milliseconds / results['isonorm']:.1f} times as long"
        print(f"  {label:<10}{milliseconds:>8.2f} ms{times}")


def run() -> int:
    """Prints all of it. Returns the exit code: 1 if bits differ that must not."""
    x, weight = activations()
    print(f"isonorm {isonorm.__version__}, {isonorm.target()}, on random numbers shaped like a transformer's activations")
    kept = same_bits(x, weight)
    contracts(x, weight)
    norms(x)
    speed(x, weight)
    return 0 if kept else 1
