"""RMSNorm by ONNX Runtime: a model of one operator, its inputs bound once."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

_TYPES = {"f32": TensorProto.FLOAT, "bf16": TensorProto.BFLOAT16}


class OnnxNorm:
    """By the fused operator, which has bf16 too; RMSNormalization of opset 23 takes as long in f32, and has no bf16 on CPUs."""

    def __init__(self, x: np.ndarray, weight: np.ndarray, dtype: str, eps: float, threads: int) -> None:
        self.kind, self.like = _TYPES[dtype], x
        node = helper.make_node("SimplifiedLayerNormalization", ["x", "weight"], ["y"], axis=-1, epsilon=eps, stash_type=1)
        of_x, of_weight, of_y = (
            helper.make_tensor_value_info(name, self.kind, list(array.shape))
            for name, array in (("x", x), ("weight", weight), ("y", x))
        )
        graph = helper.make_graph([node], "norm", [of_x, of_weight], [of_y])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its threads would go on spinning for a while, on the cores of whoever comes next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.feeds = {"x": x, "weight": weight}
        self.values = {name: self._value(array) for name, array in self.feeds.items()}

    def _value(self, array: np.ndarray) -> Any:
        if self.kind == TensorProto.FLOAT:
            return onnxruntime.OrtValue.ortvalue_from_numpy(array)
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), self.kind)

    def bound(self, y: np.ndarray) -> Any:
        """A binding that writes into y."""
        binding = self.session.io_binding()
        for name, value in self.values.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("y", "cpu", 0, self.kind, list(y.shape), y.ctypes.data)
        return binding

    def allocating(self) -> np.ndarray:
        """A copy of what the session puts into memory of its own; as an array, which an OrtValue of bf16 does not give."""
        (value,) = self.session.run_with_ort_values(None, self.values)
        return np.frombuffer(ctypes.string_at(value.data_ptr(), self.like.nbytes), self.like.dtype).reshape(self.like.shape)
