"""What holds for every function and module of isonorm.torch: empty batches, saved tensors that are guarded, transforms, threads."""

import multiprocessing
import os
import subprocess
import sys
import time

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch_support import randn, roundings, same

import isonorm
import isonorm.torch as it

TABLES = {
    dtype: (randn(9, 4, seed=20, dtype=dtype), randn(9, 4, seed=21, dtype=dtype)) for dtype in (torch.float32, torch.float64)
}
# name: the function, and the shapes of its arguments: "x" has rows, "w" is [8], "r" one number for each row
FUNCTIONS = {
    "rms_norm": (lambda x, w, b: it.rms_norm(x, w, b, eps=1e-5), "xww"),
    "rms_norm, no weight": (lambda x: it.rms_norm(x, eps=1e-5, contract="microgpt"), "x"),
    "rms_norm, all it can return": (
        lambda x, w, r: it.rms_norm(x, w, eps=1e-5, residual=r, groups=2, return_rstd=True)[:2],
        "xwx",
    ),
    "rms_norm, kept": (
        lambda x, w, r: tuple(it.rms_norm(x, w, eps=1e-5, residual=r, contract=KEPT)),
        "xwx",
    ),
    "rms_norm, gate": (lambda x, w, g: it.rms_norm(x, w, gate=g, eps=1e-5, contract="mamba2"), "xwx"),
    "rms_norm, rope": (lambda x, w: it.rms_norm(x, w, eps=1e-5, rope=rope(x)), "xw"),
    "layer_norm": (lambda x, w, b: it.layer_norm(x, w, b, eps=1e-5), "xww"),
    "qk_norm": (lambda q, k, qw, kw: it.qk_norm(q, k, qw, kw, eps=1e-5, rope=rope(q)), "xxww"),
    "rms": (it.rms, "x"),
    "rms_penalty": (lambda x: it.rms_penalty(x, 0.3), "x"),
    "rms_norm_backward": (lambda dy, x, w, b: tuple(it.rms_norm_backward(dy, x, w, b, eps=1e-5)), "xxww"),
    "layer_norm_backward": (lambda dy, x, w: tuple(it.layer_norm_backward(dy, x, w, eps=1e-5)), "xxw"),
    "double_backward": (lambda dy, x, w, ddx: tuple(it.double_backward(dy, x, w, ddx=ddx, eps=1e-5)), "xxwx"),
    "the operator": (lambda x, w: torch.ops.isonorm.rms_norm(x, w, eps=1e-5), "xw"),
    "RMSNorm": (lambda x, w: call(it.RMSNorm(8), x, weight=w), "xw"),
    "LayerNorm": (lambda x, w, b: call(it.LayerNorm(8), x, weight=w, bias=b), "xww"),
    "FusedAddRMSNorm": (lambda x, r, w: call(it.FusedAddRMSNorm(8), x, r, weight=w), "xxw"),
    "GatedRMSNorm": (lambda x, g, w: call(it.GatedRMSNorm(8), x, g, weight=w), "xxw"),
    "GroupedRMSNorm": (lambda x, w: call(it.GroupedRMSNorm(8, 2), x, weight=w), "xw"),
    "PartialRMSNorm": (lambda x, w: call(it.PartialRMSNorm(8, 0.5), x, weight=w), "xw"),
    "QKNormRope": (
        lambda q, k, a, b: call(it.QKNormRope(8, position_axis=0), q, k, *TABLES[q.dtype], q_weight=a, k_weight=b),
        "xxww",
    ),
    "LlamaRMSNorm": (lambda x, w: call(it.LlamaRMSNorm(8), x, weight=w), "xw"),
    "T5RMSNorm": (lambda x, w: call(it.T5RMSNorm(8), x, weight=w), "xw"),
    "GemmaRMSNorm": (lambda x, w: call(it.GemmaRMSNorm(8), x, weight=w), "xw"),
}
KEPT = isonorm.contracts.Contract("rms", "inside", "to_x", "kept", "none", "silu", "to_x")
NO_GRADIENTS = {"Rope", "QuantizedRMSNorm", "Watch", "watch", "enable", "disable", "enabled"}


def rope(x):
    return it.Rope(*TABLES[x.dtype], position_axis=0)


def call(module, *inputs, **parameters):
    return torch.func.functional_call(module, parameters, inputs)


def flat(result):
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def leaves(kinds, rows=5, dtype=torch.float32):
    shapes = {"x": (rows, 2, 8), "w": (8,)}
    return [randn(*shapes[kind], seed=i, dtype=dtype, grad=True) for i, kind in enumerate(kinds)]


def equal(gradients, expected):
    """Of autograd, None counts as zeros."""
    pairs = zip(gradients, expected, strict=True)
    return all(
        same(a, b) if a is not None and b is not None else not (b if a is None else a).any() for a, b in pairs if a is not b
    )


def loss(results):
    return sum((y * torch.arange(1.0, y.shape[-1] + 1, dtype=y.dtype)).sin().sum() for y in flat(results))


def test_every_one_is_here():
    assert set(it.__all__) - NO_GRADIENTS - {name.split(",")[0] for name in FUNCTIONS} == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_empty_batches(name):
    function, kinds = FUNCTIONS[name]
    full, own = function(*leaves(kinds)), leaves(kinds, rows=0)
    for y, like in zip(flat(function(*own)), flat(full), strict=True):
        expected = tuple(like.shape) if like.dim() == 1 and like.shape != (5,) else (0, *like.shape[1:])
        assert y.shape == expected and y.dtype == like.dtype and not y.any()
    gradients = torch.autograd.grad(loss(function(*own)), own, allow_unused=True)
    for gradient, tensor in zip(gradients, own):
        assert gradient is None or (gradient.shape == tensor.shape and not gradient.any())
    with torch.no_grad():
        assert [y.shape for y in flat(function(*own))] == [y.shape for y in flat(function(*leaves(kinds, rows=0)))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_change_in_place_of_what_gradients_need_is_an_error(name):
    """Never a gradient of other values in silence."""
    function, kinds = FUNCTIONS[name]
    right = leaves(kinds)
    expected = torch.autograd.grad(loss(function(*right)), right, allow_unused=True)
    refused = []
    for changed in range(len(kinds)):
        first = leaves(kinds)
        own = [tensor * 1 for tensor in first]
        total = loss(function(*own))
        with torch.no_grad():
            own[changed].mul_(1.5)
        try:
            gradients = torch.autograd.grad(total, first, allow_unused=True)
        except RuntimeError as error:
            assert "modified by an inplace operation" in str(error)
            refused.append(kinds[changed])
        else:  # it was not needed: a bias, or what was added to a residual
            assert equal(gradients, expected)
    assert refused


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(name, reentrant):
    function, kinds = FUNCTIONS[name]
    own = leaves(kinds)
    calls = []

    def counted(*tensors):
        calls.append(torch.is_grad_enabled())
        return function(*tensors)

    expected = torch.autograd.grad(loss(function(*own)), own, allow_unused=True)
    total = loss(checkpoint(counted, *own, use_reentrant=reentrant))
    assert len(calls) == 1
    total.backward()
    assert len(calls) == 2 and equal([tensor.grad for tensor in own], expected)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "the operator"])
def test_transforms_of_torch_func(name):
    """grad and vjp have the bits of autograd where it records, and vmap those of a loop."""
    function, kinds = FUNCTIONS[name]
    own = leaves(kinds)
    plain = [tensor.detach() for tensor in own]
    expected = torch.autograd.grad(loss(function(*own)), own, allow_unused=True, create_graph=True)
    argnums = tuple(range(len(kinds)))
    got = torch.func.grad(lambda *tensors: loss(function(*tensors)), argnums)(*plain)
    assert equal(got, expected)
    results = flat(function(*plain))
    outputs, pull = torch.func.vjp(function, *plain)
    assert all(same(a, b) for a, b in zip(flat(outputs), results))
    cotangents = [randn(*y.shape, dtype=y.dtype, seed=30) for y in results]
    pulled = pull(tuple(cotangents) if isinstance(outputs, tuple) else cotangents[0])
    assert equal(pulled, torch.autograd.grad(flat(function(*own)), own, cotangents, allow_unused=True, create_graph=True))
    batch = torch.stack([plain[0], plain[0] * 2, plain[0] - 1])
    over = torch.func.vmap(function, (0, *(None,) * (len(kinds) - 1)))(batch, *plain[1:])
    each = [flat(function(item, *plain[1:])) for item in batch]
    for i, y in enumerate(flat(over)):
        assert same(y, torch.stack([item[i] for item in each]))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if "gate" not in name.lower() and name != "the operator"])
def test_jvp_is_the_transpose_of_vjp(name):
    """<dy, J t> = <Jᵀ dy, t>, in f64; the functions of most derivatives are double_backward and a norm of 8 values behind it."""
    function, kinds = FUNCTIONS[name]
    plain = [tensor.detach() for tensor in leaves(kinds, dtype=torch.float64)]
    tangents = tuple(randn(*tensor.shape, dtype=torch.float64, seed=40 + i) for i, tensor in enumerate(plain))
    outputs, moved = torch.func.jvp(function, tuple(plain), tangents)
    cotangents = [randn(*y.shape, dtype=y.dtype, seed=50) for y in flat(outputs)]
    _, pull = torch.func.vjp(function, *plain)
    pulled = pull(tuple(cotangents) if isinstance(outputs, tuple) else cotangents[0])
    left = [(a * b) for a, b in zip(cotangents, flat(moved), strict=True)]
    right = [(a * b) for a, b in zip(pulled, tangents, strict=True)]
    size = sum(t.abs().sum() for t in (*left, *right))
    assert abs(sum(t.sum() for t in left) - sum(t.sum() for t in right)) <= roundings(8, 3) * size


def test_forward_mode_of_operators():
    """Torch's registration of operators has none, and would take every tangent for zeros in silence."""
    x, w, t = (randn(*shape, dtype=torch.float64, seed=i) for i, shape in enumerate(((3, 8), (8,), (3, 8))))
    ops = torch.ops.isonorm
    for operator, function in (
        (lambda x: ops.rms_norm(x, w, eps=1e-5), lambda x: it.rms_norm(x, w, eps=1e-5)),
        (lambda x: ops.rms_norm(x, eps=1e-5, contract="layer_norm"), lambda x: it.layer_norm(x, eps=1e-5)),
        (lambda x: ops.forward(x, w, None, 1e-5, "torch", True)[0], lambda x: it.rms_norm(x, w, eps=1e-5)),
        (lambda x: ops.qk_norm(x, x, w, w, 1e-5, "torch")[1], lambda x: it.qk_norm(x, x, w, w, eps=1e-5)[1]),
        (ops.rms, it.rms),
    ):
        expected = torch.func.jvp(function, (x,), (t,))
        with torch.autograd.forward_ad.dual_level():
            dual = operator(torch.autograd.forward_ad.make_dual(x, t))
            assert all(same(a, b) for a, b in zip(torch.autograd.forward_ad.unpack_dual(dual), expected))
        for transform in (torch.func.grad(lambda x: operator(x).sum()), lambda x: torch.func.jvp(operator, (x,), (t,))):
            with pytest.raises(NotImplementedError, match="torch.func does not differentiate torch.ops.isonorm"):
                transform(x)
        torch._dynamo.reset()
        compiled = torch.compile(lambda x, t: torch.func.jvp(function, (x,), (t,)), backend="aot_eager")
        assert all(same(a, b) for a, b in zip(compiled(x, t), expected))


def in_a_new_process(function, *arguments):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply_async(function, arguments).get(timeout=300)


def started_threads():
    def tasks():
        return len(os.listdir("/proc/self/task"))

    def compute():
        y = it.rms_norm(x, w, eps=1e-5)
        torch.autograd.grad(y.sum(), (x, w))
        it.layer_norm(x, w, eps=1e-5, residual=x)
        with it.enabled():
            torch.nn.functional.rms_norm(x, (1024,), w).sum().backward()
            torch.nn.functional.layer_norm(x, (1024,), w).sum().backward()
        return tasks()

    x, w = randn(1024, 1024, grad=True), randn(1024, grad=True)
    torch.set_num_threads(1)
    found = [tasks(), compute()]
    torch.set_num_threads(3)
    (torch.ones(4096, 1024) * 2).sin()  # torch's own operators start the threads: ours have to do with these
    found += [tasks(), compute()]
    spent = {}
    for threads in (1, 3):
        torch.set_num_threads(threads)
        started = time.process_time() - time.thread_time()
        with torch.no_grad():
            for _ in range(5):
                it.rms_norm(x, w, eps=1e-5)
        spent[threads] = time.process_time() - time.thread_time() - started
    return found, spent


def test_torchs_own_threads_compute():
    """As many as torch.set_num_threads says, by its parallel_for: none of our own is ever started."""
    found, spent = in_a_new_process(started_threads)
    assert found[0] == found[1] < found[2] == found[3]
    assert spent[1] < 1e-3 < spent[3]  # seconds of CPU time in other threads; a share of the work takes milliseconds


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return it.rms_norm(randn(256, 1024, seed=i), eps=1e-5)


def test_workers_of_a_data_loader():
    """Forked after this process has computed with threads."""
    expected = [Rows()[i] for i in range(8)]
    for context in ("fork", "spawn"):
        loader = torch.utils.data.DataLoader(
            Rows(), num_workers=2, batch_size=None, multiprocessing_context=context, timeout=240
        )
        assert all(same(a, b) for a, b in zip(loader, expected, strict=True))


def test_no_compiler_is_imported_by_any_of_it():
    code = """
import sys, torch, isonorm.torch, test_every_function as t
for name, (function, kinds) in t.FUNCTIONS.items():
    own = t.leaves(kinds)
    torch.autograd.grad(t.loss(function(*own)), own, create_graph=True)
    with torch.no_grad():
        function(*own)
loaded = [m for m in sys.modules if m.split(".")[0] == "triton" or m.startswith(("torch._dynamo", "torch._inductor"))]
assert not loaded, loaded
"""
    # Not functional_call, which imports torch._dynamo itself.
    code = code.replace("for name,", "t.call = lambda module, *inputs, **parameters: module(*inputs)\nfor name,")
    code = code.replace(", own, create_graph", ", own, allow_unused=True, create_graph")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=os.path.dirname(__file__))
