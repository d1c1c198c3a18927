"""Transformer blocks with RMSNorm and with LayerNorm: parameters, mean and RMS of what they give, and time.

A pre-norm block normalises what goes into attention and into the MLP, and adds what they give to the residual stream. You learn
how isonorm's modules take the place of torch's, what the choice of the norm changes (LayerNorm takes the mean of a row away and
has twice the parameters; RMSNorm leaves it), and what a norm costs.

The numbers are those of four small blocks; the time is that of one norm alone, on activations of a large model. Those are
32x512x4096 floats, 256 MiB a tensor: a fresh result of that size waits for the system to hand out its pages, which is part of
the time. Three GiB of memory will do.

pip install '.[torch]'   # in a checkout
python prenorm_blocks.py                        # half a minute
python prenorm_blocks.py --shape 8 512 4096
"""

import argparse
import math
import time
from collections.abc import Callable

import torch

import isonorm.torch

NORMS = (isonorm.torch.RMSNorm, torch.nn.RMSNorm, isonorm.torch.LayerNorm, torch.nn.LayerNorm)
WIDTH, HEADS, BLOCKS = 256, 4, 4
SHAPE = (32, 512, 4096)
Norm = Callable[[int], torch.nn.Module]


class Attention(torch.nn.Module):
    """Causal self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = torch.nn.Linear(width, 3 * width, bias=False)
        self.out = torch.nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, tokens, width))


class Block(torch.nn.Module):
    def __init__(self, width: int, heads: int, norm: Norm) -> None:
        super().__init__()
        self.attention_norm = norm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = norm(width)
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(width, 4 * width, bias=False), torch.nn.SiLU(), torch.nn.Linear(4 * width, width, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


def model(norm: Norm) -> torch.nn.Sequential:
    """Blocks and the norm behind the last one, with the same random weights whatever the norm."""
    torch.manual_seed(0)
    return torch.nn.Sequential(*(Block(WIDTH, HEADS, norm) for _ in range(BLOCKS)), norm(WIDTH))


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def mean_and_rms(norm: Norm) -> tuple[float, float]:
    """Of what the model gives for rows with a mean that is not zero."""
    torch.manual_seed(1)
    x = 1 + torch.randn(8, 64, WIDTH)
    with torch.no_grad():
        y = model(norm)(x)
    return y.mean().item(), y.square().mean().sqrt().item()


def milliseconds(call: Callable[[], object], times: int = 2) -> float:
    """The quickest of some calls, after one that is not counted."""
    call()
    best = math.inf
    for _ in range(times):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def time_norm(norm: Norm, x: torch.Tensor, dy: torch.Tensor) -> tuple[float, float]:
    """Forward without gradients, and forward with backward."""
    module = norm(x.shape[-1])

    def forward() -> None:
        with torch.no_grad():
            module(x)

    def forward_and_backward() -> None:
        torch.autograd.grad(module(x), (x, *module.parameters()), dy)

    return milliseconds(forward), milliseconds(forward_and_backward)


def main() -> None:
    parser = argparse.ArgumentParser(description="RMSNorm and LayerNorm in transformer blocks.")
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, metavar=("BATCH", "TOKENS", "WIDTH"))
    shape = parser.parse_args().shape
    x, dy = torch.randn(shape, requires_grad=True), torch.randn(shape)
    print(f"{BLOCKS} blocks of width {WIDTH}, then time of one norm on {'x'.join(map(str, shape))}, float32, ", end="")
    print(f"torch's threads: {torch.get_num_threads()}")
    print(f"{'norm':<20}{'parameters':>11}{'of norms':>10}{'mean':>8}{'RMS':>7}{'forward':>12}{'and backward':>15}")
    for norm in NORMS:
        whole = model(norm)
        of_norms = sum(parameters(module) for module in whole.modules() if isinstance(module, norm))
        mean, rms = mean_and_rms(norm)
        forward, backward = time_norm(norm, x, dy)
        name = f"{norm.__module__.split('.')[0]} {norm.__name__}"
        print(f"{name:<20}{parameters(whole):>11,}{of_norms:>10,}", end="")
        print(f"{round(mean, 2) + 0.0:>8.2f}{rms:>7.2f}{forward:>9.1f} ms{backward:>12.1f} ms")  # + 0.0 makes 0.00 of -0.00


if __name__ == "__main__":
    main()
