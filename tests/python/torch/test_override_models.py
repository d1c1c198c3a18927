"""Under enable(): compilers, export and models that know nothing of isonorm."""

import contextlib

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import isonorm.torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from test_override_numbers import assert_same, torch_alone  # noqa: E402, I001


@pytest.fixture(autouse=True)
def _enabled():
    torch.manual_seed(2)
    torch.compiler.reset()
    with isonorm.torch.enabled():
        yield
    torch.compiler.reset()


@contextlib.contextmanager
def by_functions(*names):
    """Torch's kernels, but the functions of these names, which modules call, are isonorm's."""
    own = {
        "rms_norm": lambda x, shape, weight=None, eps=None: isonorm.torch.rms_norm(
            x, weight, eps=torch.finfo(torch.float32).eps if eps is None else eps, normalized_shape=shape
        ),
        "layer_norm": lambda x, shape, weight=None, bias=None, eps=1e-5: isonorm.torch.layer_norm(
            x, weight, bias, eps=eps, normalized_shape=shape
        ),
    }
    with pytest.MonkeyPatch.context() as patch, torch_alone():
        for name in names:
            patch.setattr(F, name, own[name])
        yield


class Norms(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rms, self.layer = torch.nn.RMSNorm(24, eps=1e-6), torch.nn.LayerNorm(24)

    def forward(self, x):
        return self.layer(self.rms(x).tanh())


def run(function, module, x):
    leaf = x.clone().requires_grad_()
    y = function(leaf)
    return [y, *torch.autograd.grad(y.sin().sum(), [leaf, *module.parameters()])]


def test_aot_eager_runs_isonorms_kernels():
    module, x = Norms(), torch.randn(6, 24)
    graph = torch.compile(module, backend="aot_eager", fullgraph=True)
    eager = run(module, module, x)
    compiled = run(graph, module, x)
    for got, own in zip(compiled, eager, strict=True):
        assert_same(got, own)
    with torch_alone():
        torchs = run(module, module, x)
    assert any(not torch.equal(got, own) for got, own in zip(eager, torchs, strict=True))  # so that equality says something


def test_inductor_takes_norms_apart():
    """Results are those of the compiler, with or without enable()."""
    module, x = Norms(), torch.randn(6, 24)
    ours = run(torch.compile(module, fullgraph=True), module, x)
    with torch_alone():
        torch.compiler.reset()
        torchs = run(torch.compile(module, fullgraph=True), module, x)
    for got, own in zip(ours, torchs, strict=True):
        assert_same(got, own)


def test_a_graph_compiled_before_goes_on():
    module, x = Norms(), torch.randn(6, 24)
    graph = torch.compile(module, backend="aot_eager", fullgraph=True)
    with torch_alone():
        before = run(graph, module, x)
    after = run(graph, module, x)
    with by_functions("layer_norm"):  # RMSNorm was taken apart when the graph was made
        expected = run(module, module, x)
    for got, own in zip(after, expected, strict=True):
        assert_same(got, own)
    with torch_alone():
        for got, own in zip(run(graph, module, x), before, strict=True):
            assert_same(got, own)


def test_a_graph_compiled_anew_has_the_kernels():
    """Torch's dispatcher in Python remembers how it took the norm apart before."""
    module, x = torch.nn.RMSNorm(24, eps=1e-6), torch.randn(64, 24, requires_grad=True)

    def compiled():
        torch.compiler.reset()
        return torch.compile(module, backend="aot_eager", fullgraph=True)(x)

    with torch_alone():
        before = compiled()
        assert_same(before, module(x))
    after = compiled()
    assert_same(after, module(x))
    assert not torch.equal(before, after)
    with torch_alone():
        assert_same(compiled(), before)


def test_export():
    module, x = Norms(), torch.randn(6, 24)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    assert_same(program.module()(x), module(x))
    more = torch.randn(11, 24)
    assert_same(program.module()(more), module(more))
    # One node, which torch's own tables of decompositions leave alone while there is a kernel for the CPU.
    decomposed = program.run_decompositions()
    assert "aten._fused_rms_norm.default" in {str(node.target) for node in decomposed.graph.nodes}
    assert_same(decomposed.module()(x), module(x))
    with torch_alone():  # where there is none, it is torch's expression
        assert_same(decomposed.module()(x), module(x))
        assert_same(program.module()(x), module(x))


def count_calls(function):
    """How often torch's operators of norms ran, by torch's profiler."""
    with torch.profiler.profile() as profile:
        function()
    counts = {event.key: event.count for event in profile.key_averages()}
    return {name: counts.get(f"aten::{name}", 0) for name in ("_fused_rms_norm", "native_layer_norm", "pow", "mean")}


def train(model, steps, **inputs):
    model = model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def assert_model_works(make, norms, inputs):
    torch.manual_seed(5)
    model = make()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    counts = count_calls(lambda: model.eval()(**inputs))
    assert {name: counts[name] for name in norms} == norms
    with torch.no_grad():
        ours = model(**inputs).logits
        with torch_alone():
            assert not torch.equal(ours, model(**inputs).logits)  # so that equality says something
        with by_functions("rms_norm", "layer_norm"):
            assert_same(ours, model(**inputs).logits)
    losses = train(model, 6, **inputs)
    assert losses[-1] < losses[0]
    model.load_state_dict(state)
    with by_functions("rms_norm", "layer_norm"):
        assert losses == train(model, 6, **inputs)


def test_bert():
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    ids = torch.randint(0, 50, (3, 9))
    assert_model_works(
        lambda: transformers.BertForMaskedLM(config), {"native_layer_norm": 6}, {"input_ids": ids, "labels": ids}
    )


def test_a_llama_with_torchs_norms(monkeypatch):
    from transformers.models.llama import modeling_llama

    class Norm(torch.nn.RMSNorm):
        def __init__(self, hidden_size, eps=1e-6):
            super().__init__(hidden_size, eps=eps)

    monkeypatch.setattr(modeling_llama, "LlamaRMSNorm", Norm)
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=32,
    )  # fmt: skip
    ids = torch.randint(0, 50, (3, 9))
    assert_model_works(lambda: transformers.LlamaForCausalLM(config), {"_fused_rms_norm": 5}, {"input_ids": ids, "labels": ids})


def test_a_model_of_hugging_face_that_calls_torchs_norm():
    config = transformers.DiffLlamaConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        intermediate_size=48, max_position_embeddings=32,
    )  # fmt: skip
    model = transformers.DiffLlamaForCausalLM(config).eval()
    ids = torch.randint(0, 50, (3, 9))
    assert count_calls(lambda: model(input_ids=ids))["_fused_rms_norm"] >= 2


def test_bf16_training_of_a_block():
    block = torch.nn.Sequential(torch.nn.Linear(24, 24), torch.nn.RMSNorm(24), torch.nn.Linear(24, 24), torch.nn.LayerNorm(24))
    block, x = block.bfloat16(), torch.randn(16, 24).bfloat16()
    y = block(x)
    y.float().square().sum().backward()
    assert all(p.grad.dtype == torch.bfloat16 and p.grad.isfinite().all() for p in block.parameters())
    weight, eps = block[1].weight, torch.finfo(torch.float32).eps
    assert_same(F.rms_norm(x, (24,), weight), isonorm.torch.rms_norm(x, weight, eps=eps))
