"""Who computes together, and what they send each other."""

from __future__ import annotations

import zlib
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


class Exchange:
    """An all-gather of a few numbers of each row, and in the same message of what tells whether all ranks mean the same call."""

    def __init__(self, rows: int, values: int, dtype: torch.dtype, group: Any, call: tuple[Any, ...]) -> None:
        self.group, self.ranks = group, size(group)
        self.partial = torch.empty(rows + 1, values, dtype=dtype)[:rows]
        self._call = call

    def gather(self, turn: int = 0) -> Tensor:
        """[ranks, rows, values] in rank order."""
        if self.group is None:
            return self.partial[None]
        rows, values = self.partial.shape
        sent = self.partial.as_strided((rows + 1, values), (values, 1))
        as_integers(sent[rows])[:] = zlib.crc32(repr((self._call, turn)).encode()) >> 1
        received = sent.new_empty(self.ranks * (rows + 1), values)
        dist.all_gather_into_tensor(received, sent, group=self.group)
        gathered = received.view(self.ranks, rows + 1, values)
        marks = as_integers(gathered[:, rows, 0]).tolist()
        if len(set(marks)) > 1:
            others = [rank for rank, mark in enumerate(marks) if mark != marks[0]]
            raise RuntimeError(
                f"ranks {others} of the group call with other shapes, types, options, eps or contract than rank 0, "
                "but all have to make the same call of shards of the same size"
            )
        return gathered[:, :rows]


def as_integers(numbers: Tensor) -> Tensor:
    """The bits of numbers of the compute type, to be written as integers or read."""
    return numbers.view(torch.int64 if numbers.dtype is torch.float64 else torch.int32)
