"""Modules, replicas under DistributedDataParallel, and plans of torch.distributed.tensor.parallel."""

import copy

import pytest
import ranks
import torch
import torch.distributed as dist
from ranks import Messages
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.parallel import SequenceParallel, parallelize_module
from torch_support import randn, same

import isonorm.torch
from isonorm.torch import parallel

COLS = 512


def norms():
    """Of whole rows, as a model on one process has them."""
    return {
        "rms": isonorm.torch.RMSNorm(COLS, eps=1e-6),
        "torch_rms": torch.nn.RMSNorm(COLS),
        "layer": isonorm.torch.LayerNorm(COLS),
        "torch_layer": torch.nn.LayerNorm(COLS, bias=False),
        "llama": isonorm.torch.LlamaRMSNorm(COLS),
        "gemma": isonorm.torch.GemmaRMSNorm(COLS),
        "t5": isonorm.torch.T5RMSNorm(COLS).bfloat16(),
    }


def filled(module):
    for i, parameter in enumerate(module.parameters()):
        with torch.no_grad():
            parameter.copy_(randn(*parameter.shape, seed=40 + i))
    return module


def reference(name):
    """The norm of isonorm with the same parameters as norms()[name], on whole rows."""
    norm = filled(norms()[name])
    own = {"torch_rms": isonorm.torch.RMSNorm(COLS), "torch_layer": isonorm.torch.LayerNorm(COLS, bias=False)}.get(name)
    if own is not None:
        own.load_state_dict(norm.state_dict())
    return own or norm


def columns(rank, world):
    mesh = dist.init_device_mesh("cpu", (world,))
    for name in norms():
        whole, x, dy = reference(name), randn(3, 4, COLS, grad=True), randn(3, 4, COLS, seed=1)
        y = whole(x)
        y.backward(dy.to(y.dtype))
        module = filled(norms()[name])
        inputs = x.detach().chunk(world, -1)[rank].clone().requires_grad_()
        found = parallelize_module(module, mesh, parallel.ColumnParallelNorm())
        assert found is module and isinstance(module, type(norms()[name])) and f"ranks={world}" in repr(module)
        with Messages() as sent:
            mine = module(inputs)
        assert sent and not isinstance(mine, DTensor)
        mine.backward(dy.to(y.dtype).chunk(world, -1)[rank])
        assert same(mine, y.chunk(world, -1)[rank]) and same(inputs.grad, x.grad.chunk(world, -1)[rank]), name
        for key, parameter in module.named_parameters():
            assert isinstance(parameter, DTensor) and parameter.placements == (Shard(0),)
            gradient = whole.get_parameter(key).grad
            assert parameter.grad.placements == (Shard(0),) and same(parameter.grad.full_tensor(), gradient), name
    return True


@pytest.mark.parametrize("world", [1, 2, 4])
def test_column_parallel_norms(world):
    assert all(ranks.run(columns, world))


def distributed_tensors(rank, world):
    """What comes in is brought to this rank's columns, and leaves as it is asked for."""
    mesh, x = dist.init_device_mesh("cpu", (world,)), randn(3, 4, COLS)
    whole = reference("rms")(x)
    for placement in (Replicate(), Shard(0), Shard(2)):
        module = parallelize_module(
            filled(norms()["rms"]), mesh, parallel.ColumnParallelNorm(use_local_output=False)
        )
        y = module(dist.tensor.distribute_tensor(x, mesh, [placement]))
        assert isinstance(y, DTensor) and y.placements == (Shard(2),) and same(y.full_tensor(), whole)
    copied = copy.deepcopy(module)
    assert copied.ranks is module.ranks and same(copied(x.chunk(world, -1)[rank]).full_tensor(), whole)
    return [
        str(pytest.raises(ValueError, parallelize_module, module, mesh, parallel.ColumnParallelNorm()).value)
        for module in (torch.nn.Linear(COLS, COLS), isonorm.torch.RMSNorm(COLS + 1), isonorm.torch.RMSNorm((2, COLS)))
    ]


def test_distributed_tensors():
    for linear, odd, several in ranks.run(distributed_tensors, 2):
        assert "takes norms of torch.nn and isonorm.torch, but this is a Linear" in linear
        assert odd == "the group has 2 ranks, but a row of 513 columns can be split among 1, 2, 4, ... up to 1 only"
        assert "has to be one size" in several


def sequence(rank, world):
    """Rows over ranks: torch's own style, and isonorm's rules for its operators. Nothing of the rows is sent."""
    mesh, x, dy = dist.init_device_mesh("cpu", (world,)), randn(2, 64, COLS, grad=True), randn(2, 64, COLS, seed=1)
    for name in ("rms", "layer", "llama"):
        whole = reference(name)
        y = whole(x)
        y.backward(dy)
        module = parallelize_module(filled(norms()[name]), mesh, SequenceParallel())
        own = x.detach().chunk(world, 1)[rank].clone().requires_grad_()
        mine = module(own)
        assert isinstance(mine, DTensor) and mine.placements == (Shard(1),)
        assert same(mine.to_local(), y.detach().chunk(world, 1)[rank])
        mine.backward(DTensor.from_local(dy.chunk(world, 1)[rank], mesh, [Shard(1)]))
        assert same(own.grad, x.grad.chunk(world, 1)[rank])
        x.grad = None
        alone = reference(name)
        alone(own.detach()).backward(dy.chunk(world, 1)[rank])
        for key, parameter in module.named_parameters():
            assert parameter.grad.placements == (Partial(),)
            assert same(parameter.grad.to_local(), alone.get_parameter(key).grad), name
    return True


def test_sequence_parallel():
    assert all(ranks.run(sequence, 2))


def options(rank, world):
    """Each operator that has a rule, on rows that are spread and on whole ones."""
    mesh = dist.init_device_mesh("cpu", (world,))
    x, weight, residual, gate = randn(4, 6, 64), randn(64, seed=1), randn(4, 6, 64, seed=2), randn(4, 6, 64, seed=3)
    angles = torch.outer(torch.arange(6.0), torch.arange(32.0))
    rope = isonorm.torch.Rope(angles.cos(), angles.sin(), position_axis=1)
    spread = [Shard(0)]

    def of(tensor, placements=spread):
        return dist.tensor.distribute_tensor(tensor, mesh, placements)

    cases = [
        ({"residual": residual}, spread),
        ({"gate": gate, "contract": "mamba2"}, spread),
        ({"groups": 2, "return_rstd": True}, spread),
        ({"contract": "layer_norm", "return_mean": True}, spread),
    ]
    for keywords, placements in cases:
        expected = isonorm.torch.rms_norm(x, weight, eps=1e-6, **keywords)
        own = {k: of(v) if isinstance(v, torch.Tensor) else v for k, v in keywords.items()}
        found = isonorm.torch.rms_norm(of(x), of(weight, [Replicate()]), eps=1e-6, **own)
        pairs = [(found, expected)] if isinstance(found, torch.Tensor) else list(zip(found, expected))
        for a, b in pairs:
            assert a.placements == tuple(placements) and same(a.full_tensor(), b), keywords
    whole = [Replicate()]
    turned = isonorm.torch.Rope(of(rope.cos, whole), of(rope.sin, whole), position_axis=1)
    y = isonorm.torch.rms_norm(of(x, [Shard(1)]), of(weight, whole), eps=1e-6, rope=turned)
    assert same(y.full_tensor(), isonorm.torch.rms_norm(x, weight, eps=1e-6, rope=rope))
    assert same(isonorm.torch.rms(of(x)).full_tensor(), isonorm.torch.rms(x))
    return True


def test_options_of_distributed_tensors():
    assert all(ranks.run(options, 2))


class Model(torch.nn.Module):
    """Its rows stay apart, so that each has the gradient that it has alone."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.norm = isonorm.torch.RMSNorm(48, eps=1e-6, dtype=torch.bfloat16)
        self.last = torch.nn.LayerNorm((6, 8))

    def forward(self, x):
        return self.last((x + self.norm(x)).unflatten(-1, (6, 8))) * self.scale


def replicas(rank, world):
    x, dy = randn(64, 48), randn(64, 6, 8, seed=1)
    alone = filled(Model())
    parallel.share_gradients(alone, dist.new_group([rank], use_local_synchronization=True), reduction="sum")
    alone(x).backward(dy)
    model = filled(Model())
    if rank > 0:
        torch.nn.init.zeros_(model.norm.weight)  # as DistributedDataParallel, it takes those of the first process
    names = parallel.share_gradients(model, dist.group.WORLD)
    assert names == ["norm.weight", "last.weight", "last.bias"]
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    wrapped(x.chunk(world)[rank]).backward(dy.chunk(world)[rank] * world)
    assert "replicas" in repr(model.norm)
    return all(same(a.grad, alone.get_parameter(n).grad) for n, a in model.named_parameters() if n != "scale")


@pytest.mark.parametrize("world", [1, 2])
def test_replicas(world):
    assert all(ranks.run(replicas, world))


def whole_modules(rank, world):
    group = dist.group.WORLD
    norm = parallel.RMSNorm(COLS, 1e-6, group=group, contract="gemma")
    assert norm.weight.shape == (COLS // world,) and not norm.weight.any()
    layer = parallel.LayerNorm(COLS, group=group)
    x = randn(3, COLS)
    own = x.chunk(world, -1)[rank]
    ones = torch.zeros(COLS)
    assert same(norm(own), isonorm.torch.rms_norm(x, ones, eps=1e-6, contract="gemma").chunk(world, -1)[rank])
    assert same(layer(own), isonorm.torch.LayerNorm(COLS)(x).chunk(world, -1)[rank])
    state = norm.state_dict()
    return repr(norm), repr(layer), {key: tuple(value.shape) for key, value in state.items()}


def test_modules():
    for norm, layer, state in ranks.run(whole_modules, 2):
        assert norm == "RMSNorm((512,), eps=1e-06, elementwise_affine=True, contract='gemma', ranks=2)"
        assert layer == "LayerNorm((512,), eps=1e-05, elementwise_affine=True, bias=True, ranks=2)"
        assert state == {"weight": (256,)}
