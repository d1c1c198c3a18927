"""isonorm.torch.parallel on processes of gloo: the bits of one process, and what is sent."""

import pytest
import ranks
import torch
import torch.distributed as dist
from ranks import Messages
from torch_support import randn, same

import isonorm.torch
from isonorm.torch import parallel

F32, BF16, F16, F64 = torch.float32, torch.bfloat16, torch.float16, torch.float64
CASES = [
    ("torch", F32, {}),
    ("llama", BF16, {}),
    ("gemma", F16, {}),
    ("torch", F64, {}),
    ("paper", F32, {"bias": True}),
    ("layer_norm", F32, {"bias": True}),
    ("layer_norm", BF16, {}),
    ("torch", BF16, {"residual": F32}),
    ("llama", BF16, {"residual": BF16, "only_sum": True}),
    ("mamba2", F32, {"gate": True}),
    ("qwen3_next_gated", BF16, {"gate": True}),
    ("torch", F32, {"scale": 1e30}),
    ("layer_norm", F32, {"scale": 1e30}),
    ("torch", F32, {"rows": 0}),
    ("t5", BF16, {"weight": F32, "shape": (2, 1, 2, 1, 2, 1, 3, 1)}),
]


def tensors(dtype, cols, bias=False, residual=None, gate=False, scale=1.0, rows=5, weight=None, shape=None, **_):
    shape = (*(shape or (rows, 3)), cols)
    x = randn(*shape, dtype=F64)
    x[..., :1, :] *= scale
    values = {"x": x.to(dtype), "weight": randn(cols, dtype=weight or dtype, seed=1)}
    if bias:
        values["bias"] = randn(cols, dtype=dtype, seed=2)
    if residual is not None:
        values["residual"] = randn(*shape, dtype=residual, seed=3)
    if gate:
        values["gate"] = randn(*shape, dtype=dtype, seed=4)
    return values, randn(*shape, dtype=dtype, seed=5), randn(*shape, dtype=residual or dtype, seed=6)


def results(function, values, dy, dtotal, only_sum=False, **options):
    """y, what else comes out of it, and all gradients."""
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    out = function(**leaves, **options)
    out = (out,) if isinstance(out, torch.Tensor) else tuple(out)
    ends = [] if only_sum else [(out[0], dy)]
    if "residual" in values:
        ends.append((out[1], dtotal))
    torch.autograd.backward(*map(list, zip(*ends)))
    return [t.detach() for t in out], [leaf.grad for leaf in leaves.values()]


def compare(rank, world, cols):
    for contract, dtype, options in CASES:
        values, dy, dtotal = tensors(dtype, cols, **options)
        only_sum, call = options.get("only_sum", False), {"eps": 1e-6, "contract": contract, "return_rstd": True}
        whole = results(isonorm.torch.rms_norm, values, dy, dtotal, only_sum, **call)
        own = {name: value.chunk(world, -1)[rank] for name, value in values.items()}
        mine = results(
            parallel.rms_norm, own, dy.chunk(world, -1)[rank], dtotal.chunk(world, -1)[rank], only_sum,
            group=dist.group.WORLD, **call,
        )  # fmt: skip
        for got, expected in zip((*mine[0], *mine[1]), (*whole[0], *whole[1])):
            if got is None or expected is None:
                assert got is None and expected is None
                continue
            per_row = expected.shape == values["x"].shape[:-1]
            assert same(got, expected if per_row else expected.chunk(world, -1)[rank]), (contract, dtype, options)
    return True


@pytest.mark.parametrize("world, cols", [(1, 24), (2, 256), (4, 2880), (8, 1024)])
def test_columns_over_ranks(world, cols):
    assert all(ranks.run(compare, world, cols))


def some(rank, world):
    """Gradients of some of the arrays, where only these require one, and where autograd is asked for no others."""
    found = []
    for contract, dtype, of_residual in (("torch", BF16, F32), ("layer_norm", F32, F32), ("qwen3_next_gated", F16, F16), ("t5", BF16, BF16)):
        gated = contract.endswith("gated")
        values, dy, _ = tensors(dtype, 256, residual=of_residual, gate=gated, bias=not gated)
        leaves = {n: v.clone().requires_grad_() for n, v in values.items()}
        y = isonorm.torch.rms_norm(**leaves, eps=1e-6, contract=contract)[0]
        whole = torch.autograd.grad(y, list(leaves.values()), dy)
        expected = {n: gradient.chunk(world, -1)[rank] for n, gradient in zip(leaves, whole)}
        wanted = [[name] for name in values] + [["weight", "gate" if gated else "bias"], ["residual", "weight"]]
        for names in wanted:
            for requiring in (names, list(values)):
                own = {n: v.chunk(world, -1)[rank].clone().requires_grad_(n in requiring) for n, v in values.items()}
                y = parallel.rms_norm(**own, eps=1e-6, contract=contract, group=dist.group.WORLD)[0]
                gradients = torch.autograd.grad(y, [own[n] for n in names], dy.chunk(world, -1)[rank])
                found += [same(g, expected[n]) for n, g in zip(names, gradients)]
    return all(found)


@pytest.mark.parametrize("world", [1, 2])
def test_gradients_of_some(world):
    assert all(ranks.run(some, world))


def count(rank, world):
    def sent(contract, scale=1.0, needs=("x", "weight")):
        x = randn(7, 512)
        x[3] *= scale
        x, weight = (t.chunk(world, -1)[rank].clone() for t in (x, torch.ones(512)))
        x.requires_grad_("x" in needs)
        weight.requires_grad_("weight" in needs)
        with Messages() as forward:
            y = parallel.rms_norm(x, weight, eps=1e-6, contract=contract, group=dist.group.WORLD)
        with Messages() as backward:
            y.sum().backward()
        return forward, backward

    return {
        "rms": sent("llama"),
        "layer_norm": sent("layer_norm"),
        "overflow": sent("torch", 1e30),
        "only_weight": sent("torch", needs=("weight",)),
    }


def test_what_is_sent():
    for found in ranks.run(count, 2):
        # One number for each of seven rows, and one more for the call; two of LayerNorm.
        assert found["rms"] == ([8], [8])
        assert found["layer_norm"] == ([16, 16], [16])
        assert found["overflow"] == ([8, 8, 8], [8])
        assert found["only_weight"] == ([8], [])


def share(rank, world, rows_of_last):
    for dtype in (F32, BF16, F64):
        for contract in ("torch", "layer_norm"):
            rows = [64] * (world - 1) + [rows_of_last]
            values, dy, _ = tensors(dtype, 48, shape=(sum(rows),), bias=True)
            whole = results(isonorm.torch.rms_norm, values, dy, None, eps=1e-6, contract=contract)
            own = {k: v.split(rows)[rank] if k == "x" else v for k, v in values.items()}
            call = {"eps": 1e-6, "contract": contract, "group": None, "data_group": dist.group.WORLD}
            mine = results(parallel.rms_norm, own, dy.split(rows)[rank], None, **call)
            assert same(mine[0][0], whole[0][0].split(rows)[rank])
            assert same(mine[1][0], whole[1][0].split(rows)[rank])
            assert all(same(a, b) for a, b in zip(mine[1][1:], whole[1][1:])), (dtype, contract)
            mean = results(parallel.rms_norm, own, dy.split(rows)[rank] * world, None, reduction="mean", **call)
            if world & (world - 1) == 0:  # a power of two: no rounding
                assert all(same(a, b) for a, b in zip(mean[1][1:], whole[1][1:])), (dtype, contract)
    return True


@pytest.mark.parametrize("world, rows_of_last", [(1, 50), (2, 64), (3, 7), (4, 64), (8, 64), (8, 0), (2, 0)])
def test_gradients_of_rows_apart(world, rows_of_last):
    assert all(ranks.run(share, world, rows_of_last))


def both(rank, world):
    """Columns over two, rows over two: a mesh of four."""
    mesh = dist.init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    row, column = mesh.get_local_rank("dp"), mesh.get_local_rank("tp")
    values, dy, _ = tensors(BF16, 256, shape=(64,))
    whole = results(isonorm.torch.rms_norm, values, dy, None, eps=1e-6)
    own = {k: v.chunk(2)[row].chunk(2, -1)[column] if k == "x" else v.chunk(2)[column] for k, v in values.items()}
    mine = results(
        parallel.rms_norm, own, dy.chunk(2)[row].chunk(2, -1)[column], None, eps=1e-6, group=mesh["tp"], data_group=mesh["dp"]
    )  # fmt: skip
    assert same(mine[0][0], whole[0][0].chunk(2)[row].chunk(2, -1)[column])
    assert same(mine[1][0], whole[1][0].chunk(2)[row].chunk(2, -1)[column])
    return same(mine[1][1], whole[1][1].chunk(2)[column])


def test_columns_and_rows():
    assert all(ranks.run(both, 4))
