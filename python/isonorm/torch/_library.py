"""The operators of libisonorm_torch.so, loaded beside the torch that is imported."""

from __future__ import annotations

import ctypes
import pathlib

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: isonorm.torch needs PyTorch, as `pip install 'torch>=2.10'` installs it") from None

if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
    raise ImportError(f"isonorm.torch needs torch 2.10 or later, but this is torch {torch.__version__}")

PATH = str(pathlib.Path(__file__).resolve().parent.parent / "libisonorm_torch.so")
handle = ctypes.CDLL(PATH)  # its initialiser registers the operators

ops = torch.ops.isonorm
