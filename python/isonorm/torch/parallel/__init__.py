"""Norms that several processes compute together by `torch.distributed`, with the bits of one process.

    y = isonorm.torch.parallel.rms_norm(x_shard, weight_shard, eps=1e-6, group=group)

`group`: each process has some columns of every row (tensor parallelism). `data_group`: each has some of the rows, and dweight
and dbias are those of all rows, whatever the number of processes (data parallelism). A group is a ProcessGroup, or a
DeviceMesh of one dimension. docs/parallel.md says what is exchanged. The functions compute on the CPU: gloo carries what they
send, and so would any backend that takes tensors of the CPU.

Importing this also tells DTensor how isonorm's operators treat tensors whose rows are spread over processes, as the style
SequenceParallel of `torch.distributed.tensor.parallel` spreads them.
"""

from isonorm.torch.parallel.functional import layer_norm, rms_norm
from isonorm.torch.parallel.modules import LayerNorm, RMSNorm, share_gradients
from isonorm.torch.parallel.style import ColumnParallelNorm

__all__ = ["ColumnParallelNorm", "LayerNorm", "RMSNorm", "layer_norm", "rms_norm", "share_gradients"]
