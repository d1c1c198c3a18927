"""A penalty that means the same at every width, beside L2, which does not.

Noisy rows are smoothed towards zero: the fit minimises mean((fit - noisy)^2) + penalty(fit). Which strength is best depends on
the noise. For lambda * rms(fit)^2 that is all: found once, at a width of 64, it is right at 4096. L2, lambda * sum(fit^2), adds
up more values in a wider row, so that the strength found at 64 crushes the rows of 4096.

pip install '.[torch]'   # in a checkout
python width_neutral_penalty.py
"""

from collections.abc import Callable

import torch

import isonorm.torch

WIDTHS = (64, 256, 1024, 4096)
ROWS = 128
NOISE = 0.4  # its RMS; that of the signal is 1
RMS_LAMBDA = NOISE**2  # the best one (Wiener's filter): the power of the noise by that of the signal
L2_LAMBDA = RMS_LAMBDA / WIDTHS[0]  # the same penalty at the first width

Penalty = Callable[[torch.Tensor], torch.Tensor]


def rms_penalty(fit: torch.Tensor) -> torch.Tensor:
    return isonorm.torch.rms_penalty(fit, RMS_LAMBDA)


def l2(fit: torch.Tensor) -> torch.Tensor:
    return L2_LAMBDA * fit.square().sum(-1)


def smooth(noisy: torch.Tensor, penalty: Penalty) -> torch.Tensor:
    """The rows that minimise the loss, found from zero."""
    fit = torch.zeros_like(noisy, requires_grad=True)
    optimizer = torch.optim.LBFGS([fit], max_iter=50)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = ((fit - noisy).square().mean(-1) + penalty(fit)).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return fit.detach()


def main() -> None:
    torch.manual_seed(0)
    print(f"{'':>5} | {'a row of ones costs':^20} | {'rms of the fit':^20} | {'error against signal':^20} |")
    print(f"{'width':>5} |" + f" {'rms_penalty':>11} {'L2':>8} |" * 3)
    for width in WIDTHS:
        signal, noise = (isonorm.torch.rms_norm(torch.randn(ROWS, width), eps=0) for _ in range(2))  # rows of RMS 1
        noisy = signal + NOISE * noise
        ones = torch.ones(1, width)
        fits = smooth(noisy, rms_penalty), smooth(noisy, l2)
        columns = (
            (rms_penalty(ones).item(), l2(ones).item()),
            [isonorm.torch.rms(fit).mean().item() for fit in fits],
            [isonorm.torch.rms(fit - signal).mean().item() for fit in fits],
        )
        print(f"{width:>5} |" + "".join(f" {a:>11.2f} {b:>8.2f} |" for a, b in columns))


if __name__ == "__main__":
    main()
