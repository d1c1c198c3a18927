"""Every norm of the installed `transformers` is known, and a body that was altered is not."""

import ast
import importlib
import importlib.util
import pathlib
import re
from typing import Any

import norms
import pytest
import torch
import transformers
from norms import CASES, Case

from isonorm.transformers import patch
from isonorm.transformers.bodies import BODIES, body_of
from isonorm.transformers.sources import UnknownSource, digest

NORMS = norms.parsed_norms()
RMS_NORMS = [norm for norm in NORMS if "RMSNorm" in norm.name]


def test_every_rms_norm_of_transformers_is_known() -> None:
    unknown = [f"{norm.model}.{norm.name}: {norm.digest}" for norm in RMS_NORMS if norm.body is None]
    assert not unknown, f"norms of transformers {transformers.__version__} that bodies.py does not know: {unknown}"


@pytest.mark.skipif(transformers.__version__ != "5.24.0", reason="counts classes of transformers 5.24.0")
def test_counts_of_the_version_that_was_read() -> None:
    assert (len(RMS_NORMS), len({norm.digest for norm in RMS_NORMS})) == (213, 21)
    alone = [norm.name for norm in RMS_NORMS if norm.body is not None and norm.body.plan is None]
    assert sorted(alone) == ["AXK2GatedRMSNorm", "HYV4UnweightedRMSNorm", "HYV4VLUnweightedRMSNorm"]


def test_every_other_norm_of_rows_is_known() -> None:
    """Those with another name that take a root of a mean of squares; norms of batches and of groups of channels are none."""
    unknown = []
    for norm in NORMS:
        methods = [item for item in norm.node.body if isinstance(item, ast.FunctionDef) and item.name != "__init__"]
        if any(re.search(r"rsqrt|torch\.sqrt|rms_norm\(", ast.unparse(method)) for method in methods):
            if not re.search("BatchNorm|GroupNorm", norm.name) and norm.body is None:
                unknown.append(f"{norm.model}.{norm.name}: {norm.digest}")
    assert not unknown, ", ".join(unknown)


def test_t5_family_has_one_body() -> None:
    family = {norm.model: norm.name for norm in NORMS if norm.digest == "b5a15c016629f37a"}
    family.pop("idefics")
    models = "kosmos2_5 longt5 mt5 pix2struct pop2piano switch_transformers t5 udop umt5"
    assert sorted(family) == models.split() and all(name.endswith("LayerNorm") for name in family.values())


@pytest.mark.parametrize("key, body", BODIES.items(), ids=lambda item: item if isinstance(item, str) else item.example)
def test_table_names_a_class_of_that_body(key: str, body: Any) -> None:
    """And the class as imported has the digest of its text, so that the counts above are those of `patch`."""
    if "before" in body.example:
        assert not any(norm.digest == key for norm in NORMS)
        return
    if body.example.startswith("torch.nn."):
        assert digest(getattr(torch.nn, body.example.removeprefix("torch.nn."))) == key
        return
    norm = next(norm for norm in NORMS if norm.name == body.example)
    if "super().forward" not in ast.unparse(norm.node):
        assert norm.digest == key
    cls = getattr(importlib.import_module(f"transformers.models.{norm.model}.modeling_{norm.model}"), body.example)
    assert digest(cls) == key and body_of(cls) is body
    assert (body.plan is None) == bool(body.reason)


def test_every_body_with_a_plan_has_a_case() -> None:
    """The tests of numbers go through all of them; older bodies are in test_patch_older.py."""
    cases = {id(body_of(case.cls)) for case in CASES}
    current = [body for body in BODIES.values() if body.plan and "before" not in body.example]
    assert [body.example for body in current if id(body) not in cases] == []


SOURCE = """
import functools
import torch
from torch import nn

class Norm(nn.Module):
    def __init__(self, cols, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(cols))
        self.variance_epsilon = eps

    def forward(self, hidden_states):
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        return self.weight * hidden_states.to(input_dtype)
"""


def _import(tmp_path: pathlib.Path, source: str) -> Any:
    path = tmp_path / f"altered_{abs(hash(source))}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "old, new",
    [
        ("", ""),
        ("class Norm", "class Other"),
        ("def forward(self, hidden_states):", "def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:"),
        ("        input_dtype =", '        """Says what it does."""\n        # and how\n        input_dtype ='),
        ("hidden_states.to(torch.float32)", "hidden_states.to(\n            torch.float32,\n        )"),
        ("class Norm", "class Base(nn.Module):\n    pass\n\nclass Norm"),
    ],
)
def test_what_does_not_change_a_body(tmp_path: pathlib.Path, old: str, new: str) -> None:
    module = _import(tmp_path, SOURCE.replace(old, new))
    cls = getattr(module, "Norm", None) or module.Other
    assert body_of(cls) is BODIES["f5c95295c0f85e5a"]
    inherits = type("Inherits", (cls,), {"note": "no method of the body"})
    assert body_of(inherits) is BODIES["f5c95295c0f85e5a"]


@pytest.mark.parametrize(
    "old, new, reason",
    [
        ("pow(2)", "pow(4)", "its source is not known"),
        ("mean(-1", "mean(0", "its source is not known"),
        ("return self.weight * hidden", "return hidden", "its source is not known"),
        ("rsqrt(variance + self.variance_epsilon)", "rsqrt(variance) + self.variance_epsilon", "its source is not known"),
        ("    def forward", "    @torch.no_grad()\n    def forward", "is wrapped"),
        ("    def forward", "    @functools.lru_cache\n    def forward", "is wrapped"),
        ("    def forward", "    @lambda f: f\n    def forward", "its source is not known"),
        ("    def forward", "    variance_epsilon = property(id)\n    def forward", "variance_epsilon is a property"),
        ("\nclass", "\nclass torch(torch.Tensor):\n    rsqrt = staticmethod(lambda x: x)\n\nclass", "is not PyTorch's"),
        ("    def forward", "    def weight(self):\n        pass\n    def forward", "its source is not known"),
    ],
)
def test_what_changes_a_body(tmp_path: pathlib.Path, old: str, new: str, reason: str) -> None:
    assert old in SOURCE
    source = SOURCE.replace(old, new, 1)
    if "staticmethod" in new:  # a module in which `torch` is something else
        source = source.replace("\nclass torch(", "\nclass torch_(") + "\ntorch = torch_\n"
    module = _import(tmp_path, source)
    found = body_of(module.Norm)
    assert isinstance(found, str) and reason in found, found


def test_helper_of_a_subclass_counts() -> None:
    gemma = next(case for case in CASES if case.name == "GemmaRMSNorm").cls
    assert body_of(gemma) is BODIES["3b3f6d977ddddc48"]

    class Altered(gemma):  # type: ignore[misc, valid-type]
        def _norm(self, x: torch.Tensor) -> torch.Tensor:
            return x

    assert isinstance(body_of(Altered), str)


def test_no_source_no_body() -> None:
    scope: dict[str, Any] = {}
    exec(SOURCE, scope)
    assert body_of(scope["Norm"]) == "the source of Norm.forward cannot be read"
    with pytest.raises(UnknownSource, match="cannot be read"):
        digest(scope["Norm"])


def test_forward_that_was_replaced_in_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Liger does it."""
    case = Case("llama", "LlamaRMSNorm", 2)

    def forward(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states * 2

    monkeypatch.setattr(case.cls, "forward", forward)
    report = patch(case.make())
    assert not report and "not known" in report.skipped[0].reason


def test_names_are_no_key() -> None:
    for name in ("HYV4UnweightedRMSNorm", "HYV4VLUnweightedRMSNorm"):
        module = Case("hy_v4" if name.startswith("HYV4U") else "hy_v4_vl", name, 1, args=()).make()
        report = patch(module)
        assert not report and report.skipped[0].reason == "returns the scale only, which is no norm"
        assert type(module).__name__ == name
