"""A tiny Llama patched, trained, saved, given back its own norms and loaded again: what is equal, and what is not.

You learn that a patched model is trained and saved as any other: what is saved has no trace of isonorm, and is loaded where
isonorm is not installed, into the same weights, bit by bit. Patched again, it gives the bits with which training ended. The own
norms of Hugging Face give other last digits, since they do not define the order of their sums; the losses show how little that
is.

pip install '.[transformers]'   # in a checkout; nothing is downloaded
python finetune_patched.py
"""

import pathlib
import tempfile

import torch
import transformers

import isonorm.transformers

STEPS = 8


def random_llama() -> transformers.LlamaForCausalLM:
    """The same random weights each time."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.LlamaForCausalLM(config)


def counting(rows: int) -> torch.Tensor:
    """What is learnt: to count, each row in steps of its own."""
    random = torch.Generator().manual_seed(1)
    start, step = torch.randint(64, (rows, 1), generator=random), torch.randint(1, 4, (rows, 1), generator=random)
    return (start + step * torch.arange(24)) % 64


def train(model: transformers.LlamaForCausalLM) -> list[float]:
    """The loss before each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    tokens, losses = counting(32), []
    for _ in range(STEPS):
        loss = model(tokens, labels=tokens).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


@torch.no_grad()
def logits(model: transformers.LlamaForCausalLM) -> torch.Tensor:
    return model.eval()(counting(4)).logits


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two models have the same tensors under the same names, bit by bit."""
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name].view(torch.int32), b[name].view(torch.int32)) for name in a)


def main() -> None:
    torch.set_num_threads(1)  # several would spend more time on waiting for each other than these small layers take
    own, model = random_llama(), random_llama()
    print(isonorm.transformers.patch(model))
    print("same weights before training:", same_weights(own, model))
    print("step   loss with isonorm   with Hugging Face's norms")
    for step, losses in enumerate(zip(train(model), train(own))):
        print(f"{step:>4}{losses[0]:>20.4f}{losses[1]:>28.4f}")
    patched = logits(model)

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = b"".join(path.read_bytes() for path in pathlib.Path(folder).iterdir())
        print("\nwhat was saved names isonorm:", b"isonorm" in saved.lower())
        loaded = transformers.LlamaForCausalLM.from_pretrained(folder)

    print("modules given back:", isonorm.transformers.unpatch(model))
    print("loaded: the same classes:", [*map(type, loaded.modules())] == [*map(type, model.modules())])
    print("loaded: the same weights, bit by bit:", same_weights(loaded, model))
    print("loaded: the same logits, bit by bit:", torch.equal(logits(loaded), logits(model)))
    difference = (logits(loaded) - patched).abs().max() / patched.abs().max()
    print(f"largest difference from the logits with isonorm, by the largest of them: {difference:.0e}")

    isonorm.transformers.patch(loaded)
    print("loaded and patched: the logits with isonorm, bit by bit:", torch.equal(logits(loaded), patched))


if __name__ == "__main__":
    main()
