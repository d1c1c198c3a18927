"""Replicas of norms of Hugging Face that isonorm.transformers has patched: the gradients of one process."""

import copy
import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import ranks
import torch
import torch.distributed as dist
from torch_support import randn, same

import isonorm.transformers
from isonorm.torch import parallel

COLS, ROWS = 48, 128
MODELS = "gemma", "llama", "mamba2", "muse_spark", "nanochat", "olmo2", "qwen3_next", "t5"
ranks.preload("isonorm.transformers", *(f"transformers.models.{name}.modeling_{name}" for name in MODELS))


def norms():
    """Each kind of plan: one weight, 1 + weight, groups, gates, bias; and as it is, a norm whose weight comes first."""
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.mamba2.modeling_mamba2 import MambaRMSNormGated
    from transformers.models.muse_spark.modeling_muse_spark import MuseSparkTextCenteredRMSNorm, MuseSparkTextInputScaledRMSNorm
    from transformers.models.nanochat.modeling_nanochat import NanoChatRMSNorm
    from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextRMSNormGated
    from transformers.models.t5.modeling_t5 import T5LayerNorm

    model = torch.nn.ModuleDict(
        {
            "llama": LlamaRMSNorm(COLS).bfloat16(),
            "olmo": Olmo2RMSNorm(COLS),
            "gemma": GemmaRMSNorm(COLS).half(),
            "t5": T5LayerNorm(COLS).bfloat16(),
            "centred": MuseSparkTextCenteredRMSNorm(COLS),
            "mamba_gated": MambaRMSNormGated(COLS, 16),
            "qwen_gated": Qwen3NextRMSNormGated(COLS).bfloat16(),
            "layer": torch.nn.LayerNorm(COLS),
            "torch": torch.nn.RMSNorm((6, 8)),
            "scaled": MuseSparkTextInputScaledRMSNorm(COLS),
            "weightless": NanoChatRMSNorm(),
        }
    )
    for i, parameter in enumerate(model.parameters()):
        with torch.no_grad():
            parameter.copy_(randn(*parameter.shape, seed=40 + i))
    assert not isonorm.transformers.patch(model).skipped
    return model


def run(model, rows):
    """Results of the norms; their parameters then have gradients."""
    results = {}
    for name, module in model.items():
        dtype = next((p.dtype for p in module.parameters()), torch.float32)
        x, gate, dy = (randn(ROWS, COLS, seed=seed, dtype=dtype)[rows] for seed in (0, 1, 2))
        x = (x.unflatten(-1, (6, 8)) if name == "torch" else x).requires_grad_()
        y = module(x, gate) if name.endswith("gated") else module(x)
        y.backward(dy.to(y.dtype).view(y.shape))
        results[name] = y.detach(), x.grad
    return results


def replicas(rank, world):
    alone, model = norms(), norms()
    names = parallel.share_gradients(model, dist.group.WORLD, reduction="sum")
    assert names == [f"{n}.{p}" for n in alone for p, _ in alone[n].named_parameters() if n not in ("scaled", "weightless")]
    classes = [type(module) for module in model.modules()]
    with pytest.raises(RuntimeError, match="^llama shares its gradients by isonorm.torch.parallel.share_gradients, and would have"):
        isonorm.transformers.unpatch(model)
    assert classes == [type(module) for module in model.modules()]  # those that share nothing, too
    assert isonorm.transformers.unpatch(model["scaled"]) == 1
    isonorm.transformers.patch(model)
    own = slice(rank * ROWS // world, (rank + 1) * ROWS // world)
    whole = run(alone, slice(None))
    for found in (model, copy.deepcopy(model)):
        for name, results in run(found, own).items():
            assert all(same(mine, expected[own]) for mine, expected in zip(results, whole[name])), name
        for name, parameter in found.named_parameters():
            expected = alone.get_parameter(name).grad
            assert same(parameter.grad, expected) == (name in names or world == 1), name
    return True


@pytest.mark.parametrize("world", [1, 2, 4])
def test_patched_norms(world):
    assert all(ranks.run(replicas, world))


def lying_otherwise(rank, world):
    """Inputs whose first axis, which replicas divide, is not the outermost one in memory, or whose other axes are exchanged."""
    found = []
    for shape, order in (((8, 64, COLS), (1, 0, 2)), ((8, 4, 16, COLS), (0, 2, 1, 3)), ((8, 4, 32, COLS), (2, 0, 1, 3))):
        from transformers.models.llama.modeling_llama import LlamaRMSNorm

        model = torch.nn.ModuleDict({"norm": LlamaRMSNorm(COLS)})
        isonorm.transformers.patch(model)
        parallel.share_gradients(model, dist.group.WORLD, reduction="sum")
        back = sorted(range(len(shape)), key=order.__getitem__)
        own = slice(rank * shape[0] // world, (rank + 1) * shape[0] // world)
        x = randn(*shape)[own].permute(order).contiguous().permute(back)
        y = model["norm"](x)
        y.backward(randn(*shape, seed=2)[own])
        found.append((y.permute(order).is_contiguous(), same(y, isonorm.torch.rms_norm(x.detach(), eps=1e-6)), model["norm"].weight.grad.numpy()))
    return found


def test_rows_that_lie_otherwise():
    (one,) = ranks.run(lying_otherwise, 1)
    for world in (2, 4, 8):
        for found in ranks.run(lying_otherwise, world):
            for (lies, bits, gradient), (_, _, whole) in zip(found, one):
                assert lies and bits and (gradient == whole).all()


def in_a_model(rank, world):
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=128
    )
    model = transformers.LlamaForCausalLM(config)
    isonorm.transformers.patch(model)
    names = parallel.share_gradients(model, dist.group.WORLD)
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    tokens = torch.arange(64).view(1, 64) + rank
    wrapped(input_ids=tokens, labels=tokens).loss.backward()
    gradients = [model.get_parameter(name).grad for name in names]
    everywhere = [None] * world
    dist.all_gather_object(everywhere, gradients)
    equal = all(same(a, b) for other in everywhere for a, b in zip(other, gradients))
    norm, x = model.model.norm, torch.ones(32, 64, dtype=torch.float64)
    refused = str(pytest.raises(RuntimeError, norm, x).value)
    with torch.no_grad():
        left = norm(x).shape
    return names, equal, refused, left


def test_a_model_of_replicas():
    for names, equal, refused, left in ranks.run(in_a_model, 2):
        layers = [f"model.layers.{i}.{n}_layernorm.weight" for i in range(2) for n in ("input", "post_attention")]
        assert names == [*layers, "model.norm.weight"] and equal
        assert refused.startswith("isonorm does not compute this call of LlamaRMSNorm") and left == (32, 64)
