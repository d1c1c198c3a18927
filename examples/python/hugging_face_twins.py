"""Twins of Hugging Face's norms beside the classes themselves: Llama, T5, Gemma, and the fused add of a decoder layer.

You learn that a checkpoint loads into the twins as it is, and how far the numbers are from those of the class. In bfloat16 they
are the same bits but for less than 0.2 % of the values, and those are neighbours. In float32 many last bits differ, because the
classes do not define the order of their sums.

pip install '.[transformers]'   # in a checkout
python hugging_face_twins.py
"""

import torch
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

import isonorm.torch

ROWS, WIDTH = 512, 1024
TWINS = (
    (LlamaRMSNorm, isonorm.torch.LlamaRMSNorm),
    (T5LayerNorm, isonorm.torch.T5RMSNorm),
    (GemmaRMSNorm, isonorm.torch.GemmaRMSNorm),
)


def differing(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The share of values that differ."""
    return (ours != theirs).float().mean().item()


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference of two values, in units of the last place of the larger one (of bfloat16 or float32)."""
    ours_wide, theirs_wide = ours.double(), theirs.double()
    largest = torch.maximum(ours_wide.abs(), theirs_wide.abs())
    exponent = torch.frexp(largest).exponent  # 2^(exponent - 1) <= largest < 2^exponent
    unit = torch.ldexp(torch.full_like(largest, torch.finfo(ours.dtype).eps / 2), exponent)
    return ((ours_wide - theirs_wide).abs() / unit).max().item()


def with_random_weight(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    torch.nn.init.normal_(module.get_parameter("weight"), 1.0, 0.1)
    return module.to(dtype)


def compare(dtype: torch.dtype) -> list[tuple[str, bool, torch.Tensor, torch.Tensor]]:
    """What is compared, whether the keys of the state_dicts are the same, isonorm's result and that of Hugging Face's class."""
    x, residual = torch.randn(2, ROWS, WIDTH).to(dtype)
    results = []
    for theirs, ours in TWINS:
        norm = with_random_weight(theirs(WIDTH, eps=1e-5), dtype)
        twin = ours(WIDTH, eps=1e-5).to(dtype)
        twin.load_state_dict(norm.state_dict())
        results.append((theirs.__name__, list(twin.state_dict()) == list(norm.state_dict()), twin(x), norm(x)))

    # A decoder layer adds what attention gives to the residual stream, and normalises the sum: one call instead of two.
    norm = with_random_weight(LlamaRMSNorm(WIDTH, eps=1e-5), dtype)
    fused = isonorm.torch.FusedAddRMSNorm(WIDTH, eps=1e-5, dtype=dtype, contract="llama")
    fused.load_state_dict(norm.state_dict())
    same_keys = list(fused.state_dict()) == list(norm.state_dict())
    y, total = fused(x, residual)
    results.append(("add, then LlamaRMSNorm: the sum", same_keys, total, x + residual))
    results.append(("add, then LlamaRMSNorm: the norm", same_keys, y, norm(x + residual)))
    return results


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    print(f"{'class':<34}{'type':<10}{'same keys':<11}{'values that differ':>18}{'ulps at most':>14}")
    for dtype in (torch.bfloat16, torch.float32):
        for name, same_keys, ours, theirs in compare(dtype):
            print(f"{name:<34}{str(dtype)[6:]:<10}{str(same_keys):<11}", end="")
            print(f"{differing(ours, theirs):>18.3%}{distance(ours, theirs):>14.0f}")


if __name__ == "__main__":
    main()
