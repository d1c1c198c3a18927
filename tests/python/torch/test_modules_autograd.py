"""Derivatives of modules, and what runs them: compile, export, checkpointing, autocast, threads."""

from __future__ import annotations

import inspect
import threading

import pytest
import torch
from module_support import array, same, tensor
from torch.utils.checkpoint import checkpoint

import isonorm
from isonorm import torch as it

F64 = {"dtype": torch.float64}
DIFFERENTIABLE = {
    "RMSNorm": (lambda **o: it.RMSNorm(6, **o), 1),
    "RMSNorm two axes": (lambda **o: it.RMSNorm((2, 3), **o), 1),
    "RMSNorm gemma": (lambda **o: it.RMSNorm(6, contract="gemma", **o), 1),
    "RMSNorm paper": (lambda **o: it.RMSNorm(6, 1e-3, contract="paper", **o), 1),
    "LayerNorm": (lambda **o: it.LayerNorm(6, **o), 1),
    "FusedAddRMSNorm": (lambda **o: it.FusedAddRMSNorm(6, **o), 2),
    "GroupedRMSNorm": (lambda **o: it.GroupedRMSNorm(6, 2, **o), 1),
    "PartialRMSNorm": (lambda **o: it.PartialRMSNorm(6, 0.5, bias=True, **o), 1),
    "QKNormRope": (lambda **o: it.QKNormRope(6, **o), 2),
}
GATED = {
    "GatedRMSNorm": (lambda **o: it.GatedRMSNorm(6, **o), 2),
    "GatedRMSNorm mamba2": (lambda **o: it.GatedRMSNorm(6, contract="mamba2", groups=2, **o), 2),
}


def made(make, count, **options):
    torch.manual_seed(0)
    module = make(**options)
    with torch.no_grad():
        for p in module.parameters():
            p.normal_()
    shape = (3, 2, *getattr(module, "normalized_shape", (6,)))
    dtype = options.get("dtype", torch.float32)
    return module, tuple(torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(count))


def test_every_module_is_here():
    """Those of Hugging Face are in test_twins.py; of the gated ones, which f64 has not, the formula is in
    test_torch_derivatives.py."""
    modules = {
        name for name in it.__all__ if inspect.isclass(getattr(it, name)) and issubclass(getattr(it, name), torch.nn.Module)
    }
    twins = {"LlamaRMSNorm", "T5RMSNorm", "GemmaRMSNorm"}
    assert modules - twins - {"QuantizedRMSNorm"} == {name.split()[0] for name in (*DIFFERENTIABLE, *GATED)}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradcheck_and_gradgradcheck(name):
    module, args = made(*DIFFERENTIABLE[name], **F64)
    names = [n for n, _ in module.named_parameters()]
    assert names

    def function(*tensors):
        return torch.func.functional_call(module, dict(zip(names, tensors[len(args) :])), tensors[: len(args)])

    inputs = (*args, *module.parameters())
    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("name", GATED)
def test_gated_gradients_are_isonorms(name):
    module, (x, gate) = made(*GATED[name])
    dy = torch.randn_like(x)
    got = torch.autograd.grad(module(x, gate), (x, module.weight, gate), dy)
    options = {"eps": 1e-6, "contract": module.contract, "groups": module.groups}
    expected = isonorm.rms_norm_backward(array(dy), array(x), array(module.weight), gate=array(gate), **options)
    assert all(same(a, tensor(b)) for a, b in zip(got, (expected.dx, expected.dweight, expected.dgate)))


@pytest.mark.parametrize("name", [*DIFFERENTIABLE, *GATED])
def test_compiled_checkpointed_and_autocast(name):
    make, count = {**DIFFERENTIABLE, **GATED}[name]
    module, args = made(make, count)

    def run(call):
        result = call(*args)
        result = result if isinstance(result, tuple) else (result,)
        loss = sum(r.sin().sum() for r in result)
        return [*result, *torch.autograd.grad(loss, (*args, *module.parameters()))]

    expected = run(module)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for other in (compiled, lambda *a: checkpoint(module, *a, use_reentrant=False)):
        got = run(other)
        assert len(got) == len(expected) and all(same(a, b) for a, b in zip(got, expected))
    torch._dynamo.reset()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(same(a, b) for a, b in zip(run(module), expected))
    with torch.no_grad():
        exported = torch.export.export(module, tuple(a.detach() for a in args)).module()
        got = exported(*(a.detach() for a in args))
        assert all(same(a, b) for a, b in zip(got if isinstance(got, tuple) else (got,), expected))


def test_twins_compile():
    x = torch.randn(3, 8)
    for cls in (it.LlamaRMSNorm, it.T5RMSNorm, it.GemmaRMSNorm):
        for dtype in (torch.float32, torch.bfloat16):
            module = cls(8).to(dtype)
            with torch.no_grad():
                module.weight.normal_()
            y = module(x)
            compiled = torch.compile(module, fullgraph=True, backend="aot_eager")(x)
            assert same(y, compiled)
            module.zero_grad()
            y.sum().backward()
            first = module.weight.grad.clone()
            module.zero_grad()
            compiled.sum().backward()
            assert same(module.weight.grad, first)
        torch._dynamo.reset()


def test_forward_keeps_no_state():
    """Threads may share a module, as DataParallel's do."""
    module, (x,) = made(*DIFFERENTIABLE["RMSNorm"])
    before = dict(vars(module))
    rows = [x.detach() * (i + 1) for i in range(8)]
    expected = [module(r) for r in rows]
    failures = []

    def work(i):
        if not all(same(module(rows[i]), expected[i]) for _ in range(50)):
            failures.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures and vars(module) == before


def test_training_moves_the_weight():
    torch.manual_seed(0)
    module = it.RMSNorm(16, 1e-6)
    x, target = torch.randn(32, 16), torch.randn(32, 16)
    weight, losses = torch.ones(16), []
    optimizer = torch.optim.SGD(module.parameters(), 0.5)
    for _ in range(20):
        optimizer.zero_grad()
        loss = (module(x) - target).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        given = weight.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((it.rms_norm(x, given, eps=1e-6) - target).pow(2).mean(), given)
        weight -= 0.5 * gradient
    assert same(module.weight, weight) and all(after < before for before, after in zip(losses, losses[1:]))
