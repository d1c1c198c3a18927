"""Rows of models of Hugging Face: one patched norm beside its own forward, and a whole small Llama, patched and not."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch_rows
from race import Candidate
from rows import EPS, LARGE, MANY, NUMPY, ROW, TORCH, Against, Data, Row
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

import isonorm.transformers


def norms(dtype: str, grad: bool) -> Any:
    def make(data: Data, quick: bool) -> list[Candidate]:
        names = torch_rows.tensors(data, dtype, grad)
        own = LlamaRMSNorm(names["x"].shape[-1], EPS).to(TORCH[dtype])
        with torch.no_grad():
            own.weight.copy_(names["weight"])
        patched = torch.nn.Sequential(copy.deepcopy(own))
        isonorm.transformers.patch(patched)
        candidates = []
        for name, norm in (("patched", patched[0]), ("LlamaRMSNorm", own)):
            # Of each candidate, for the lambda below and for timeit.
            mine = {**names, "norm": norm}

            def outputs(mine: dict[str, Any] = mine) -> tuple[Any, ...]:
                y = mine["norm"](mine["x"])
                return (y, *torch.autograd.grad(y, (mine["x"], mine["norm"].weight), mine["dy"])) if grad else (y,)

            after = ".backward(dy); x.grad = norm.weight.grad = None" if grad else ""
            candidates.append(Candidate(name, "norm(x)" + after, mine, outputs))
        return candidates

    return make


def llama(dtype: str, grad: bool) -> Any:
    """data.x gives the number of tokens, and the width."""

    def make(data: Data, quick: bool) -> list[Candidate]:
        tokens, width = data.x.shape
        config = LlamaConfig(
            hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=8, vocab_size=512
        )
        torch.manual_seed(0)
        own = LlamaForCausalLM(config).to(TORCH[dtype])
        patched = copy.deepcopy(own)
        isonorm.transformers.patch(patched)
        ids = torch.randint(512, (1, tokens))
        call = "model(ids, labels=ids).loss.backward(); model.zero_grad()" if grad else "model(ids).logits"
        return [
            Candidate(name, call, {"model": model, "ids": ids}) for name, model in (("patched", patched), ("not patched", own))
        ]

    return make


def rows() -> list[Row]:
    table = []
    for shape in (ROW, MANY, LARGE):
        for dtype in NUMPY:
            for name, grad, around in (("llama_norm", False, torch.no_grad), ("llama_norm_backward", True, torch.enable_grad)):
                against = (Against("LlamaRMSNorm"),)
                exact = torch_rows.exact(False, grad)
                table.append(Row(name, 1, shape, dtype, norms(dtype, grad), against, exact, around))
    for shape in ((1, 512), (128, 512)):
        for dtype in NUMPY:
            for name, grad, around in (("llama_model", False, torch.no_grad), ("llama_model_step", True, torch.enable_grad)):
                if grad and shape[0] == 1:  # a single token has no next one to learn
                    continue
                table.append(Row(name, 1, shape, dtype, llama(dtype, grad), (Against("not patched"),), None, around))
    return table
