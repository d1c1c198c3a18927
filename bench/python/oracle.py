"""What the candidates of a row have to agree with: the formula in f64, and how far anyone may be from it.

Nothing is assumed about a candidate but that it computes in f32 and may store what it has after each operation in the type of
x. The longest chain of f32 operations on a value has one addition for each column (the mean), one for each row (dweight), and
fewer than 32 others; the longest chain of stores is that of dx = rstd * (dy * weight - x * rstd**2 * mean(dy * weight * x)),
written out in operators of eager torch: fewer than 16. An operation whose result is rounded has the relative error u of its
type; in a sum of terms that cancel, the error is relative to the sum of their sizes. So an output differs from the exact one by
at most

    size * ((1 + u32)**(cols + rows + 32) * (1 + ux)**16 - 1)

in which `size` is the formula with every term taken by its absolute value.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

import numpy as np

UNIT = {"f32": 2.0**-24, "bf16": 2.0**-8}


@dataclasses.dataclass(frozen=True)
class Exact:
    """Of one output: its values in f64, and the sizes of the terms that they are sums of."""

    name: str
    values: np.ndarray
    sizes: np.ndarray


def to_f64(array: Any) -> np.ndarray:
    """Of an array, a tensor, or an OrtValue."""
    if hasattr(array, "detach"):
        return array.detach().double().numpy()
    return np.asarray(array).astype(np.float64)


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(-1, keepdims=True)


def norm(
    x: np.ndarray, weight: np.ndarray, bias: Optional[np.ndarray], dy: Optional[np.ndarray], eps: float, layer: bool
) -> tuple[Exact, ...]:
    """y of RMSNorm or LayerNorm, and with dy also dx, dweight and, with a bias, dbias."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    mean = _mean(x) if layer else np.zeros(x.shape[:-1] + (1,))
    power = _mean(x * x)
    rstd = 1 / np.sqrt(power - mean * mean + eps)
    centred, size = (x - mean) * rstd, (np.abs(x) + (_mean(np.abs(x)) if layer else 0)) * rstd
    # A variance is a difference, whose error is relative to its terms.
    size = size * power * rstd * rstd
    shift = 0 if bias is None else bias.astype(np.float64)
    results = [Exact("y", centred * weight + shift, size * np.abs(weight) + np.abs(shift))]
    if dy is not None:
        dy = dy.astype(np.float64)
        g = dy * weight
        dx = rstd * (g - centred * _mean(g * centred) - (_mean(g) if layer else 0))
        grown = rstd * (np.abs(g) + size * _mean(np.abs(g) * size) + (_mean(np.abs(g)) if layer else 0))
        results.append(Exact("dx", dx, grown * power * rstd * rstd))
        results.append(Exact("dweight", (dy * centred).sum(0), (np.abs(dy) * size).sum(0)))
        if bias is not None:
            results.append(Exact("dbias", dy.sum(0), np.abs(dy).sum(0)))
    return tuple(results)


def disagreement(results: tuple[Any, ...], exact: tuple[Exact, ...], dtype: str) -> Optional[str]:
    """A sentence about the first output that is further away than it may be; None if there is none."""
    if len(results) != len(exact):
        return f"gives {len(results)} outputs, not {len(exact)}"
    rows, cols = exact[0].values.shape
    stores = 0 if dtype == "f32" else 16
    growth = (1 + UNIT["f32"]) ** (cols + rows + 32) * (1 + UNIT[dtype]) ** stores - 1
    for result, of in zip(results, exact):
        values = to_f64(result)
        if values.shape != of.values.shape:
            return f"gives {of.name} of shape {values.shape}, not {of.values.shape}"
        with np.errstate(divide="ignore", invalid="ignore"):
            share = float(np.max(np.abs(values - of.values) / (of.sizes * growth)))
        if not share <= 1:  # also for NaN
            return f"gives {of.name} {share:.3g} times as far from the exact one as its roundings can explain"
    return None
