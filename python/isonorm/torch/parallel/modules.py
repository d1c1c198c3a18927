"""Norms as modules whose columns, or whose gradients, several processes share."""

from __future__ import annotations

import functools
from typing import Any, Optional

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from isonorm import _native
from isonorm.contracts import ContractLike
from isonorm.torch import modules, twins
from isonorm.torch._call import Frame
from isonorm.torch.modules import Shape, machine_eps, shape_of
from isonorm.torch.parallel._exchange import Ranks, ranks_of, size
from isonorm.torch.parallel.functional import apart, rms_norm
from isonorm.transformers.patched import original_class, shared_class


class Distributed(modules.Norm):
    """Mixed into the class of a norm: its forward, with the ranks that the module has as an attribute."""

    ranks: Ranks

    def forward(self, x: Tensor) -> Tensor:
        weight = _local(self._parameter("weight"))
        bias = _local(getattr(self, "bias", None))
        eps = self.variance_epsilon if isinstance(self, (twins.LlamaRMSNorm, twins.T5RMSNorm)) else self._eps(x)
        dtype = self._type_of_result(x, weight) if isinstance(self, twins._Twin) and weight is not None else None
        shape = getattr(self, "normalized_shape", ())
        frame = Frame(x, shape) if len(shape) > 1 and isinstance(x, Tensor) else None
        if frame is not None:
            x, weight, bias = frame.rows(x), frame.vector(weight, "weight"), frame.vector(bias, "bias")
        group, data_group, reduction = self.ranks
        y: Tensor = rms_norm(
            x, weight, bias, eps=eps, group=group, data_group=data_group, reduction=reduction, contract=self.contract, dtype=dtype
        )  # fmt: skip
        return y if frame is None else frame.restored(y)

    def extra_repr(self) -> str:
        text = super().extra_repr()
        for name, group in (("ranks", self.ranks.group), ("replicas", self.ranks.data_group)):
            text += f", {name}={size(group)}" if group is not None else ""
        return text


def _local(parameter: Optional[Tensor]) -> Any:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def columns_of(normalized_shape: Shape, ranks: Ranks) -> Any:
    """The normalised shape of what a rank has."""
    sizes, count = shape_of(normalized_shape), size(ranks.group)
    if ranks.group is None:
        return sizes
    if len(sizes) != 1:
        raise ValueError(f"normalized_shape is {sizes}, but has to be one size where columns are spread over a group")
    most = _native.max_ranks(sizes[0])
    if count & (count - 1) or count > most:
        raise ValueError(
            f"the group has {count} ranks, but a row of {sizes[0]} columns can be split among 1, 2, 4, ... up to {most} only"
        )
    return sizes[0] // count


class RMSNorm(Distributed, modules.RMSNorm):
    """`isonorm.torch.RMSNorm` of rows whose columns are spread over a group, or whose weight has the gradient of all rows.

        >>> import torch.distributed as dist, isonorm.torch.parallel
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> isonorm.torch.parallel.RMSNorm(64, eps=1e-6, group=dist.group.WORLD)
        RMSNorm((64,), eps=1e-06, elementwise_affine=True, ranks=1)
        >>> dist.destroy_process_group()

    normalized_shape: of whole rows. The weight has this rank's columns alone: those of rank 0 first. eps, elementwise_affine,
    device, dtype, contract: as there. group, data_group, reduction: as in `rms_norm` of this module.
    forward(x): [..., normalized_shape / ranks] → the same shape and type. Raises what that function raises, and ValueError for
    a number of ranks that cannot split the row.
    """

    def __init__(
        self,
        normalized_shape: Shape,
        eps: Optional[float] = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        contract: ContractLike = "torch",
        group: Any = None,
        data_group: Any = None,
        reduction: str = "sum",
    ) -> None:
        ranks = ranks_of(group, data_group, reduction)
        own = columns_of(normalized_shape, ranks)
        super().__init__(own, eps, elementwise_affine, device, dtype, contract=contract)
        self.normalized_shape = shape_of(normalized_shape)
        self.ranks = ranks


class LayerNorm(Distributed, modules.LayerNorm):
    """`isonorm.torch.LayerNorm`, in the same way: weight and bias have this rank's columns.

        >>> import torch.distributed as dist, isonorm.torch.parallel
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> isonorm.torch.parallel.LayerNorm(64, group=dist.group.WORLD).weight.shape
        torch.Size([64])
        >>> dist.destroy_process_group()

    forward(input): [..., normalized_shape / ranks] → the same shape and type. Arguments and errors: as of `RMSNorm` here.
    """

    def __init__(
        self,
        normalized_shape: Shape,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        contract: ContractLike = "layer_norm",
        group: Any = None,
        data_group: Any = None,
        reduction: str = "sum",
    ) -> None:
        ranks = ranks_of(group, data_group, reduction)
        own = columns_of(normalized_shape, ranks)
        super().__init__(own, eps, elementwise_affine, bias, device, dtype, contract=contract)
        self.normalized_shape = shape_of(normalized_shape)
        self.ranks = ranks


class LlamaRMSNorm(Distributed, twins.LlamaRMSNorm):
    pass


class T5RMSNorm(Distributed, twins.T5RMSNorm):
    pass


class GemmaRMSNorm(Distributed, twins.GemmaRMSNorm):
    pass


_DISTRIBUTED: dict[type, type[Distributed]] = {
    torch.nn.RMSNorm: RMSNorm,
    torch.nn.LayerNorm: LayerNorm,
    modules.RMSNorm: RMSNorm,
    modules.LayerNorm: LayerNorm,
    twins.LlamaRMSNorm: LlamaRMSNorm,
    twins.T5RMSNorm: T5RMSNorm,
    twins.GemmaRMSNorm: GemmaRMSNorm,
}


def can_adopt(module: torch.nn.Module) -> bool:
    return type(module) in _DISTRIBUTED


def adopt(module: torch.nn.Module, ranks: Ranks) -> None:
    """Makes a norm distributed, the same object with the same parameters."""
    cls = _DISTRIBUTED[type(module)]
    if not isinstance(module, modules.Norm):
        vars(module)["contract"] = "layer_norm" if isinstance(module, torch.nn.LayerNorm) else "torch"
    module.__class__ = cls
    vars(module)["ranks"] = ranks


def _share_patched(module: torch.nn.Module, ranks: Ranks) -> bool:
    """The same of a module that isonorm.transformers has patched; False for any other."""
    cls: Any = type(module)
    if original_class(cls) is None or cls._isonorm_body.weight_first or not module._parameters:
        return False
    module.__class__ = shared_class(cls, functools.partial(apart, ranks))
    return True


def share_gradients(model: torch.nn.Module, data_group: Any, *, reduction: str = "mean") -> list[str]:
    """Makes the norms of a model have gradients that do not depend on the number of its replicas. Each replica has to call it.

        >>> import torch, torch.distributed as dist, isonorm.torch.parallel
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.RMSNorm(8))
        >>> isonorm.torch.parallel.share_gradients(model, dist.group.WORLD)
        ['1.weight']
        >>> model = torch.nn.parallel.DistributedDataParallel(model)
        >>> dist.destroy_process_group()

    An all-reduce of dweight has other bits with each number of replicas. Here weights and biases of norms get their gradients
    by an all-gather: those of all rows, in the order in which one process adds them up. DistributedDataParallel is told to
    leave them alone, and they are made those of the group's first process, as it does.

    model: its modules of RMSNorm and LayerNorm of torch.nn and isonorm.torch, and of LlamaRMSNorm, T5RMSNorm and GemmaRMSNorm,
        not of subclasses, become distributed ones: the same objects, with their parameters and hooks. So do those that
        `isonorm.transformers.patch` has swapped before, unless their weight multiplies before the norm; a call that isonorm does
        not compute, which a patched module leaves to its own forward, is then a RuntimeError. A norm that is used more than once
        in a forward pass has the sum of those gradients.
    data_group, reduction: as in `rms_norm` here. Each process has [32 * 2^k, cols] rows of x in each norm; the last may have fewer.
    Returns the names of their parameters. Raises ValueError for a model without such norms, TypeError for a group that is none.
    """
    ranks = ranks_of(None, data_group, reduction)
    if ranks.data_group is None:
        raise TypeError("data_group is None, but has to be a ProcessGroup or a DeviceMesh")
    names = []
    for name, module in model.named_modules():
        if can_adopt(module):
            adopt(module, ranks)
        elif not _share_patched(module, ranks):
            continue
        names += [parameter for parameter, _ in module.named_parameters(name, recurse=False)]
    if not names:
        raise ValueError("the model has no norm with a weight that can share its gradient")
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name in names:
            dist.broadcast(parameters[name], group=ranks.data_group, group_src=0)
    ignored = [*getattr(model, "_ddp_params_and_buffers_to_ignore", ()), *names]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, ignored)
    return names
