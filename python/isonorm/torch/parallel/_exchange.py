"""Who computes together, and what they send each other."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

_REDUCTIONS = "sum", "mean"


class Ranks(NamedTuple):
    """Who computes together, as a call has it."""

    group: Any  # None: every row lies whole on its process
    data_group: Any  # None: dweight and dbias are of this process's rows alone
    reduction: str

    def __deepcopy__(self, memo: Any) -> Ranks:
        return self  # a group is no data of the module that has it


def _process_group(group: Any, name: str) -> Any:
    if group is None or isinstance(group, dist.ProcessGroup):
        return group
    if isinstance(group, DeviceMesh):
        if group.ndim != 1:
            raise ValueError(f"{name} is a DeviceMesh of {group.ndim} dimensions, but has to be one of them: mesh['tp']")
        return group.get_group()
    if group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError(f"{name} is a group that this process is no member of")
    raise TypeError(f"{name} is a {type(group).__name__}, but has to be a ProcessGroup, a DeviceMesh or None")


def ranks_of(group: Any, data_group: Any, reduction: str) -> Ranks:
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}, but has to be 'sum' or 'mean'")
    return Ranks(_process_group(group, "group"), _process_group(data_group, "data_group"), reduction)


def size(group: Any) -> int:
    return 1 if group is None else dist.get_world_size(group)


def gather(received: Tensor, sent: Tensor, group: Any) -> Tensor:
    """What all ranks sent, one after the other."""
    dist.all_gather_into_tensor(received, sent, group=group)
    return received


def as_integers(numbers: Tensor) -> Tensor:
    """The bits of numbers of the compute type, to be written as integers or read."""
    return numbers.view(torch.int64 if numbers.dtype is torch.float64 else torch.int32)
