"""One module of each known body, from the installed `transformers`, and what the tests compare."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import pathlib
import re
import textwrap
from typing import Any, Optional

import torch
import transformers
from torch import Tensor, nn

from isonorm.transformers import patch, sources
from isonorm.transformers.bodies import BODIES, Body

COLS = 96
KINDS = (torch.float32, torch.bfloat16, torch.float16)
HALVES = (torch.bfloat16, torch.float16)
_INTEGERS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float64: torch.int64}


@dataclasses.dataclass(frozen=True)
class Case:
    """A class of `transformers` (or of PyTorch) and how it is made; `roundings` to a storage type, from row to result."""

    model: str
    name: str
    roundings: int
    args: tuple[Any, ...] = (COLS,)
    options: tuple[tuple[str, Any], ...] = ()
    gate: bool = False
    layer_norm: bool = False

    def __str__(self) -> str:
        return self.name + "".join(f"-{key}={value}" for key, value in self.options)

    @property
    def cls(self) -> Any:
        where = f"transformers.models.{self.model}.modeling_{self.model}" if self.model else "torch.nn"
        return getattr(importlib.import_module(where), self.name)

    def make(self, dtype: torch.dtype = torch.float32, eps: Optional[float] = None, seed: int = 0) -> nn.Module:
        """A module with random parameters near those it begins with."""
        if self.name == "CpmAntLayerNorm":
            module = self.cls(transformers.CpmAntConfig(hidden_size=COLS))
            nn.init.ones_(module.weight)
        else:
            module = self.cls(*self.args, **dict(self.options))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
        if eps is not None:
            setattr(module, "variance_epsilon" if hasattr(module, "variance_epsilon") else "eps", eps)
        return module.to(dtype).eval()

    def pair(self, dtype: torch.dtype = torch.float32, eps: Optional[float] = None) -> tuple[nn.Module, nn.Module]:
        """The same module twice, the second one patched."""
        plain, patched = self.make(dtype, eps), self.make(dtype, eps)
        report = patch(patched, layer_norm=self.layer_norm)
        assert len(report) == 1, str(report)
        return plain, patched

    def inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """What forward takes: rows of x, as an image for those that want one, and a gate where there is one."""
        if self.cls.__name__ in ("ConvNextLayerNorm", "EomtLayerNorm2d"):
            x = x.reshape(2, -1, 5, COLS)
            if self.name == "EomtLayerNorm2d" or self.options:
                x = x.permute(0, 3, 1, 2)
        generator = torch.Generator().manual_seed(11)
        return (x, torch.randn(x.shape, generator=generator).to(x.dtype)) if self.gate else (x,)


CASES = [
    Case("llama", "LlamaRMSNorm", 2),
    Case("llama4", "Llama4TextRMSNorm", 2),
    Case("cpmant", "CpmAntLayerNorm", 2),
    Case("olmo2", "Olmo2RMSNorm", 1),
    Case("helium", "HeliumRMSNorm", 1),
    Case("moshi", "MoshiRMSNorm", 1),
    Case("gemma4", "Gemma4RMSNorm", 1),
    Case("gemma4", "Gemma4RMSNorm", 1, options=(("with_scale", False),)),
    Case("nanochat", "NanoChatRMSNorm", 1, args=()),
    Case("llama4", "Llama4TextL2Norm", 1, args=()),
    Case("inkling2", "Inkling2UnweightedRMSNorm", 1, args=()),
    Case("deepseek_v4", "DeepseekV4UnweightedRMSNorm", 1, args=()),
    Case("gemma", "GemmaRMSNorm", 1),
    Case("qwen4_exp", "Qwen4ExpTextRMSNorm", 1),
    Case("qwen4_exp", "Qwen4ExpTextRMSNorm", 1, options=(("group_size", 32),)),
    Case("muse_spark", "MuseSparkTextCenteredRMSNorm", 1),
    Case("muse_spark", "MuseSparkTextInputScaledRMSNorm", 1),
    Case("t5", "T5LayerNorm", 2),
    Case("idefics", "IdeficsRMSNorm", 2),
    Case("xlstm", "xLSTMRMSNorm", 2),
    Case("xlstm", "xLSTMRMSNorm", 1, options=(("use_weight", False),)),
    Case("", "RMSNorm", 1),
    Case("mamba2", "MambaRMSNormGated", 2, args=(COLS, 48), gate=True),
    Case("qwen3_next", "Qwen3NextRMSNormGated", 3, gate=True),
    Case("qwen4_exp", "Qwen4ExpTextRMSNormGated", 3, options=(("activation", "sigmoid"),), gate=True),
    Case("kimi_linear", "KimiLinearRMSNormGated", 1, gate=True),
    Case("lara_mini", "LaraMiniRMSNormGated", 1, gate=True),
    Case("falcon_h1", "FalconH1RMSNormGated", 1, options=(("n_groups", 3),), gate=True),
    Case("falcon_h1", "FalconH1RMSNormGated", 1, options=(("norm_before_gate", False),), gate=True),
    Case("", "LayerNorm", 1, layer_norm=True),
    Case("cohere", "CohereLayerNorm", 1, layer_norm=True),
    Case("olmo", "OlmoLayerNorm", 1, layer_norm=True),
    Case("esmfold2", "EsmFold2LayerNorm", 1, layer_norm=True),
    Case("esmc", "EsmcLayerNorm", 1, layer_norm=True),
    Case("videoprism", "VideoPrismLayerNorm", 1, layer_norm=True),
    Case("convnext", "ConvNextLayerNorm", 1, layer_norm=True),
    Case("convnext", "ConvNextLayerNorm", 1, options=(("data_format", "channels_first"),), layer_norm=True),
    Case("eomt", "EomtLayerNorm2d", 1, layer_norm=True),
]


def random_rows(dtype: torch.dtype, rows: int = 40, seed: int = 1) -> Tensor:
    """[2, rows, COLS], of several magnitudes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, rows, COLS, generator=generator) * torch.exp2(torch.randint(-6, 7, (2, rows, 1), generator=generator))
    return x.to(dtype)


def ulps(got: Tensor, expected: Tensor) -> Tensor:
    """How many values of their type lie between two tensors of one type; no NaN gets through."""
    assert got.dtype == expected.dtype and got.shape == expected.shape
    assert not got.isnan().any() and not expected.isnan().any()
    places = []
    for tensor in (got, expected):
        bits = tensor.contiguous().view(_INTEGERS[tensor.dtype]).to(torch.int64)
        least = -(1 << (8 * tensor.element_size() - 1))
        places.append(torch.where(bits < 0, least - bits, bits))
    return (places[0] - places[1]).abs()


def same_bits(got: Tensor, expected: Tensor) -> bool:
    kind = _INTEGERS[got.dtype]
    return got.dtype == expected.dtype and torch.equal(got.contiguous().view(kind), expected.contiguous().view(kind))


@dataclasses.dataclass(frozen=True)
class Parsed:
    """A class of a modeling file that was parsed and not imported; `digest` is empty without a forward."""

    model: str
    name: str
    node: ast.ClassDef
    digest: str

    @property
    def body(self) -> Optional[Body]:
        return BODIES.get(self.digest)


@functools.cache
def parsed_norms() -> list[Parsed]:
    """Every class of `transformers` with Norm in its name; only the text of classes is parsed, which takes seconds less."""
    found = []
    for path in sorted((pathlib.Path(transformers.__file__).parent / "models").rglob("modeling_*.py")):
        for match in re.finditer(r"^( *)class \w*Norm\w*\b.*\n(?:(?:\1 +.*)?\n)*", path.read_text(), re.MULTILINE):
            node = ast.parse(textwrap.dedent(match.group())).body[0]
            assert isinstance(node, ast.ClassDef)
            found.append(Parsed(path.parent.name, node.name, node, digest_of_text(node)))
    return found


def digest_of_text(node: ast.ClassDef) -> str:
    """sources.digest of a class that calls methods of its own only; empty without a forward."""
    methods = {method.name: method for method in node.body if isinstance(method, ast.FunctionDef)}
    texts: dict[str, str] = {}

    def visit(name: str) -> None:
        if name in methods and name not in texts:
            texts[name] = sources.canonical(methods[name])
            for called in sources._own_names(methods[name]):
                visit(called)

    visit("forward")
    return sources._hash("\n".join(texts.values())) if texts else ""
