"""watch: what it records, that it changes nothing, and the page."""

from __future__ import annotations

import copy

import pytest
import torch
from module_support import same
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5EncoderModel

import isonorm
from isonorm import torch as it


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.add = it.FusedAddRMSNorm(12, eps=1e-3)
        self.gated = it.GatedRMSNorm(12, contract="mamba2", groups=3)
        self.qk = it.QKNormRope(12)
        self.two = it.RMSNorm((3, 4))
        self.theirs = nn.RMSNorm(12)
        self.batch = nn.BatchNorm1d(12)

    def forward(self, x):
        y, total = self.add(x, residual=x)
        y = self.gated(y, gate=total)
        q, _ = self.qk(y[:, None], y[:, None])
        return self.batch(self.theirs(self.two(q.reshape(-1, 3, 4)).reshape(-1, 12)))


def hooks(model):
    return [(len(m._forward_pre_hooks), len(m._forward_hooks), len(m._forward_pre_hooks_with_kwargs)) for m in model.modules()]


def llama(dtype=torch.float32):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    return LlamaForCausalLM(config).to(dtype).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_llama(dtype):
    model, ids = llama(dtype), torch.arange(10)[None]
    before, state = hooks(model), copy.deepcopy(model.state_dict())
    seen = {}
    handles = [
        m.register_forward_pre_hook(lambda m, args, name=name: seen.setdefault(name, args[0].detach().clone()))
        for name, m in model.named_modules()
        if "norm" in name
    ]
    expected = model(ids).logits
    for handle in handles:
        handle.remove()
    with it.watch(model) as w:
        assert same(model(ids).logits, expected)
    assert [r["module"] for r in w.records] == [
        "model.layers.0.input_layernorm",
        "model.layers.0.post_attention_layernorm",
        "model.layers.1.input_layernorm",
        "model.layers.1.post_attention_layernorm",
        "model.norm",
    ]
    assert hooks(model) == before and w.skipped == []
    assert all(same(a, b) for a, b in zip(model.state_dict().values(), state.values()))
    for record in w.records:
        x = seen[record["module"]].reshape(-1, 32)
        assert record["class"] == "LlamaRMSNorm" and record["shape"] == (1, 10, 32) and record["call"] == 0
        assert record["dtype"] == {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype] and record["eps"] == 1e-6
        compared = isonorm.compare(x, eps=1e-6)
        assert {key: record[key] for key in compared} == compared
    model(ids)
    assert len(w.records) == 5


def test_calls_are_counted_and_blocks_repeat():
    model, x = nn.Sequential(nn.LayerNorm(4, eps=0.5)), torch.randn(3, 4)
    w = it.watch(model)
    for _ in range(2):
        with w:
            model(x)
    assert [(r["module"], r["call"], r["eps"]) for r in w.records] == [("0", 0, 0.5), ("0", 1, 0.5)]
    with w, pytest.raises(RuntimeError, match="in a with block already"):
        with w:
            pass
    with it.watch(model, eps=0.25) as given:
        model(x)
    assert given.records[0]["eps"] == 0.25 and given.records[0] != w.records[0]


def test_isonorms_modules_give_what_they_normalise():
    torch.manual_seed(0)
    model, x = Block(), torch.randn(5, 12)
    with it.watch(model) as w:
        model(x)
    found = {r["module"]: r for r in w.records}
    assert list(found) == ["add", "gated", "qk.q", "qk.k", "two", "theirs"] and w.skipped == []
    assert found["add"]["eps"] == 1e-3 and found["add"]["class"] == "FusedAddRMSNorm"
    y, total = model.add(x, x)
    gated = y * nn.functional.silu(total)
    for name, rows, eps in (
        ("add", x + x, 1e-3),
        ("gated", gated.reshape(-1, 4), 1e-6),
        ("qk.q", model.gated(y, total), 1e-6),
        ("qk.k", model.gated(y, total), 1e-6),
    ):
        compared = isonorm.compare(rows.detach(), eps=eps)
        assert {key: found[name][key] for key in compared} == compared
    assert found["theirs"]["eps"] == torch.finfo(torch.float32).eps == found["two"]["eps"]
    assert found["two"]["shape"] == (5, 3, 4) and found["two"]["rows"] == 5 and found["two"]["cols"] == 12


def test_hugging_face_by_name_and_encoders():
    config = T5Config(vocab_size=32, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=2)
    model = T5EncoderModel(config).eval()
    with it.watch(model) as w:
        model(torch.arange(6)[None])
    assert len(w.records) == 5 and {r["class"] for r in w.records} == {"T5LayerNorm"}
    layer = nn.TransformerEncoderLayer(
        16, 2, 32, batch_first=True
    ).eval()  # its quick path passes hooks by where there are none
    with torch.no_grad(), it.watch(layer) as w:
        layer(torch.randn(2, 3, 16))
    assert [r["module"] for r in w.records] == ["norm1", "norm2"]

    class MyRMSNorm(nn.Module):
        def forward(self, hidden_states):
            return hidden_states

    class OuterRMSNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.RMSNorm(4)

        def forward(self, x):
            return self.inner(x)

    mixed = nn.Sequential(MyRMSNorm(), OuterRMSNorm())
    with it.watch(mixed) as w:
        mixed[0](hidden_states=mixed(torch.randn(2, 4)))
    assert [(r["module"], r["call"]) for r in w.records] == [("0", 0), ("1.inner", 0), ("0", 1)]


def test_hooks_go_after_an_exception_and_bad_input_keeps_its_own_error():
    model = nn.Sequential(nn.RMSNorm(4))
    before = hooks(model)
    with pytest.raises(KeyError), it.watch(model):
        raise KeyError
    assert hooks(model) == before
    with it.watch(model) as w:
        with pytest.raises(RuntimeError, match="normalized_shape"):
            model(torch.randn(2, 3))
        with pytest.raises(TypeError):
            model(3)
        model(torch.randn(0, 4))
        model(torch.randn(2, 4))
    assert hooks(model) == before and [r["call"] for r in w.records if r["cols"] == 4] == [3]
    assert [name for name, _ in w.skipped][-2:] == ["0", "0"] and "no values" in w.skipped[-1][1]
    meta = nn.Sequential(it.RMSNorm(4, device="meta"))
    with it.watch(meta) as w:
        meta(torch.empty(2, 4, device="meta"))
    assert not w.records and "no values" in w.skipped[0][1]


def test_gradients_are_those_without_it():
    torch.manual_seed(0)
    model, x = Block(), torch.randn(5, 12, requires_grad=True)
    expected = torch.autograd.grad(model(x).sin().sum(), [x, *model.add.parameters()])
    with it.watch(model):
        got = torch.autograd.grad(model(x).sin().sum(), [x, *model.add.parameters()])
    assert all(same(a, b) for a, b in zip(got, expected))


def test_compiled_models_are_seen():
    for make in (lambda m: torch.compile(m, backend="eager"), lambda m: m.compile(backend="eager") or m):
        model = make(nn.Sequential(nn.Linear(4, 4), nn.RMSNorm(4)))
        x = torch.randn(2, 4)
        y = model(x)
        with it.watch(model) as w:
            assert same(model(x), y)
        assert [r["module"] for r in w.records] == ["1"]
        assert same(model(x), y) and len(w.records) == 1
        torch._dynamo.reset()


def test_the_page(tmp_path):
    model, seen = llama(), {}
    with it.watch(model) as w:
        for name in dict.fromkeys(w._modules):
            norm = model.get_submodule(name)
            norm.register_forward_pre_hook(lambda m, args, name=name: seen.update({name: args[0].reshape(-1, 32)}))
        model(torch.arange(10)[None])
    path = tmp_path / "report.html"
    w.html(path)
    (tmp_path / "command").mkdir()
    isonorm.write_report(tmp_path / "command" / "report.html", seen, eps=1e-6)  # has the bytes of `isonorm stats --html`
    assert path.read_bytes() == (tmp_path / "command" / "report.html").read_bytes() and len(seen) == 5
    text = path.read_text()
    assert all(r["module"] in text for r in w.records) and "<html" in text
    with pytest.raises(FileExistsError):
        w.html(path)
    w.html(path, overwrite=True)
    with it.watch(model, keep=0) as none:
        model(torch.arange(10)[None])
    with pytest.raises(ValueError, match="keep is 0"):
        none.html(tmp_path / "none.html")
    with pytest.raises(ValueError, match="no call of a norm was recorded"):
        it.watch(model).html(tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists() and len(none.records) == 5


def test_what_is_kept_is_bounded_and_own():
    model = nn.Sequential(nn.RMSNorm(4))
    x = torch.arange(40.0).reshape(10, 4)
    with it.watch(model, keep=12) as w:
        model(x)
        model(-x)
    kept = w._kept["0"]
    assert same(kept, x[[0, 3, 6]]) and kept.untyped_storage().nbytes() == 12 * 4
    for keep, rows in ((1, 1), (40, 10), (1 << 20, 10)):
        with it.watch(model, keep=keep) as w:
            model(x)
        assert w._kept["0"].shape[0] == rows
    x.zero_()
    assert w._kept["0"].sum() == 780


def test_arguments():
    with pytest.raises(TypeError, match="model is a int, but has to be a torch.nn.Module"):
        it.watch(3)
    with pytest.raises(ValueError, match="model has no norm"):
        it.watch(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="keep is -1"):
        it.watch(nn.RMSNorm(2), keep=-1)
    norm = nn.RMSNorm(2)
    with it.watch(norm) as w:
        norm(torch.ones(2))
    assert w.records[0]["module"] == "" and repr(w) == "<watch: 1 norms, 1 records>"
    pandas = pytest.importorskip("pandas")
    assert list(pandas.DataFrame(w.records)["class"]) == ["RMSNorm"]


def test_patched_models_keep_their_classes_names_and_gates_count():
    import isonorm.transformers
    from transformers.models.mamba2.modeling_mamba2 import MambaRMSNormGated

    model, ids = llama(torch.bfloat16), torch.arange(10)[None]
    with it.watch(model) as before:
        model(ids)
    isonorm.transformers.patch(model)
    with it.watch(model) as after:
        model(ids)
    assert len(after.records) == 5 and after.records[0] == before.records[0]
    assert {r["class"] for r in after.records} == {"LlamaRMSNorm"}
    gated = nn.Sequential(MambaRMSNormGated(8, 4))
    x, gate = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    with it.watch(gated) as w:
        gated[0](x, gate)
    compared = isonorm.compare((x * nn.functional.silu(gate)).reshape(-1, 4), eps=1e-6)
    assert {key: w.records[0][key] for key in compared} == compared
