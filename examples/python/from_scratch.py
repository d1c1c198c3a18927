"""The RMSNorm that every tutorial writes, beside isonorm: where the two agree, and where the one from scratch fails.

You learn what a norm computes, forward and backward, and what its formula leaves open: how large a square may get, in which
type the sum is taken, and in which order. In ordinary rows both are as accurate as float32 can be. Their bits are not the same,
and neither is more right; isonorm's are the same on every machine.

pip install '.[bfloat16]'   # in a checkout
python from_scratch.py
"""

import ml_dtypes
import numpy as np

import isonorm

EPS = 1e-6


class RMSNorm:
    """y = x / rms(x) * weight, as in the paper (Zhang and Sennrich 2019), and its gradients."""

    def __init__(self, weight: np.ndarray, eps: float = EPS) -> None:
        self.weight = weight
        self.eps = eps

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        self.rms = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + self.eps)
        return x / self.rms * self.weight

    def backward(self, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        normalised = self.x / self.rms
        g = dy * self.weight
        dx = (g - normalised * np.mean(g * normalised, axis=-1, keepdims=True)) / self.rms
        return dx, np.sum(dy * normalised, axis=0)


def error(y: np.ndarray, exact: np.ndarray) -> float:
    """The largest difference, measured by the largest value."""
    return float(np.abs(y - exact).max() / np.abs(exact).max())


def random_rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, dy and weight in float32."""
    random = np.random.default_rng(0)
    x, dy = random.standard_normal((2, 64, 1024), np.float32)
    return x, dy, 1 + np.float32(0.1) * random.standard_normal(1024, np.float32)


def errors(x: np.ndarray, dy: np.ndarray, weight: np.ndarray) -> dict[str, tuple[float, float]]:
    """Of y, dx and dweight: from scratch and of isonorm, against the formula in float64."""
    scratch = RMSNorm(weight)
    mine = (scratch.forward(x), *scratch.backward(dy))
    own = (isonorm.rms_norm(x, weight, eps=EPS), *isonorm.rms_norm_backward(dy, x, weight, eps=EPS))
    wide = RMSNorm(weight.astype(np.float64))
    exact = (wide.forward(x.astype(np.float64)), *wide.backward(dy.astype(np.float64)))
    return {name: (error(a, e), error(b, e)) for name, a, b, e in zip(("y", "dx", "dweight"), mine, own, exact)}


def same_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a.view(np.int32) == b.view(np.int32)


def show(what: str, x: np.ndarray, eps: float = EPS) -> None:
    """The first two values of the norm of one row."""
    with np.errstate(all="ignore"):  # NumPy would warn: what goes wrong here is the point
        mine = RMSNorm(np.ones(x.size, x.dtype), eps).forward(x)
    y = isonorm.rms_norm(x, eps=eps)
    columns = (" ".join(f"{float(value):.4f}" for value in values[:2]) for values in (mine, y))
    print(f"{what:<36}{'{:>16}{:>16}'.format(*columns)}")


def main() -> None:
    x, dy, weight = random_rows()
    print(f"{'ordinary rows, float32, error of':<36}{'from scratch':>16}{'isonorm':>16}")
    for name, pair in errors(x, dy, weight).items():
        print(f"{name:<36}{pair[0]:>16.1e}{pair[1]:>16.1e}")

    print(f"\n{'rows that are not ordinary':<36}{'from scratch':>16}{'isonorm':>16}")
    # float32 ends at 3.4e38, so that the square of 1.9e19 is infinite, and x / infinity is 0; squares of 1e-23 vanish.
    show("3e19 4e19 in float32", np.array([3e19, 4e19], np.float32))
    show("3e-30 4e-30 in float32, eps=0", np.array([3e-30, 4e-30], np.float32), eps=0)
    # float16 ends at 65504: 256 is too large to be squared.
    show("300 400 in float16", np.array([300, 400], np.float16))
    # A sum in bfloat16 ends at 256, since 256 + 1 has nine bits, one more than there are.
    show("4096 ones in bfloat16", np.ones(4096, ml_dtypes.bfloat16))

    # np.ones(d), as tutorials write it, is of float64, and so becomes all that it multiplies.
    ones = np.ones(1024)
    print(f"{'type with np.ones(d) for a weight':<36}", end="")
    print(f"{RMSNorm(ones).forward(x).dtype.name:>16}{isonorm.rms_norm(x, ones, eps=EPS).dtype.name:>16}")

    # The formula does not say in which order squares are added. NumPy's order depends on the layout of x, on the CPU and on
    # the version of NumPy, and each order has its own last bits; isonorm defines one.
    mine, y = RMSNorm(weight).forward(x), isonorm.rms_norm(x, weight, eps=EPS)
    columns = np.asfortranarray(x)  # the same values, the columns of which lie side by side
    kept = (
        same_bits(mine, RMSNorm(weight).forward(columns)).all(),
        same_bits(y, isonorm.rms_norm(columns, weight, eps=EPS)).all(),
    )
    print(f"{'same bits of rows stored by columns':<36}{str(kept[0]):>16}{str(kept[1]):>16}")
    print(f"\nOf the values in float32, {same_bits(mine, y).mean():.0%} have the same bits from scratch and by isonorm.")


if __name__ == "__main__":
    main()
