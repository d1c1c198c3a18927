"""The functions: `isonorm.torch.parallel` has their names."""

from __future__ import annotations

from typing import Any, Iterable, Optional

import torch
from torch import Tensor
from torch.autograd import Function
from torch.distributed.tensor import DTensor

from isonorm.contracts import ContractLike, from_text
from isonorm.torch._autograd import NEEDS_BIAS, NEEDS_GATE, NEEDS_WEIGHT, NEEDS_X, Norm
from isonorm.torch._call import FORWARD, any_gradient, explain, matched, result, takes_mean, text_of
from isonorm.torch._direct import compiling, untransformed
from isonorm.torch._library import ops
from isonorm.torch.functional import general
from isonorm.torch.parallel._exchange import Ranks, as_integers, gather, ranks_of, size

_forward = ops._sharded_forward.default
_forward_finish = ops._sharded_forward_finish.default
_backward = ops._sharded_backward.default
_backward_finish = ops._sharded_backward_finish.default
_plain_forward = ops._forward.default
_backward_parts = ops._backward_parts.default
_mark = ops._mark_message.default
_check = ops._check_message.default
_combine = ops._combine_gradients.default
_MAX_DIMS = 7  # that an operator writes into


def _computed(
    x: Tensor, weight: Any, bias: Any, residual: Any, gate: Any, eps: float, contract: str, dtype: Optional[torch.dtype],
    ranks: Ranks,
) -> Any:  # fmt: skip
    """y, residual_out, mean and rstd of this rank's columns, and the statistic of whole rows."""
    call = (x, weight, bias, eps, contract, residual, gate, size(ranks.group))
    sent, received, *outputs = _forward(*call, dtype)
    turn = 0
    while True:
        turn = _forward_finish(*call, turn, sent, gather(received, sent, ranks.group), *outputs)
        if turn == 0:
            statistic, *results = outputs
            return *results, statistic


class ShardedNorm(Function):
    """y, residual_out, mean and rstd of this rank's columns."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Any, bias: Any, residual: Any, gate: Any, eps: float, contract: str,
        dtype: Optional[torch.dtype], ranks: Ranks,
    ) -> Any:  # fmt: skip
        y, total, mean, rstd, statistic = _computed(x, weight, bias, residual, gate, eps, contract, dtype, ranks)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(t for t in (mean, rstd) if t is not None))
        ctx.eps, ctx.contract, ctx.ranks = eps, contract, ranks
        ctx.types = x.dtype, None if residual is None else residual.dtype
        if residual is not None and from_text(contract).sum_rounding == "stored":
            x = residual = None  # type: ignore[assignment]  # the sum is all that gradients need
            ctx.save_for_backward(x, weight, bias, residual, total, gate, statistic)
        else:
            ctx.save_for_backward(x, weight, bias, residual, None, gate, statistic)
        return y, total, mean, rstd

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Optional[Tensor], dtotal: Optional[Tensor] = None, *_: Any) -> Any:
        x, weight, bias, residual, total, gate, statistic = ctx.saved_tensors
        need_x, need_weight, need_bias, need_residual, need_gate = ctx.needs_input_grad[:5]
        x_dtype, residual_dtype = ctx.types
        dx = dweight = dbias = dgate = None
        if dy is None:  # only residual_out went on: it did so on every rank, where the same model runs
            dx = None if dtotal is None else dtotal.to(x_dtype)
        else:
            ranks = ctx.ranks
            combines = ranks.data_group is not None
            needs = (
                NEEDS_X * (need_x or need_residual) | NEEDS_WEIGHT * need_weight | NEEDS_BIAS * need_bias | NEEDS_GATE * need_gate
            )
            if x is None and not needs & NEEDS_X:  # its type counts, and no value
                x = torch.empty_like(total, dtype=x_dtype)
            call = (
                dy, x, weight, bias, ctx.eps, ctx.contract, residual, total, dtotal, gate, size(ranks.group), statistic
            )  # fmt: skip
            sent, received, *gradients = _backward(*call, needs, x_dtype, combines)
            if sent is not None:  # dx or dgate, which need what other ranks have
                received = gather(received, sent, ranks.group)
            _backward_finish(*call, received, *gradients)
            dx, dweight, dbias, dgate = gradients
            if combines and (dweight is not None or dbias is not None):
                dweight, dbias = _combined((dweight, dbias), (weight, bias), len(statistic), ranks)
        dresidual = dx.to(residual_dtype) if need_residual and dx is not None else None
        return (dx if need_x else None, dweight, dbias, dresidual, dgate, None, None, None, None)


class RowsApart(Function):
    """y, residual_out, mean and rstd of rows that lie whole on their process; dweight and dbias are those of the rows of all."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        args, ctx.ranks = inputs[:-1], inputs[-1]
        output = _plain_forward(*args)
        Norm.setup_context(ctx, args, output)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Optional[Tensor], dtotal: Optional[Tensor] = None, *_: Any) -> Any:
        def parts(*args: Any) -> Any:
            dy, _, weight, _, _, _, _, _, bias, *_ = args
            dx, dweight, dbias, dgate = _backward_parts(*args)
            if dweight is not None or dbias is not None:
                dweight, dbias = _combined((dweight, dbias), (weight, bias), dy.shape[:-1].numel(), ctx.ranks)
            return dx, dweight, dbias, dgate

        return Norm.gradients(ctx, dy, dtotal, parts)


def apart(
    ranks: Ranks,
    x: Tensor,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    *,
    eps: float,
    contract: ContractLike = "layer_norm",
    residual: Optional[Tensor] = None,
    gate: Optional[Tensor] = None,
    groups: int = 1,
    normalized_shape: Any = None,
    dtype: Optional[torch.dtype] = None,
    return_rstd: bool = False,
    return_mean: bool = False,
) -> Any:
    """`isonorm.torch.rms_norm` where data_group is given and group is not: nothing is sent forward."""
    shared = ranks.data_group is not None and any_gradient((weight, bias))
    return general(
        x, weight, bias, eps, text_of(contract), residual, gate, groups, None, None, None, normalized_shape, dtype, return_rstd,
        return_mean, (lambda *args: RowsApart.apply(*args, ranks)) if shared else FORWARD,  # type: ignore[no-untyped-call]
    )  # fmt: skip


def _combined(own: Iterable[Any], like: Iterable[Any], rows: int, ranks: Ranks) -> list[Any]:
    """dweight and dbias of the rows of all processes, in the types of weight and bias."""
    # One for each parameter, also where it is frozen: else a process where it is not would send a message of another length.
    gradients = [gradient for gradient, parameter in zip(own, like) if parameter is not None]
    wanted = [gradient for gradient in gradients if gradient is not None]
    cols, compute, mean = wanted[0].numel(), wanted[0].dtype, ranks.reduction == "mean"
    # The gradients, the number of rows, and what tells whether all processes combine the same.
    sent = torch.zeros(len(gradients) + 2, cols, dtype=compute)
    for row, gradient in zip(sent, gradients):
        if gradient is not None:
            row.copy_(gradient.flatten())
    as_integers(sent[-2])[:] = rows
    _mark(sent, repr(("gradients", [g is not None for g in gradients], cols, str(compute), ranks.reduction)))
    count = size(ranks.data_group)
    received = gather(sent.new_empty(count * len(sent), cols), sent, ranks.data_group)
    _check(received, count)
    gathered = received.view(count, len(sent), cols)
    counts = as_integers(gathered[:, -2, 0]).tolist()
    part = counts[0]
    if any(count != part for count in counts[:-1]) or counts[-1] > part:
        raise RuntimeError(
            f"the processes of data_group have {counts} rows, but all before the last have to have the same number, and the "
            "last no more"
        )
    filled = sum(count > 0 for count in counts)
    if filled > 1 and (part < 32 or part & (part - 1)):
        raise RuntimeError(
            f"the processes of data_group have {counts} rows, but that has to be 32 times a power of two: runs of other "
            "lengths are no subtrees of the sum over rows"
        )
    places = iter(range(len(gradients)))
    results: list[Any] = []
    for gradient, parameter in zip(own, like):
        place = None if parameter is None else next(places)
        if gradient is None:
            results.append(None)
            continue
        whole = torch.empty(cols, dtype=compute if mean else parameter.dtype)
        of = gathered[:filled or 1, place].contiguous()
        if filled > 1:
            _combine(of, whole, sum(counts), part)
        else:
            whole.copy_(of[0])
        results.append((whole / len(counts) if mean else whole).to(parameter.dtype).view(parameter.shape))
    return results


def rms_norm(
    x: Tensor,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    *,
    eps: float,
    group: Any,
    data_group: Any = None,
    reduction: str = "sum",
    contract: ContractLike = "torch",
    residual: Optional[Tensor] = None,
    gate: Optional[Tensor] = None,
    dtype: Optional[torch.dtype] = None,
    return_rstd: bool = False,
    return_mean: bool = False,
) -> Any:
    """`isonorm.torch.rms_norm` of rows whose columns are spread over the processes of a group. Every one of them has to call it.

        >>> import torch, torch.distributed as dist, isonorm.torch.parallel
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # torchrun sets them for real ones
        >>> isonorm.torch.parallel.rms_norm(torch.tensor([[3.0, 4.0]]), eps=1e-6, group=dist.group.WORLD)
        tensor([[0.8485, 1.1314]])
        >>> dist.destroy_process_group()

    x, weight, bias, residual, gate: this rank's columns, [..., cols / ranks] and [cols / ranks], those of rank 0 first. They,
        contract, eps, dtype and the results are as in `isonorm.torch.rms_norm`, and have the bits of that function on whole
        rows. There are 1, 2, 4, ... `isonorm.parallel.max_ranks(cols)` ranks.
    group: a ProcessGroup, or a DeviceMesh of one dimension, over which columns are spread; None: every row lies on its process.
    data_group: over whose processes rows are spread, in rank order. dweight and dbias are then those of the rows of all of
        them, with the bits that one process would find, and all have them. Each has 32 * 2^k rows; the last may have fewer.
    reduction: of data_group, "sum", or "mean" where each process has the mean over its own rows as loss, as
        DistributedDataParallel expects: dweight and dbias are then divided by the number of processes.

    What is sent: one all-gather each way, of one float32 for each row and one for the whole call, which tells whether all ranks
    mean the same call. LayerNorm and rows that overflow need more (docs/parallel.md). Differentiable once.

    Raises RuntimeError as `isonorm.torch.rms_norm` does; for a number of ranks that cannot split the row, on every rank, before
    anything is sent; where ranks call with other shapes, types or options, on every rank; in backward for rows that data_group
    cannot combine. TypeError and ValueError for a group, a contract or a reduction that is none. Where a rank fails alone, the
    others get the error of their group when its time is out.
    """
    try:
        ranks, text = ranks_of(group, data_group, reduction), text_of(contract)
        for name, value in (("x", x), ("weight", weight), ("bias", bias), ("residual", residual), ("gate", gate)):
            if isinstance(value, DTensor):
                raise TypeError(f"{name} is a DTensor, but has to be what this rank has of it: {name}.to_local()")
        if weight is not None:
            weight = matched(weight, x, "weight")
        if bias is not None:
            bias = matched(bias, x, "bias")
        if return_mean and not takes_mean(text):
            raise RuntimeError(f"return_mean is True, but the contract {contract!r} has no mean")
        if ranks.group is None:
            return apart(
                ranks, x, weight, bias, eps=eps, contract=text, residual=residual, gate=gate, dtype=dtype,
                return_rstd=return_rstd, return_mean=return_mean,
            )  # fmt: skip
        rows: Any = (x, residual, gate)
        if x.dim() > _MAX_DIMS:
            rows = (t if t is None else t.flatten(0, -2) for t in rows)
        of_x, of_residual, of_gate = rows
        args = (of_x, weight, bias, of_residual, of_gate, eps, text, dtype, ranks)
        recorded = compiling() or not untransformed() or any_gradient(args)
        y, total, mean, rstd = (ShardedNorm.apply if recorded else _computed)(*args)[:4]  # type: ignore[no-untyped-call]
        found = (y, total, mean if return_mean else None, rstd if return_rstd else None)
        if x.dim() > _MAX_DIMS:
            found = tuple(t if t is None else t.unflatten(0, x.shape[:-1]) for t in found)  # type: ignore[assignment]
        return result("Norm", *found[:2], None, *found[2:])
    except Exception as error:
        explain(
            error,
            {"x": x},
            {"weight": weight, "bias": bias, "residual": residual, "gate": gate},
            {"eps": eps},
            dtype=(dtype, torch.dtype),
            return_rstd=(return_rstd, bool),
            return_mean=(return_mean, bool),
        )


def layer_norm(
    x: Tensor,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    *,
    eps: float,
    group: Any,
    contract: ContractLike = "layer_norm",
    **options: Any,
) -> Any:
    """`isonorm.torch.layer_norm` of rows whose columns are spread over a group.

        >>> import torch, torch.distributed as dist, isonorm.torch.parallel
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> isonorm.torch.parallel.layer_norm(torch.tensor([[1.0, 3.0]]), eps=0, group=dist.group.WORLD)
        tensor([[-1.,  1.]])
        >>> dist.destroy_process_group()

    x: [..., cols / ranks]. Arguments, results and errors: as of `rms_norm` here. Two all-gathers forward, of two float32 for
    each row, and one backward. Raises ValueError for a contract without a mean.
    """
    text = text_of(contract)
    if not takes_mean(text):
        raise ValueError(f"contract {contract!r} has no mean: use rms_norm")
    return rms_norm(x, weight, bias, eps=eps, group=group, contract=text, **options)
