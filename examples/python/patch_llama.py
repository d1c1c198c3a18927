"""Patches a tiny random Llama: which norms are swapped, and that what the model says is the same.

pip install '.[transformers]'   # in a checkout
python patch_llama.py
"""

import torch
import transformers

import isonorm.transformers

config = transformers.LlamaConfig(
    vocab_size=128,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
)
torch.manual_seed(0)
model = transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()
tokens = torch.arange(1, 25)[None]

with torch.no_grad():
    before = model(tokens).logits

    print(isonorm.transformers.patch(model))

    after = model(tokens).logits
    # A norm in bfloat16 gives the bits of the module that it replaces, but for one value in thousands, which is one ulp off.
    largest = float(before.abs().max())
    print("largest difference of a logit at most 2^-6 of the largest:", float((after - before).abs().max()) <= largest / 64)
    print("the same next token at every position:", torch.equal(after.argmax(-1), before.argmax(-1)))

    print("modules given back:", isonorm.transformers.unpatch(model))
    print("logits as before, bit by bit:", torch.equal(model(tokens).logits, before))

# LayerNorm is swapped too.
bert = transformers.BertModel(
    transformers.BertConfig(vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
)
print()
print(isonorm.transformers.patch(bert, dry_run=True))
