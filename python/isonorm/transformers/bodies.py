"""The bodies of norms that are known, by the digest of their source: what contract each one is, or why it is left alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Optional, Union

import torch
from torch import nn

from isonorm import contracts
from isonorm.transformers import layers, plans
from isonorm.transformers.plans import AS_WEIGHT, AS_X, PROMOTED, Plan
from isonorm.transformers.sources import UnknownSource, digest


@dataclasses.dataclass(frozen=True)
class Body:
    """A body of forward.

    example: a class of that body. contract: as the report names it. plan: see plans.py; None: left alone, for this reason.
    parameters: the names of what forward takes. weight_first: the weight multiplies x before the norm, which does not see its
        gradient. layer_norm: not swapped by layer_norm=False. keeps_order: the result lies in
        memory as x does, and is not contiguous where x is not. check: says of a module why it is skipped.
    """

    example: str
    contract: str
    plan: Optional[Plan] = None
    parameters: tuple[str, ...] = ("hidden_states",)
    reason: str = ""
    weight_first: bool = False
    layer_norm: bool = False
    keeps_order: bool = True
    check: Optional[Callable[[Any], Optional[str]]] = None


def _activation(module: Any) -> Optional[str]:
    """The gate's function is looked up by name, in a table that other packages may fill."""
    name, expected = module.activation, {"silu": (nn.SiLU, "SiLUActivation"), "sigmoid": (nn.Sigmoid,)}
    function = plans.GATES.get(name) if isinstance(name, str) else None
    if function is None:
        return f"its activation is {name!r}, not silu or sigmoid"
    found = type(type(module).forward.__globals__["ACT2FN"][name])
    if found not in expected[function] and found.__name__ not in expected[function]:
        return f"its activation {name!r} is a {found.__name__}"
    return None


def _gated(base: contracts.Contract, place: str) -> dict[str, contracts.Contract]:
    return {f: dataclasses.replace(base, gate_place=place, gate_function=f) for f in ("silu", "sigmoid")}


_after_llama = _gated(contracts.llama, "after")
_after_torch = _gated(contracts.torch, "after")
_before_torch = _gated(contracts.torch, "before")["silu"]
_llama = plans.weighted("llama", PROMOTED, "variance_epsilon")
_torch = plans.weighted("torch", AS_X, "variance_epsilon")
_GATED = ("hidden_states", "gate")
_X = ("x",)

BODIES: dict[str, Body] = {
    # Llama and most others: float32, rounded to x's type, then times the weight.
    "f5c95295c0f85e5a": Body("LlamaRMSNorm", "llama", _llama),
    "35199ec292caa373": Body("Llama4TextRMSNorm", "llama", plans.weighted("llama", PROMOTED, "eps"), _X),
    "f3b22c581e15c723": Body("FalconMambaRMSNorm before transformers 5.1", "llama", _llama),
    "5f6f50a68c622cce": Body("CpmAntLayerNorm", "llama", plans.weighted("llama", PROMOTED, "eps")),
    # OLMo 2, gpt-oss, Helium, Moshi: all of it in float32.
    "9bb6bb8e55cf1713": Body("Olmo2RMSNorm", "torch", _torch),
    "f8ed60cd782f6eeb": Body("HeliumRMSNorm", "torch", _torch),
    "f4c542228fe20576": Body("MoshiRMSNorm", "torch", plans.weighted("torch", AS_X, "eps"), _X),
    "c66313d907977904": Body("Gemma4RMSNorm", "torch", plans.optional_weight),
    "f907aa03f6e5f556": Body("Gemma3nRMSNorm before transformers 5.1", "torch", plans.optional_weight, _X),
    # Without a weight.
    "c197c03eb463e39d": Body("NanoChatRMSNorm", "torch", plans.weightless(), _X),
    "e2698327988d591d": Body("Inkling2UnweightedRMSNorm", "torch", plans.weightless()),
    "8d56367c3952a861": Body("DeepseekV4UnweightedRMSNorm", "torch, float32 only", plans.weightless((torch.float32,)), _X),
    # Gemma: times 1 + weight.
    "3b3f6d977ddddc48": Body("GemmaRMSNorm", "gemma", plans.weighted("gemma", AS_X, "eps"), _X),
    "85450951df90bd38": Body("Qwen4ExpTextRMSNorm", "gemma, groups", plans.grouped_gemma, _X),
    "f9b76aaa70112f32": Body("MuseSparkTextCenteredRMSNorm", "torch of 1 + weight", plans.centred, _X),
    "bad6e7acf249ae6f": Body(
        "MuseSparkTextInputScaledRMSNorm", "torch of x (1 + weight)", plans.input_scaled, _X, weight_first=True
    ),
    # T5: rounded to the weight's type.
    "b5a15c016629f37a": Body("T5LayerNorm", "t5", plans.weighted("t5", AS_WEIGHT, "variance_epsilon")),
    # With a gate.
    "3b641c3352fd35eb": Body("MambaRMSNormGated", "mamba2, groups", plans.gate_before, _GATED),
    "d7fd1983b162f50c": Body("MambaRMSNormGated before groups", "mamba2", plans.gate_before_ungrouped, _GATED),
    "80995995be3e1df7": Body(
        "Qwen3NextRMSNormGated", "llama, then gate", plans.gate_after(_after_llama), _GATED, check=_activation
    ),
    "402d7530e2e725b2": Body(
        "Qwen3NextRMSNormGated before transformers 5.1", "qwen3_next_gated", plans.gate_after(_after_llama, "silu"), _GATED
    ),
    "2e235eeef629d118": Body(
        "KimiLinearRMSNormGated", "torch, then gate", plans.gate_after(_after_torch), _GATED, check=_activation
    ),
    "ed646ba55a5494a5": Body(
        "FalconH1RMSNormGated", "torch, groups, gate", plans.falcon(_before_torch, _after_torch["silu"]), _GATED
    ),
    "6d6da9b027fc4470": Body(
        "FalconH1RMSNormGated before transformers 5.1",
        "torch, groups, gate",
        plans.falcon(_before_torch, _after_torch["silu"], squeezes=True),
        _GATED,
    ),
    "ef71048abf3eef22": Body("xLSTMRMSNorm", "llama", plans.xlstm, _X),
    # Left alone.
    "cce351ca46dd0a72": Body("HYV4UnweightedRMSNorm", "", reason="returns the scale only, which is no norm"),
    "630e58949d212879": Body("AXK2GatedRMSNorm", "", reason="a norm and layers; the norm inside is a module by itself"),
    "7d8051f64100f884": Body("DoryL2Norm", "", reason="divides by the length, not by the root mean square"),
    "5df1e598e9a61138": Body("GradiumPhononTTSTimestepNorm", "", reason="multiplies by weight before scale, in x's type"),
    "0e400044bc2ea8d7": Body("ImageGPTLayerNorm", "", reason="computes in x's type and divides"),
    "d8fbc69d9b0c87bb": Body("ZayaQKNorm", "", reason="normalises q and k to a length"),
    "e0ffa26cb7787557": Body("PocketTTSFlowLayerNorm", "", reason="a LayerNorm that computes in x's type"),
    "466555811cd9057c": Body("PocketTTSTimestepNorm", "", reason="divides by the variance, which takes the mean away"),
    "92aad30f852b0a76": Body("VitDetLayerNorm", "", reason="a LayerNorm of channels that computes in x's type"),
    "79ffef5f9c92811c": Body("DebertaLayerNorm", "", reason="a LayerNorm that rounds before weight and bias"),
    "32c083735d175fd1": Body("xLSTMMultiHeadLayerNorm", "", reason="a LayerNorm that rounds before weight and bias"),
    "dc92fa237d746bfb": Body("ChameleonLayerNorm", "", reason="a LayerNorm that rounds before weight and bias"),
    # LayerNorm, on request.
    "54673c4e19ebd9a4": Body("CohereLayerNorm", "layer_norm", layers.cohere, layer_norm=True),
    "25b9e30b629fe043": Body("OlmoLayerNorm", "layer_norm", layers.olmo, layer_norm=True),
    "88b63b87c9ab79d5": Body("EsmFold2LayerNorm", "layer_norm", layers.layer_norm_float, layer_norm=True),
    "f42fb3450c2626ab": Body("VideoPrismLayerNorm", "layer_norm of 1 + weight", layers.offset_layer_norm, layer_norm=True),
    "05ca7ba693e6a36b": Body("EsmcLayerNorm", "layer_norm", layers.layer_norm, layer_norm=True),
    "a150281b8e0c8332": Body("ConvNextLayerNorm", "layer_norm", layers.channels(False), ("features",), layer_norm=True),
    "420a0e832780a518": Body("EomtLayerNorm2d", "layer_norm", layers.channels(True), ("hidden_state",), layer_norm=True),
    # PyTorch's own, and subclasses that leave their forward as it is.
    "75ca7ca893b5631c": Body("torch.nn.RMSNorm", "torch", layers.torch_rms_norm, _X, keeps_order=False),
    "3c3c8ebefeb00000": Body("torch.nn.LayerNorm", "layer_norm", layers.layer_norm, ("input",), layer_norm=True),
}


def body_of(cls: type) -> Union[Body, str]:
    """The body of a class, or a sentence about why it is not known."""
    try:
        key = digest(cls)
    except UnknownSource as reason:
        return str(reason)
    return BODIES.get(key, f"its source is not known (digest {key})")
