"""Bodies of older versions of `transformers`, written down as those have them, and their digests."""

from __future__ import annotations

import importlib.util
import pathlib
from typing import Any

import pytest
import torch
from norms import COLS, random_rows, ulps

from isonorm.transformers import patch

HEAD = """
import torch
from torch import nn
import torch.nn.functional as F

def rms_forward(hidden_states, variance_epsilon=1e-6):
    input_dtype = hidden_states.dtype
    hidden_states = hidden_states.to(torch.float32)

    variance = hidden_states.pow(2).mean(-1, keepdim=True)
    hidden_states = hidden_states * torch.rsqrt(variance + variance_epsilon)
    return hidden_states.to(input_dtype)

class Norm(nn.Module):
    def __init__(self, cols, **attributes):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 2, cols))
        self.variance_epsilon = self.eps = 1e-6
        self.__dict__.update(attributes)
"""
FALCON_MAMBA = """
    def forward(self, hidden_states):
        return self.weight.to(hidden_states.device) * rms_forward(
            hidden_states, variance_epsilon=self.variance_epsilon
        )
"""
GEMMA3N = """
    def _norm(self, x):
        return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)

    def forward(self, x):
        output = self._norm(x.float()) * self.weight.float()
        return output.type_as(x)
"""
QWEN3_NEXT = """
    def forward(self, hidden_states, gate=None):
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        hidden_states = self.weight * hidden_states.to(input_dtype)
        hidden_states = hidden_states * F.silu(gate.to(torch.float32))

        return hidden_states.to(input_dtype)
"""
MAMBA2 = """
    def forward(self, hidden_states, gate=None):
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)

        if gate is not None:
            hidden_states = hidden_states * nn.functional.silu(gate.to(torch.float32))
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)

        return self.weight * hidden_states.to(input_dtype)
"""
FALCON_H1 = """
    def forward(self, hidden_states, gate=None):
        input_dtype = hidden_states.dtype

        if not self.norm_before_gate and gate is not None:
            hidden_states = hidden_states * F.silu(gate.to(torch.float32))

        if len(hidden_states.shape) == 3:
            batch_size, seq_len, dim = hidden_states.shape
        else:
            batch_size, dim = hidden_states.shape
            seq_len = 1
        hidden_states = hidden_states.to(torch.float32)

        hidden_states = hidden_states.view(batch_size, seq_len, self.n_groups, int(dim // self.n_groups))
        variance = hidden_states.pow(2).mean(-1, keepdim=True)

        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)

        hidden_states = self.weight.view(self.n_groups, int(dim // self.n_groups)) * hidden_states
        hidden_states = hidden_states.view(batch_size, seq_len, dim)

        if seq_len == 1:
            hidden_states = hidden_states.squeeze(1)

        if self.norm_before_gate and gate is not None:
            hidden_states = hidden_states * F.silu(gate.to(torch.float32))
        return hidden_states.to(input_dtype)
"""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "body, gate, attributes",
    [
        pytest.param(FALCON_MAMBA, False, {}, id="FalconMamba"),
        pytest.param(GEMMA3N, False, {"with_scale": True}, id="Gemma3n"),
        pytest.param(QWEN3_NEXT, True, {}, id="Qwen3Next"),
        pytest.param(MAMBA2, True, {}, id="Mamba2"),
        pytest.param(FALCON_H1, True, {"n_groups": 3, "norm_before_gate": True}, id="FalconH1, gate after"),
        pytest.param(FALCON_H1, True, {"n_groups": 2, "norm_before_gate": False}, id="FalconH1, gate before"),
    ],
)
def test_older_bodies(tmp_path: pathlib.Path, body: str, gate: bool, attributes: dict[str, Any], dtype: torch.dtype) -> None:
    path = tmp_path / "older.py"
    path.write_text(HEAD + body)
    spec = importlib.util.spec_from_file_location("older", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plain, patched = (module.Norm(COLS, **attributes).to(dtype) for _ in range(2))
    report = patch(patched)
    assert len(report) == 1, str(report)
    for x in (random_rows(dtype, rows=300), random_rows(dtype)[:, :1], random_rows(dtype)[0]):
        inputs = (x, torch.randn(x.shape).to(dtype)) if gate else (x,)
        expected, got = plain(*inputs), patched(*inputs)
        off = ulps(got, expected)
        assert int(off.max()) <= 4 and float((off > 0).double().mean()) < 0.002
    if not gate or body in (MAMBA2, FALCON_H1):
        x = random_rows(dtype)
        assert int(ulps(patched(x), plain(x)).max()) <= 2
