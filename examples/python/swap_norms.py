"""LayerNorm swapped for RMSNorm in a small trained model: what drifts, what the activation sees, and what quantising loses.

RMSNorm divides as LayerNorm does, and leaves the mean of a row where it is. In a model that was trained with LayerNorm rows
have a mean, since nothing told it not to. You learn to look at that with isonorm.stats: how large the mean is (drift), how
little of it GELU and SwiGLU see, and that some steps of training undo the harm. A mean costs more where the result is
quantised, since it uses up the range of the type; so does a channel of outliers, which neither norm takes away, in int8.

pip install '.[torch,bfloat16]'   # in a checkout
python swap_norms.py
"""

import copy

import numpy as np
import torch

import isonorm
import isonorm.torch

WIDTH, BLOCKS, EPS = 64, 4, 1e-5


class MLP(torch.nn.Module):
    def __init__(self, gated: bool) -> None:
        super().__init__()
        self.up = torch.nn.Linear(WIDTH, (4 if gated else 2) * WIDTH)
        self.down = torch.nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.up(x)
        if y.shape[-1] == self.down.in_features:
            return self.down(torch.nn.functional.gelu(y))
        gate, value = y.chunk(2, -1)
        return self.down(torch.nn.functional.silu(gate) * value)


class Model(torch.nn.Module):
    """Pre-norm blocks on a residual stream, from 16 numbers to one."""

    def __init__(self, gated: bool) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(16, WIDTH), torch.nn.Linear(WIDTH, 1)
        self.norms = torch.nn.ModuleList(isonorm.torch.LayerNorm(WIDTH, eps=EPS) for _ in range(BLOCKS + 1))
        self.mlps = torch.nn.ModuleList(MLP(gated) for _ in range(BLOCKS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for norm, mlp in zip(self.norms, self.mlps):
            x = x + mlp(norm(x))
        return self.last(self.norms[-1](x))[..., 0]


class RMSNorm(torch.nn.Module):
    """With the weight and the bias of a LayerNorm."""

    def __init__(self, norm: isonorm.torch.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return isonorm.torch.rms_norm(x, self.weight, self.bias, eps=EPS)


def swapped(model: Model) -> Model:
    model = copy.deepcopy(model)
    model.norms = torch.nn.ModuleList(RMSNorm(norm) for norm in model.norms)
    return model


def data(seed: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positive numbers, some of them large, and a function of them."""
    x = torch.empty(rows, 16).exponential_(generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] * x[:, 1]).sqrt() + torch.sin(2 * x[:, 2]) + (x[:, 3] > x[:, 4]) - x[:, 5:].amax(1) / 2


def train(model: Model, seeds: range, rate: float) -> Model:
    """On rows that are new in each step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for seed in seeds:
        x, y = data(seed, 128)
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    return model


@torch.no_grad()
def error(model: Model) -> float:
    """The mean square on rows that were never trained, by the variance of what is to be found."""
    x, y = data(0, 4096)
    return ((model(x) - y).square().mean() / y.var()).item()


def seen(model: Model) -> dict[str, torch.Tensor]:
    """What the last block's norm gets and gives, and what its activation sees, for those rows."""
    found: dict[str, torch.Tensor] = {}
    norm, up = model.norms[BLOCKS - 1], model.mlps[-1].up
    hooks = [
        norm.register_forward_hook(lambda _, inputs, y: found.update({"stream": inputs[0], "norm": y})),
        up.register_forward_hook(lambda _, inputs, y: found.update({"activation": y})),
    ]
    error(model)
    for hook in hooks:
        hook.remove()
    return found


def lost(dtype: str, norm: str, x: np.ndarray) -> float:
    """Of the median channel: the RMS of what quantising a norm's result loses, by that of what differs from a row's mean."""
    function = getattr(isonorm, norm)
    values, scale = function(x, eps=EPS, quantize=isonorm.Quantization(dtype))
    exact = function(x.astype(np.float64), eps=EPS)
    difference = values.astype(np.float64) * scale[:, None] - exact
    kept = exact - exact.mean(-1, keepdims=True)
    return float(np.median(isonorm.rms(difference.T.copy()) / isonorm.rms(kept.T.copy())))


def main() -> None:
    torch.set_num_threads(1)  # several would wait for each other for longer than these small layers take
    for name, gated in (("GELU", False), ("SwiGLU", True)):
        torch.manual_seed(0)
        model = train(Model(gated), range(1, 301), 3e-3)
        models = {"LayerNorm": model, "RMSNorm instead": swapped(model)}
        print(f"{name:<16}error   drift before and after the norm   mean and RMS of what {name} sees   worst channel")
        for words, each in models.items():
            stream, norm, activation = isonorm.stats(list(seen(each).values()))
            print(f"{words:<16}{error(each):>5.3f}{stream['drift']:>24.2f}{norm['drift']:>10.2f}", end="")
            print(f"{activation['mean']:>25.2f}{activation['rms']:>8.2f}{activation['channels_worst_factor']:>19.1f} x")
        for words, each in models.items():
            print(f"{words}, trained for 50 more steps: {error(train(each, range(301, 351), 1e-3)):.3f}")
        print()

    x = seen(model)["stream"].numpy()
    shifted, outlier = x + 4 * isonorm.rms(x)[:, None], x * np.where(np.arange(WIDTH) == 7, 30, 1).astype(np.float32)
    print(f"{'lost by quantising':<34}{'int8: RMSNorm':>14}{'LayerNorm':>11}{'e4m3: RMSNorm':>17}{'LayerNorm':>11}")
    for words, rows in (("that stream", x), ("with 4 times its RMS added", shifted), ("with one channel times 30", outlier)):
        columns = [lost(dtype, norm, rows) for dtype in ("int8", "float8_e4m3fn") for norm in ("rms_norm", "layer_norm")]
        print(f"{words:<34}" + "".join(f"{value:>{width}.1%}" for value, width in zip(columns, (14, 11, 17, 11))))


if __name__ == "__main__":
    main()
