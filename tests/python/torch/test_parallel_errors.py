"""What is wrong is said on every rank, in one sentence, and before anything is sent where nothing needs to be."""

import pytest
import ranks
import torch
import torch.distributed as dist
from ranks import Messages
from torch.distributed.tensor import DTensor, Shard
from torch_support import randn, same

import isonorm.torch
from isonorm.torch import parallel


def sentence(call):
    """The error's type and text, and what had been sent."""
    with Messages() as sent:
        try:
            call()
        except Exception as error:
            return type(error).__name__, str(error), sent
    return None


def refused(rank, world):
    group = dist.group.WORLD
    x, weight = randn(3, 64), torch.ones(64)
    return [
        sentence(lambda: parallel.rms_norm(x, weight, eps=1e-6, group=group)),
        sentence(lambda: parallel.rms_norm(x, weight, eps=-1.0, group=group)),
        sentence(lambda: parallel.rms_norm(x, torch.ones(63), eps=1e-6, group=group)),
        sentence(lambda: parallel.RMSNorm(3 * 64, group=group)),
    ]


def test_a_split_that_is_impossible():
    for found in ranks.run(refused, 3):
        split, eps, weight, module = found
        assert split[0] == "RuntimeError" and "3" in split[1] and "ranks" in split[1] and split[2] == []
        assert eps[0] == "RuntimeError" and "eps" in eps[1] and eps[2] == []
        assert weight[0] == "RuntimeError" and "weight" in weight[1] and weight[2] == []
        assert module[0] == "ValueError" and "3 ranks" in module[1] and "up to 2 only" in module[1]


def differing(rank, world):
    group = dist.group.WORLD
    odd = rank == 2

    def call(cols=128, dtype=torch.float32, eps=1e-6, contract="torch", residual=None):
        return sentence(
            lambda: parallel.rms_norm(
                randn(3, cols, dtype=dtype), None, eps=eps, contract=contract, residual=residual, group=group
            )
        )

    x = randn(3, 128, grad=True)
    y = parallel.rms_norm(x, None, eps=1e-6, group=group)
    return [
        call(cols=256 if odd else 128),
        call(dtype=torch.bfloat16 if odd else torch.float32),
        call(eps=1e-5 if odd else 1e-6),
        call(contract="llama" if odd else "torch"),
        call(residual=randn(3, 128) if odd else None),
        sentence(lambda: y.sum().backward()),
    ]


def test_shards_that_differ():
    everywhere = ranks.run(differing, 4)
    assert all(found == everywhere[0] for found in everywhere)
    *wrong, right = everywhere[0]
    assert right is None
    for kind, text, sent in wrong:
        assert kind == "RuntimeError" and text.startswith("ranks [2] of the group call with other shapes") and len(sent) == 1


def uneven(rank, world):
    x = randn(3 if rank == 0 else 5, 64)
    return sentence(lambda: parallel.rms_norm(x, None, eps=1e-6, group=dist.group.WORLD))


def missing(rank, world):
    if rank == 1:
        return None  # leaves, as a process that dies does
    return sentence(lambda: parallel.rms_norm(randn(3, 64), None, eps=1e-6, group=dist.group.WORLD))


@pytest.mark.parametrize("function", [uneven, missing])
def test_the_group_ends_what_cannot_go_on(function):
    for rank, found in enumerate(ranks.run(function, 2, timeout=3)):
        if function is uneven or rank == 0:
            assert found is not None and found[0] in ("RuntimeError", "DistBackendError", "DistNetworkError")


def apart(rank, world):
    def backward(rows):
        weight = torch.ones(8, requires_grad=True)
        y = parallel.rms_norm(randn(rows, 8), weight, eps=1e-6, group=None, data_group=dist.group.WORLD)
        return sentence(y.sum().backward)

    return [backward(rows) for rows in (48, 64 if rank else 32, 16, 32)]


def test_rows_that_cannot_be_combined():
    everywhere = ranks.run(apart, 2)
    assert everywhere[0] == everywhere[1]
    length, longer, short, right = everywhere[0]
    assert "[48, 48] rows, but that has to be 32 times a power of two" in length[1]
    assert "[32, 64] rows, but all before the last" in longer[1]
    assert "[16, 16] rows, but that has to be" in short[1]
    assert right is None


def frozen(rank, world):
    """A bias or a weight that needs its gradient on some ranks only, with and without columns that are spread."""
    found = []
    own = [dist.new_group([other]) for other in range(world)][rank]
    for group in (None, own):
        for name in ("weight", "bias"):
            values = {n: torch.ones(8, requires_grad=n != name or rank == 0) for n in ("weight", "bias")}
            y = parallel.layer_norm(randn(32, 8), **values, eps=1e-6, group=group, data_group=dist.group.WORLD)
            found.append(sentence(y.sum().backward))
    values = {"weight": torch.ones(8, requires_grad=True), "bias": torch.ones(8)}  # on all of them
    x = randn(32 * world, 8)
    parallel.layer_norm(x.chunk(world)[rank], **values, eps=1e-6, group=None, data_group=dist.group.WORLD).sum().backward()
    whole = torch.ones(8, requires_grad=True)
    isonorm.torch.layer_norm(x, whole, torch.ones(8), eps=1e-6).sum().backward()
    return found, same(values["weight"].grad, whole.grad)


def test_parameters_that_are_frozen_on_some_ranks():
    everywhere = ranks.run(frozen, 2)
    assert everywhere[0] == everywhere[1]
    found, right = everywhere[0]
    assert right
    for kind, text, sent in found:
        assert kind == "RuntimeError" and text.startswith("ranks [1] of the group call with other") and len(sent) == 1, text


def arguments(rank, world):
    mesh = dist.init_device_mesh("cpu", (1, 1), mesh_dim_names=("a", "b"))
    group, x = dist.group.WORLD, randn(2, 64)
    spread = DTensor.from_local(x, mesh["a"], [Shard(1)])
    return [
        sentence(call)
        for call in (
            lambda: parallel.rms_norm(x, eps=1e-6, group=mesh),
            lambda: parallel.rms_norm(x, eps=1e-6, group="tp"),
            lambda: parallel.rms_norm(x, eps=1e-6, group=group, reduction="max"),
            lambda: parallel.layer_norm(x, eps=1e-6, group=group, contract="torch"),
            lambda: parallel.rms_norm(x, eps=1e-6, group=group, return_mean=True),
            lambda: parallel.rms_norm(x.numpy(), eps=1e-6, group=group),
            lambda: parallel.rms_norm(x, eps=1e-6, group=dist.GroupMember.NON_GROUP_MEMBER),
            lambda: parallel.rms_norm(spread, eps=1e-6, group=group),
            lambda: parallel.rms_norm(x, DTensor.from_local(x[0], mesh["a"]), eps=1e-6, group=None, data_group=group),
            lambda: parallel.RMSNorm((2, 64), group=group),
            lambda: parallel.share_gradients(torch.nn.Linear(2, 2), group),
            lambda: parallel.share_gradients(parallel.RMSNorm(64, group=group), None),
        )
    ]


def test_arguments():
    (found,) = ranks.run(arguments, 1)
    expected = [
        ("ValueError", "group is a DeviceMesh of 2 dimensions, but has to be one of them: mesh['tp']"),
        ("TypeError", "group is a str, but has to be a ProcessGroup, a DeviceMesh or None"),
        ("ValueError", "reduction is 'max', but has to be 'sum' or 'mean'"),
        ("ValueError", "contract 'torch' has no mean: use rms_norm"),
        ("RuntimeError", "return_mean is True, but the contract 'torch' has no mean"),
        ("TypeError", "x is a numpy.ndarray, but has to be a torch.Tensor"),
        ("ValueError", "group is a group that this process is no member of"),
        ("TypeError", "x is a DTensor, but has to be what this rank has of it: x.to_local()"),
        ("TypeError", "weight is a DTensor, but has to be what this rank has of it: weight.to_local()"),
        ("ValueError", "normalized_shape is (2, 64), but has to be one size"),
        ("ValueError", "the model has no norm with a weight"),
        ("TypeError", "data_group is None, but has to be a ProcessGroup or a DeviceMesh"),
    ]
    assert len(found) == len(expected)
    for (kind, text, sent), (wanted, begins) in zip(found, expected):
        assert kind == wanted and text.startswith(begins) and sent == [], text
