"""Whole models, tiny and random: what a user does with one works as before, patched."""

from __future__ import annotations

import copy
import io
import pathlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
from norms import COLS, same_bits
from torch import nn

from isonorm.transformers import patch, unpatch

SMALL: dict[str, Any] = dict(
    hidden_size=64, intermediate_size=COLS, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=128,
    max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=None,
)  # fmt: skip
LINEAR: dict[str, Any] = dict(
    linear_key_head_dim=16, linear_value_head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4, num_experts=4,
    num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=32,
    layer_types=["linear_attention", "full_attention"],
)  # fmt: skip
MAMBA: dict[str, Any] = dict(
    hidden_size=64, num_hidden_layers=2, vocab_size=128, num_heads=8, head_dim=16, state_size=16, n_groups=2, pad_token_id=0,
    bos_token_id=1, eos_token_id=None,
)  # fmt: skip
T5: dict[str, Any] = dict(d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4, vocab_size=128, decoder_start_token_id=0)

# The number of norms, the number of those with a gate.
MODELS: dict[str, tuple[Callable[[], Any], int]] = {
    "llama": (lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL)), 5),
    "qwen3": (lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**SMALL, head_dim=16)), 9),
    "gemma3": (lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**SMALL, head_dim=16)), 13),
    "olmo2": (lambda: hf.Olmo2ForCausalLM(hf.Olmo2Config(**SMALL)), 9),
    "t5": (lambda: hf.T5ForConditionalGeneration(hf.T5Config(**T5)), 12),
    "qwen3_next": (lambda: hf.Qwen3NextForCausalLM(hf.Qwen3NextConfig(**SMALL, **LINEAR, head_dim=16)), 8),
    "mamba2": (lambda: hf.Mamba2ForCausalLM(hf.Mamba2Config(**MAMBA)), 5),
}


def make(name: str, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    model = MODELS[name][0]()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "norm" in key:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.to(dtype).eval()


def ids() -> torch.Tensor:
    return torch.randint(2, 128, (2, 12), generator=torch.Generator().manual_seed(3))


def logits(model: Any) -> torch.Tensor:
    return model(ids(), decoder_input_ids=ids()).logits if model.config.is_encoder_decoder else model(ids()).logits


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param  # type: ignore[no-any-return]


@torch.no_grad()
def test_logits(name: str) -> None:
    """In float32 a norm differs by a few ulp, which the layers after it carry on; in 16 bits few of its values differ."""
    for dtype, u in ((torch.float32, 2.0**-24), (torch.bfloat16, 2.0**-8), (torch.float16, 2.0**-11)):
        model = make(name, dtype)
        keys, before = list(model.state_dict()), logits(model)
        report = patch(model)
        assert len(report) == MODELS[name][1] and not report.skipped, str(report)
        after = logits(model)
        assert list(model.state_dict()) == keys and after.dtype == before.dtype
        difference = (after.double() - before.double()).abs().max()
        # Of the largest logit: 16 ulp for each norm on the way, which is 4 times what one norm differs by.
        assert bool(difference <= 16 * len(report) * u * before.double().abs().max())
        assert unpatch(model) == len(report)
        assert same_bits(logits(model), before)


@torch.no_grad()
def test_sixteen_bits_as_close_as_the_roundings(name: str) -> None:
    """The norms alone, on what they get in the model: their outputs differ in less than 0.2 % of the values."""
    model = make(name, torch.bfloat16)
    taken: list[tuple[nn.Module, Any, torch.Tensor]] = []
    patched = {row.name for row in patch(model, dry_run=True).swapped}
    handles = [
        module.register_forward_hook(lambda module, inputs, output: taken.append((module, inputs, output)))
        for key, module in model.named_modules()
        if key in patched
    ]
    logits(model)
    for handle in handles:
        handle.remove()
    patch(model)
    assert len(taken) >= MODELS[name][1]
    # Mamba2 keeps a residual stream in float32, whose last norm gives float32.
    taken = [item for item in taken if item[2].dtype == torch.bfloat16 and item[1][0].dtype == torch.bfloat16]
    values = sum(output.numel() for _, _, output in taken)
    differ = sum(int((module(*inputs) != output).sum()) for module, inputs, output in taken)
    assert values > 3000 and differ < 0.002 * values


def test_hooks_and_attributes_stay() -> None:
    model, seen = make("llama"), []
    norm = model.model.norm
    norm.register_forward_hook(lambda *_: seen.append("forward"))
    norm.register_full_backward_hook(lambda *_: seen.append("backward"))
    norm.note = "mine"
    parameters, state = list(model.parameters()), model.state_dict()
    cls = type(norm)
    patch(model)
    assert model.model.norm is norm and isinstance(norm, cls) and norm.note == "mine" and "RMSNorm" in type(norm).__name__
    assert all(a is b for a, b in zip(parameters, model.parameters()))
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(state.values(), model.state_dict().values()))
    logits(model).sum().backward()
    assert seen == ["forward", "backward"]
    assert norm.__dict__.keys() == make("llama").model.norm.__dict__.keys() | {"note"}


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "t5", "mamba2"])
def test_copies(name: str, tmp_path: pathlib.Path) -> None:
    """deepcopy, pickle and torch.save give a patched model; save_pretrained and from_pretrained give one that is not."""
    model = make(name)
    before = logits(model)
    count = len(patch(model))
    after = logits(model)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(buffer, weights_only=False)):
        assert same_bits(logits(twin), after)
        assert {type(a) for a in twin.modules()} == {type(a) for a in model.modules()}
        assert unpatch(twin) == count and same_bits(logits(twin), before)
    assert same_bits(logits(model), after)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert unpatch(loaded) == 0 and same_bits(logits(loaded), before)


def test_pickle_in_another_process(tmp_path: pathlib.Path) -> None:
    """Where nothing was patched yet."""
    module = nn.RMSNorm(8, eps=0.5)
    nn.init.constant_(module.weight, 3.0)
    assert patch(module)
    (tmp_path / "module.pickle").write_bytes(pickle.dumps(module))
    program = (
        "import pickle, sys, torch; module = pickle.load(open(sys.argv[1], 'rb'));"
        "print(type(module).__name__, type(module).__mro__[1].__name__, module(torch.ones(8)).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "module.pickle")], capture_output=True, text=True)
    assert done.stdout.strip() == f"IsonormRMSNorm RMSNorm {module(torch.ones(8)).tolist()}", done.stderr


def test_generate(name: str) -> None:
    model = make(name)
    options: dict[str, Any] = dict(max_new_tokens=8, do_sample=False)
    before = model.generate(ids(), **options)
    assert patch(model)
    assert torch.equal(model.generate(ids(), **options), before)


@torch.no_grad()
@pytest.mark.parametrize("name", ["t5", "gemma3"])
def test_compile(name: str) -> None:
    model = make(name)
    patch(model)
    expected = logits(model)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    got = logits(compiled)
    assert bool(((got - expected).abs() <= 2.0**-20 * expected.abs().max()).all())


def test_compiled_graph_holds_our_operator() -> None:
    targets: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        targets.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    model = make("llama")
    patch(model)
    torch._dynamo.reset()
    with torch.no_grad():
        torch.compile(model.model.norm, fullgraph=True, backend=backend)(torch.randn(3, 64))
    assert any(target.startswith("isonorm.") for target in targets)


def test_training(name: str) -> None:
    """Two steps of SGD change every parameter that they change without the patch, and nearly as much."""
    weights = []
    for patched in (False, True):
        model = make(name).train()
        model.requires_grad_(True)
        if patched:
            patch(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(2):
            torch.manual_seed(1)
            loss = model(ids(), labels=ids()).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        weights.append({key: value.detach() for key, value in model.named_parameters()})
    start = dict(make(name).named_parameters())
    for key, value in weights[0].items():
        step, other = (value - start[key]).double(), (weights[1][key] - start[key]).double()
        # A step's values are sums of float32 products over 24 tokens and every layer: 2^-11 of the largest is 8192 ulp.
        assert bool(((step - other).abs() <= 2.0**-11 * step.abs().max() + 2.0**-23).all()), key
        assert bool(step.any()) == bool(other.any()), key


def test_layer_norm_unless_it_is_refused() -> None:
    config = hf.BertConfig(**{**SMALL, "eos_token_id": 2})
    torch.manual_seed(0)
    model = hf.BertModel(config).eval()
    with torch.no_grad():
        before = model(ids()).last_hidden_state
        report = patch(model, layer_norm=False)
        assert not report and {row.reason for row in report.skipped} == {"LayerNorm stays, by layer_norm=False"}
        assert len(patch(model)) == 5
        after = model(ids()).last_hidden_state
        assert bool(((after - before).abs() <= 5 * 16 * 2.0**-24 * before.abs().max()).all())
        assert unpatch(model) == 5 and same_bits(model(ids()).last_hidden_state, before)
