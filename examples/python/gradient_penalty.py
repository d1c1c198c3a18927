"""A gradient penalty, which needs the gradient of a gradient, through isonorm.torch.RMSNorm.

R1 (Mescheder, Geiger and Nowozin 2018) keeps the critic of a GAN smooth where the real data are: to its loss one adds
gamma / 2 times the mean of |d critic / d x|^2 over real points x. You learn how that is written (create_graph=True), and see
what it does: without it, the critic's gradient grows as long as it is trained; with it, it stays small.

pip install '.[torch]'   # in a checkout
python gradient_penalty.py
"""

import torch

import isonorm.torch

GAMMA = 1.0
STEPS = 200


def critic(norm: type[torch.nn.Module] = isonorm.torch.RMSNorm, width: int = 32) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(2, width),
        torch.nn.SiLU(),
        norm(width, eps=1e-6),
        torch.nn.Linear(width, width),
        torch.nn.SiLU(),
        norm(width, eps=1e-6),
        torch.nn.Linear(width, 1),
    )


def r1_penalty(critic: torch.nn.Module, real: torch.Tensor) -> torch.Tensor:
    """The mean over real points of |d critic / d x|^2, differentiable with respect to the critic's parameters."""
    real = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(real).sum(), real, create_graph=True)
    return slope.square().sum(-1).mean()


def points() -> tuple[torch.Tensor, torch.Tensor]:
    """Real points in a cloud on the right, and false ones, which a generator would make, in one on the left."""
    torch.manual_seed(4)
    right = torch.tensor([1.0, 0.0])
    return right + 0.5 * torch.randn(256, 2), -right + 0.5 * torch.randn(256, 2)


def train(model: torch.nn.Module, real: torch.Tensor, false: torch.Tensor, gamma: float) -> list[tuple[float, float]]:
    """The loss without the penalty, and the mean of |d critic / d x|^2, at each quarter of the way."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    records = []
    for step in range(STEPS + 1):
        loss = (torch.nn.functional.softplus(-model(real)) + torch.nn.functional.softplus(model(false))).mean()
        penalty = r1_penalty(model, real)
        if step % (STEPS // 4) == 0:
            records.append((loss.item(), penalty.item()))
        optimizer.zero_grad()
        (loss + gamma / 2 * penalty).backward()  # the gradient of a gradient
        optimizer.step()
    return records


def main(norm: type[torch.nn.Module] = isonorm.torch.RMSNorm, dtype: torch.dtype = torch.float32) -> None:
    """Prints the table, which torch's own norm and float64 do not change."""
    torch.set_num_threads(1)  # several would spend more time on waiting for each other than these small layers take
    real, false = (x.to(dtype) for x in points())
    without, with_penalty = (train(critic(norm).to(dtype), real, false, gamma) for gamma in (0.0, GAMMA))
    print("      |  without a penalty  |     with R1")
    print(" step |    loss  |slope|^2  |    loss  |slope|^2")
    for i, (a, b) in enumerate(zip(without, with_penalty)):
        print(f"{i * STEPS // 4:>5} |{a[0]:>8.2f}{a[1]:>11.2f}  |{b[0]:>8.2f}{b[1]:>11.2f}")


if __name__ == "__main__":
    main()
