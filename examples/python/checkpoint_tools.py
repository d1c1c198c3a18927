"""Weights rewritten so that a model computes the same with less: LayerNorm becomes RMSNorm, and the weights of norms vanish.

LayerNorm takes the mean of a row away. Where nothing that is added to the residual stream has a mean, there is none to take
away, and LayerNorm is RMSNorm: so isonorm.checkpoint.recenter takes the mean out of embeddings, and out of what attention and
MLP add. isonorm.checkpoint.fold multiplies a norm's weight into the linear layers that read it. Both are exact in real numbers.
You see how far logits move, as each new weight is rounded once, beside a bound: the sum over all new weights of 2^-24 |weight|
|derivative of the logit by it|, twice, since that is only the first order of what happens.

pip install '.[torch]'   # in a checkout
python checkpoint_tools.py
"""

import torch

import isonorm.torch
from isonorm import checkpoint

WIDTH, VOCABULARY, BLOCKS, EPS = 32, 24, 2, 1e-5
TOKENS = torch.arange(1, 9)
WRITERS = {
    "rows": ["embed.weight", "place.weight", "blocks.*.attention.out_proj.bias", "blocks.*.down.bias"],
    "linear": ["blocks.*.attention.out_proj.weight", "blocks.*.down.weight"],
}


class RMSNorm(torch.nn.Module):
    """With a bias, as LayerNorm has it."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.bias = torch.nn.Parameter(torch.ones(width)), torch.nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return isonorm.torch.rms_norm(x, self.weight, self.bias, eps=self.eps)


class Block(torch.nn.Module):
    def __init__(self, norm: type[torch.nn.Module]) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = norm(WIDTH, eps=EPS), norm(WIDTH, eps=EPS)
        self.qkv, self.up = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, 4 * WIDTH)
        self.attention = torch.nn.ModuleDict({"out_proj": torch.nn.Linear(WIDTH, WIDTH)})
        self.down = torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.attention_norm(x)).chunk(3, -1)
        x = x + self.attention["out_proj"](torch.nn.functional.scaled_dot_product_attention(q[None], k[None], v[None])[0])
        return x + self.down(torch.nn.functional.gelu(self.up(self.mlp_norm(x))))


class Model(torch.nn.Module):
    def __init__(self, norm: type[torch.nn.Module]) -> None:
        super().__init__()
        self.embed, self.place = torch.nn.Embedding(VOCABULARY, WIDTH), torch.nn.Embedding(TOKENS.numel(), WIDTH)
        self.blocks, self.norm = torch.nn.ModuleList(Block(norm) for _ in range(BLOCKS)), norm(WIDTH, eps=EPS)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.place.weight
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def random_model() -> Model:
    """With LayerNorm, and with weights and biases as if it had been trained."""
    torch.manual_seed(0)
    model = Model(isonorm.torch.LayerNorm)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.1, 0.3)
    return model


def loaded(tensors: dict[str, torch.Tensor], norm: type[torch.nn.Module]) -> Model:
    """These weights, in a model that computes in float64 so that nothing else is rounded."""
    model = Model(norm).double()
    model.load_state_dict(tensors)
    return model


def moved(old: Model, new: Model) -> tuple[float, float]:
    """Of the logits of the last token: the largest difference, and the smallest bound."""
    rounded = {
        name: weight
        for name, weight in new.named_parameters()
        if "norm." not in name and not torch.equal(weight, old.get_parameter(name))  # ones and zeros are exact
    }
    differences, bounds = (new(TOKENS)[-1] - old(TOKENS)[-1]).abs().tolist(), []
    for logit in new(TOKENS)[-1]:
        slopes = torch.autograd.grad(logit, rounded.values(), retain_graph=True) if rounded else ()
        bounds.append(2 * 2**-24 * sum((slope * weight).abs().sum().item() for slope, weight in zip(slopes, rounded.values())))
    return max(differences), min(bounds)


def report(what: str, old: Model, new: Model) -> None:
    difference, bound = moved(old, new)
    print(f"{what:<44}{difference:>12.0e}{bound:>10.0e}   {'within' if difference <= bound else 'beyond'}")


def main() -> None:
    tensors = random_model().state_dict()
    old = loaded(tensors, isonorm.torch.LayerNorm)
    print(f"{'':<44}{'logit moved':>12}{'bound':>10}")
    report("RMSNorm in place of LayerNorm, nothing else", old, loaded(tensors, RMSNorm))

    centred = checkpoint.recenter(tensors, **WRITERS, head="head.weight")
    report("and the weights recentred", old, loaded(centred, RMSNorm))

    folded = checkpoint.fold(centred, norm="blocks.*.attention_norm.weight", linear="blocks.*.qkv.weight")
    folded = checkpoint.fold(folded, norm="blocks.*.mlp_norm.weight", linear="blocks.*.up.weight")
    report("and the norms folded into what reads them", loaded(centred, RMSNorm), loaded(folded, RMSNorm))
    norms = [tensor for name, tensor in folded.items() if "_norm." in name]
    print("norms of all blocks have ones and zeros alone:", all((tensor == tensor[0]).all().item() for tensor in norms))

    print("\nrefused:")
    tied = {**tensors, "head.weight": tensors["embed.weight"]}
    quantised = {**tensors, "head.weight": tensors["head.weight"].char()}
    for attempt in (
        lambda: checkpoint.recenter(tied, **WRITERS, head="head.weight"),
        lambda: checkpoint.fold(tensors, norm="norm.weight", linear="head.weight"),
        lambda: checkpoint.fold(tensors, norm="blocks.*.mlp_norm.weight", linear="blocks.*.down.weight"),
        lambda: checkpoint.fold(quantised, norm="norm.weight", linear="head.weight"),
    ):
        try:
            attempt()
        except (ValueError, TypeError) as error:
            print(f"- {error}")


if __name__ == "__main__":
    main()
