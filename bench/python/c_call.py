"""isonorm_forward() by ctypes, with everything prepared: what a call from Python is compared with."""

from __future__ import annotations

import ctypes
import pathlib
from collections.abc import Callable

import numpy as np

import isonorm

_POINTER, _SIZE, _I32, _I64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32, ctypes.c_int64
_CODES = {"float32": (2, 32), "bfloat16": (4, 16)}  # as DLPack has them


def _structure(name: str, fields: list[tuple[str, type]]) -> type:
    return type(name, (ctypes.Structure,), {"_fields_": fields})


_TENSORS = "x weight bias residual gate rope quantization scale y residual_out mean rstd".split()
_Tensor = _structure(
    "Tensor",
    [("data", _POINTER), ("device_type", _I32), ("device_id", _I32), ("ndim", _I32), ("code", ctypes.c_uint8)]
    + [("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16), ("shape", _POINTER), ("strides", _POINTER), ("offset", _I64)],
)
_Forward = _structure(
    "Forward",
    [("struct_size", _SIZE), *((name, _POINTER) for name in _TENSORS), ("groups", _I64), ("window", _I64)]
    + [("workspace", _POINTER), ("workspace_size", _SIZE), ("stream", _POINTER), ("executor", _POINTER), ("also", _POINTER)],
)
_Contract = ctypes.c_char * 48


class CCall:
    """`run()` is the call, `empty()` one of the same arguments that does nothing: their difference is what C takes."""

    def __init__(self, x: np.ndarray, weight: np.ndarray, y: np.ndarray, eps: float) -> None:
        (path,) = pathlib.Path(isonorm.__file__).parent.glob("libisonorm.so.*")
        library = ctypes.CDLL(str(path))
        contract = _Contract()
        if library.isonorm_contract_by_name(b"torch", contract, _SIZE(ctypes.sizeof(contract))) != 0:
            raise RuntimeError("there is no contract named torch")
        args = _Forward(struct_size=ctypes.sizeof(_Forward))
        self._kept = [contract, args, x, weight, y]
        for name, array in (("x", x), ("weight", weight), ("y", y)):
            shape = (_I64 * array.ndim)(*array.shape)
            tensor = _Tensor(
                array.ctypes.data, 1, 0, array.ndim, *_CODES[array.dtype.name], 1, ctypes.addressof(shape), None, 0
            )
            self._kept += [shape, tensor]
            setattr(args, name, ctypes.addressof(tensor))
        self.arguments = (ctypes.addressof(contract), eps, ctypes.addressof(args))
        self.run: Callable[..., int] = library.isonorm_forward
        # It takes no arguments: what the caller leaves in registers is not looked at.
        self.empty: Callable[..., int] = library.isonorm_kernel_count
        for function in (self.run, self.empty):
            function.argtypes = [_POINTER, ctypes.c_double, _POINTER]  # type: ignore[attr-defined]
        if self.run(*self.arguments) != 0:
            raise RuntimeError("isonorm_forward() refuses the call")
