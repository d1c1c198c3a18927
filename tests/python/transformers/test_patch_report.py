"""What `patch` reports and skips, and what importing it does not import."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from norms import CASES, COLS, random_rows, same_bits
from torch import nn
from torch.nn.utils import parametrizations

from isonorm.transformers import Report, Row, patch, unpatch

LLAMA = CASES[0]


class Unknown(nn.Module):
    """Named as a norm is not, but one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().sum(-1, keepdim=True))


class MyNorm(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.norm()


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input_norm = LLAMA.make()
        self.linear = nn.Linear(COLS, COLS)
        self.output_norm = nn.LayerNorm(COLS)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(3))
        self.batch = nn.BatchNorm1d(COLS)
        self.unknown = Unknown()
        self.mine = MyNorm()
        self.norm = nn.RMSNorm(COLS)


def test_table() -> None:
    model = Model()
    assert re.sub(r"digest [0-9a-f]{16}\)", "digest …)", str(patch(model, dry_run=True))) == "\n".join(
        [
            "module                number  class         contract    result",
            "layers.*.input_norm   3       LlamaRMSNorm  llama       would be swapped",
            "layers.*.output_norm  3       LayerNorm     layer_norm  would be swapped",
            "unknown               1       Unknown                   skipped: its source is not known (digest …)",
            "mine                  1       MyNorm                    skipped: its source is not known (digest …)",
            "norm                  1       RMSNorm       torch       would be swapped",
            "7 would be swapped, 2 skipped",
        ]
    )
    assert unpatch(model) == 0
    report = patch(model)
    assert "layers.*.input_norm   3       LlamaRMSNorm  llama       swapped" in str(report)
    assert str(report).endswith("\n7 swapped, 2 skipped")


def test_rows() -> None:
    model = Model()
    report = patch(model, layer_norm=False)
    assert isinstance(report, Report) and len(report) == 4 and report and not report.dry_run
    names = ["layers.0.input_norm", "layers.1.input_norm", "layers.2.input_norm", "norm"]
    assert [row.name for row in report.swapped] == names
    assert report.swapped[0] == Row("layers.0.input_norm", "LlamaRMSNorm", "llama") and report.swapped[0].swapped
    assert len(report.skipped) == 5 and all(row.reason for row in report.skipped)
    assert {row.reason for row in report.skipped if row.contract == "layer_norm"} == {"LayerNorm stays, by layer_norm=False"}
    again = patch(model, layer_norm=False)
    assert not again and [row.reason for row in again.skipped if row.contract != "layer_norm"][:3] == ["patched already"] * 3
    assert len(patch(model)) == 3
    assert unpatch(model) == 7 and unpatch(model) == 0
    assert [type(module) for module in model.modules()] == [type(module) for module in Model().modules()]


def test_a_norm_by_itself_and_a_shared_one() -> None:
    assert "(the model)" in str(patch(nn.RMSNorm(4)))
    shared = nn.RMSNorm(4)
    model = nn.ModuleList([shared, nn.Sequential(shared)])
    assert len(patch(model)) == 1 and unpatch(model) == 1
    assert str(patch(nn.Linear(2, 2))) == "module  number  class  contract  result\n0 swapped, 0 skipped"


def test_forward_that_another_package_replaced() -> None:
    """As kernels, accelerate and Liger do it to a module."""
    module = LLAMA.make()
    module.forward = lambda hidden_states: hidden_states  # type: ignore[method-assign]
    report = patch(module)
    assert not report and report.skipped[0].reason == "its forward was replaced by another package"
    # After patching, theirs runs too.
    other = LLAMA.make()
    assert patch(other)
    other.forward = lambda hidden_states: hidden_states * 0  # type: ignore[method-assign]
    assert not other(random_rows(torch.float32)).any()
    assert unpatch(other) == 1 and not other(random_rows(torch.float32)).any()


def test_parametrized_modules() -> None:
    module = LLAMA.make()
    torch.nn.utils.parametrize.register_parametrization(module, "weight", nn.Tanh())
    report = patch(module)
    assert not report and report.skipped[0].reason == "weight is a property of ParametrizedLlamaRMSNorm"
    module = nn.RMSNorm(COLS)
    module.register_buffer("other", torch.ones(2))
    torch.nn.utils.parametrize.register_parametrization(module, "other", nn.Tanh())
    assert patch(module).skipped[0].reason == "it is parametrized"
    # The other way round: their class goes over ours, and both go.
    module, plain = LLAMA.make(), LLAMA.make()
    assert patch(module)
    torch.nn.utils.parametrize.register_parametrization(module, "weight", nn.Tanh())
    assert unpatch(module) == 0
    torch.nn.utils.parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
    assert unpatch(module) == 1 and type(module) is type(plain)
    x = random_rows(torch.float32)
    assert same_bits(module(x), plain(x))
    linear = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.RMSNorm(4))
    assert len(patch(linear)) == 1


def test_activation_that_no_contract_has() -> None:
    case = next(case for case in CASES if case.name == "Qwen3NextRMSNormGated")
    module = case.make()
    module.activation = "gelu"
    assert patch(module).skipped[0].reason == "its activation is 'gelu', not silu or sigmoid"


def test_activation_of_another_table(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in CASES if case.name == "Qwen3NextRMSNormGated")
    monkeypatch.setitem(case.cls.forward.__globals__, "ACT2FN", {"silu": nn.GELU()})
    assert patch(case.make()).skipped[0].reason == "its activation 'silu' is a GELU"


@pytest.mark.parametrize("model", [None, torch.ones(2), nn.RMSNorm, {"model": nn.RMSNorm(2)}])
def test_no_model(model: Any) -> None:
    for function in (patch, unpatch):
        with pytest.raises(TypeError, match=f"^model is a {type(model).__name__}, but has to be a torch.nn.Module$"):
            function(model)


def test_isonorms_own_modules_are_no_matter() -> None:
    report = patch(nn.ModuleList([nn.RMSNorm(3)]))
    made = type("OwnRMSNorm", (nn.Module,), {"__module__": "isonorm.torch.modules", "forward": lambda self, x: x})
    assert report and patch(made()).rows == ()


def test_imports_little() -> None:
    program = (
        "import sys, isonorm.transformers, torch;"
        "m = torch.nn.Sequential(torch.nn.RMSNorm(4)); assert isonorm.transformers.patch(m); m(torch.ones(4)).sum().backward();"
        "print([name for name in ('transformers', 'triton', 'torch._dynamo', 'torch._inductor') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
