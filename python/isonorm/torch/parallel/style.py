"""What `torch.distributed.tensor` has to know: a style for norms whose columns are spread, and rules for those whose rows are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.experimental import register_sharding
from torch.distributed.tensor.parallel import ParallelStyle

from isonorm.torch._library import ops
from isonorm.torch.parallel._exchange import ranks_of
from isonorm.torch.parallel.modules import adopt, can_adopt, columns_of


class ColumnParallelNorm(ParallelStyle):
    """A style for `parallelize_module`: the columns of a norm are spread over the mesh, and its bits are those of one process.

        >>> import torch, torch.distributed as dist, isonorm.torch.parallel
        >>> from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), isonorm.torch.RMSNorm(64))
        >>> plan = {"0": ColwiseParallel(), "1": isonorm.torch.parallel.ColumnParallelNorm()}
        >>> parallelize_module(model, dist.init_device_mesh("cpu", (1,)), plan)(torch.ones(2, 64)).shape
        torch.Size([2, 64])
        >>> dist.destroy_process_group()

    For the norm of a whole projection behind ColwiseParallel, as the q_norm of OLMo2. The module is of one of the classes that
    `share_gradients` names. Weight and bias, [cols], become DTensors, Shard(0). A DTensor that comes in is brought to Shard(-1);
    another tensor is taken for this rank's columns, [..., cols / ranks].
    use_local_output: whether this rank's columns leave as a plain tensor; False: as a DTensor, Shard(-1).
    Raises ValueError for a module of another class, and for a mesh that cannot split its rows.
    """

    def __init__(self, *, use_local_output: bool = True) -> None:
        super().__init__()
        self.use_local_output = use_local_output

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        if not can_adopt(module):
            raise ValueError(f"ColumnParallelNorm takes norms of torch.nn and isonorm.torch, but this is a {type(module).__name__}")
        ranks = ranks_of(device_mesh, None, "sum")
        own: Any = module
        columns_of(own.normalized_shape if hasattr(own, "normalized_shape") else own.weight.shape, ranks)
        adopt(module, ranks)
        return distribute_module(module, device_mesh, self._partition, self._take, self._give)

    @staticmethod
    def _partition(name: str, module: nn.Module, mesh: DeviceMesh) -> None:
        for key, parameter in module.named_parameters(recurse=False):
            module.register_parameter(key, nn.Parameter(distribute_tensor(parameter, mesh, [Shard(0)])))

    @staticmethod
    def _take(module: nn.Module, inputs: Any, mesh: DeviceMesh) -> Any:
        x, *rest = inputs
        if isinstance(x, DTensor):
            x = x.redistribute(mesh, [Shard(x.ndim - 1)]).to_local()
        return (x, *rest)

    def _give(self, module: nn.Module, y: Any, mesh: DeviceMesh) -> Any:
        return y if self.use_local_output else DTensor.from_local(y, mesh, [Shard(y.ndim - 1)], run_check=False)


# ---------------------------------------------------------------------------------- rows that are spread: SequenceParallel

_OF_ROWS = {"x", "dy", "residual", "residual_out", "dresidual", "gate", "rstd", "mean", "ddx", "drms"}
_SUMS_OVER_ROWS = {"dweight", "dbias"}


def _register(op: Any, results: tuple[str, ...]) -> None:
    arguments = [argument.name for argument in op._schema.arguments]

    def rule(*given: Any, **named: Any) -> Any:
        tensors = dict(zip(arguments, given)) | named
        there = {name for name, value in tensors.items() if hasattr(value, "placements")}
        x = tensors["x" if "x" in there else "dy"]

        def spread(of_rows: Any, sums: Any) -> Any:
            outputs = [sums if name in _SUMS_OVER_ROWS else of_rows for name in results]
            inputs = [(of_rows if name in _OF_ROWS else Replicate()) if name in there else None for name in tensors]
            return outputs, inputs

        rules = [spread(Replicate(), Replicate())]
        if "cos" not in there:  # positions are those of the whole tensor
            rules += [spread(Shard(dim), Partial()) for dim in range(x.ndim - 1)]
        return rules

    register_sharding(op)(rule)


for _name, _results in {
    "rms_norm": ("y",),
    "_rms_norm": ("y",),
    "_rms_norm_rstd": ("y", "rstd"),
    "_rms_norm_backward": ("dx", "dweight", "dbias"),
    "forward": ("y", "residual_out", "mean", "rstd"),
    "_forward": ("y", "residual_out", "mean", "rstd"),
    "backward": ("dx", "dweight", "dbias", "dgate"),
    "_backward": ("dx", "dweight", "dbias", "dgate"),
    "rms": ("rms",),
    "_rms": ("rms",),
    "rms_backward": ("dx",),
    "_rms_backward": ("dx",),
}.items():
    _register(getattr(ops, _name).default, _results)
