"""Where training without a norm breaks: a tiny GPT learns English words with RMSNorm, with LayerNorm and without a norm.

The model: embeddings and their norm, blocks that add to the residual stream what attention and then an MLP make of the
normalised stream, and a norm before the head. The norms have no weights, and eps is 1e-5 (contract `microgpt`). Training is
plain SGD, since Adam hides how large gradients are. You learn that more blocks and higher learning rates break a model without
a norm, which trains well elsewhere, and that neither norm breaks: RMSNorm does as well as LayerNorm.

pip install '.[torch]'          # in a checkout; the words are those of Debian's package wamerican
python microgpt.py              # some seconds: two blocks, two learning rates
python microgpt.py --svg FILE   # some minutes: all runs of docs/microgpt.svg, and that picture
"""

import argparse
import math
import pathlib
import re

import torch

import isonorm.torch

WORDS = "/usr/share/dict/words"
WIDTH, HEADS, CONTEXT, BATCH, LETTERS = 32, 4, 16, 32, 27
GUESSING = math.log(LETTERS)  # the loss where each letter is as likely as any other
NORMS = {
    "RMSNorm": lambda: isonorm.torch.RMSNorm(WIDTH, eps=1e-5, elementwise_affine=False, contract="microgpt"),
    "LayerNorm": lambda: isonorm.torch.LayerNorm(WIDTH, eps=1e-5, elementwise_affine=False),
    "no norm": torch.nn.Identity,
}
LINES = {"RMSNorm": 'stroke="#0072b2"', "LayerNorm": 'stroke="#e69f00" stroke-dasharray="5 4"', "no norm": 'stroke="#1f2937"'}


def linear(inputs: int, outputs: int) -> torch.nn.Linear:
    """Without a bias; what it gives is as large as what it gets."""
    layer = torch.nn.Linear(inputs, outputs, bias=False)
    torch.nn.init.normal_(layer.weight, std=inputs**-0.5)
    return layer


class Block(torch.nn.Module):
    def __init__(self, norm: str) -> None:
        super().__init__()
        self.attention_norm, self.qkv, self.out = NORMS[norm](), linear(WIDTH, 3 * WIDTH), linear(WIDTH, WIDTH)
        self.mlp_norm, self.up, self.down = NORMS[norm](), linear(WIDTH, 4 * WIDTH), linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.attention_norm(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        heads = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(heads.transpose(1, 2).flatten(2))
        return x + self.down(self.up(self.mlp_norm(x)).relu())


class GPT(torch.nn.Module):
    def __init__(self, norm: str, blocks: int) -> None:
        super().__init__()
        self.letter, self.place = torch.nn.Embedding(LETTERS, WIDTH), torch.nn.Embedding(CONTEXT, WIDTH)
        blocks_and_norms = NORMS[norm](), *(Block(norm) for _ in range(blocks)), NORMS[norm]()
        self.body, self.head = torch.nn.Sequential(*blocks_and_norms), linear(WIDTH, LETTERS)

    def forward(self, letters: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.letter(letters) + self.place.weight))


def read_words(path: str = WORDS) -> torch.Tensor:
    """All words of small letters, shuffled, as a row of numbers: 1 to 26, and 0 after each word."""
    if not pathlib.Path(path).exists():
        raise SystemExit(f"{path} does not exist: install Debian's package wamerican (apt-get install wamerican)")
    words = re.findall("^[a-z]+$", pathlib.Path(path).read_text("utf-8"), re.MULTILINE)
    order = torch.randperm(len(words), generator=torch.Generator().manual_seed(0)).tolist()
    return torch.tensor([ord(letter) - ord("`") for i in order for letter in words[i] + "`"])  # the backquote is before "a"


def train(text: torch.Tensor, norm: str, blocks: int, rate: float, steps: int) -> list[float]:
    """The loss of each step; ends early where it is not finite, since what follows would not be either."""
    torch.manual_seed(0)
    model = GPT(norm, blocks)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    losses: list[float] = []
    while len(losses) < steps and math.isfinite(sum(losses)):
        letters = text[torch.randint(text.numel() - CONTEXT, (BATCH, 1)) + torch.arange(CONTEXT + 1)]
        loss = torch.nn.functional.cross_entropy(model(letters[:, :-1]).mT, letters[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def verdict(losses: list[float]) -> str:
    """The loss of the last 20 steps, or that the run broke."""
    last = sum(losses[-20:]) / 20
    return f"{last:.2f}" if last < GUESSING else f"broken, step {len(losses)}"


def picture(runs: dict[tuple[int, float], dict[str, list[float]]], steps: int) -> str:
    """Loss by step as SVG: a row of panels for each number of blocks, a column for each learning rate."""
    depths, rates = (sorted(set(column)) for column in zip(*runs))
    width, height = 62 + 224 * len(rates), 84 + 174 * len(depths)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="13"'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', "<title>Training with and without a norm</title>"]
    out.append(f'<rect width="{width}" height="{height}" fill="#ffffff"/>')

    def text(x: float, y: float, words: str, anchor: str = "start", more: str = "") -> None:
        out.append(f'<text x="{x:g}" y="{y:g}" fill="#1f2937" text-anchor="{anchor}"{more}>{words}</text>')

    def line(points: str, style: str) -> None:
        out.append(f'<path d="M{points}" fill="none" stroke-width="2" {style}/>')

    for i, name in enumerate(LINES):
        line(f"{62 + 120 * i} 20h30", LINES[name])
        text(98 + 120 * i, 24, name)
    text(width - 14, 24, "✕ from here on the loss is not finite", "end")
    text(width / 2 + 24, height - 8, "step of training", "middle")
    text(-height / 2, 18, "loss of a letter in nats (dotted: guessing)", "middle", ' transform="rotate(-90)"')
    for (depth, rate), losses in runs.items():
        left, top = 62 + 224 * rates.index(rate), 64 + 174 * depths.index(depth)
        x, y = lambda step: left + 210 * step / steps, lambda loss: top + 140 * (3.8 - min(loss, 3.8)) / 1.6  # noqa: E731
        text(x(steps / 2), top - 8, f"{depth} blocks, learning rate {rate:g}", "middle")
        line(f"{left} {top}h210v140h-210z", 'stroke="#d1d5db"')
        line(f"{left} {y(GUESSING):.1f}h210", 'stroke="#9ca3af" stroke-dasharray="2 4"')
        for loss in (2.5, 3.0, 3.5) if rate == rates[0] else ():
            text(left - 6, y(loss) + 4, f"{loss:g}", "end")
        for name, values in losses.items():
            means = [f"{x(i + 10):.1f} {y(sum(values[i : i + 20]) / 20):.1f}" for i in range(0, len(values) - 19, 20)]
            line("L".join(means) or f"{left} {top}", LINES[name])
            if not math.isfinite(values[-1]):
                text(x(len(values)), top + 17, f"✕ {name}, step {len(values)}")
        for step, anchor in ((0, "start"), (steps // 2, "middle"), (steps, "end")) if depth == depths[-1] else ():
            text(x(step), top + 157, str(step), anchor)
    return "\n".join([*out, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description="A tiny GPT with RMSNorm, with LayerNorm and without a norm.")
    parser.add_argument("--svg", type=pathlib.Path, metavar="FILE", help="all runs, and a picture of them")
    svg = parser.parse_args().svg
    depths, rates, steps = ((2, 4, 8), (0.01, 0.1, 1.0), 600) if svg else ((2,), (0.1, 1.0), 100)
    torch.set_num_threads(1)  # several would wait for each other for longer than these small layers take
    text, runs = read_words(), {}
    print(f"{'blocks':>6}{'rate':>6}" + "".join(f"{name:>18}" for name in NORMS))
    for key in ((depth, rate) for depth in depths for rate in rates):
        runs[key] = {norm: train(text, norm, *key, steps) for norm in NORMS}
        print(f"{key[0]:>6}{key[1]:>6g}" + "".join(f"{verdict(losses):>18}" for losses in runs[key].values()), flush=True)
    if svg:
        svg.write_text(picture(runs, steps), encoding="utf-8")


if __name__ == "__main__":
    main()
