"""enable(), disable(), enabled(): what is replaced when, and that all is given back."""

import subprocess
import sys
import textwrap
import threading

import pytest

torch = pytest.importorskip("torch")
import isonorm.torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from torch_support import OLD_TORCH  # noqa: E402, I001

RMS = ("_fused_rms_norm", "_fused_rms_norm_backward")
LAYER = ("native_layer_norm", "native_layer_norm_backward")


def table(name):
    return torch._C._dispatch_dump_table(f"aten::{name}")


def is_ours(name):
    return "CPU: registered at isonorm:" in "\n" + table(name)


def replaced():
    return is_ours(RMS[0]), is_ours(LAYER[0]), is_ours(LAYER[1])


@pytest.fixture(autouse=True)
def _restored():
    isonorm.torch.disable()
    yield
    isonorm.torch.disable()


def run(code, *options):
    """Runs code in a Python of its own, where nothing was enabled before."""
    done = subprocess.run([sys.executable, *options, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def silent(stderr):
    return stderr == "" or (OLD_TORCH and stderr.count("[W") == 1 and "Overriding a previously registered kernel" in stderr)


def test_the_tables_are_as_they_were():
    before = {name: table(name) for name in (RMS[0], *LAYER)}
    isonorm.torch.enable()
    assert replaced() == (True, True, True) and is_ours(RMS[1])
    assert all(table(name) != before[name] for name in before)
    isonorm.torch.disable()
    assert {name: table(name) for name in before} == before


def test_only_the_backward_that_torch_lacks_stays():
    run("""
        import torch, isonorm.torch
        table = lambda: torch._C._dispatch_dump_table("aten::_fused_rms_norm_backward").splitlines()
        before = table()
        assert not any(line.startswith("CPU:") for line in before)
        isonorm.torch.enable()
        isonorm.torch.disable()
        added = [line for line in table() if line not in before]
        assert added == ["CPU: registered at isonorm:0 [kernel]"], added
        assert [line for line in table() if line not in added] == before
    """)


def test_each_norm_is_replaced_unless_it_is_refused():
    isonorm.torch.enable(layer_norm=False)
    assert replaced() == (True, False, False)
    isonorm.torch.disable()
    isonorm.torch.enable(rms_norm=False)
    assert replaced() == (False, True, True)
    isonorm.torch.enable(layer_norm=False)  # what is refused stays as it is
    assert replaced() == (True, True, True)


def test_twice_is_as_once():
    isonorm.torch.disable()
    isonorm.torch.enable()
    isonorm.torch.enable()
    assert replaced() == (True, True, True)
    isonorm.torch.disable()
    assert replaced() == (False, False, False)
    isonorm.torch.disable()
    isonorm.torch.enable()
    assert replaced() == (True, True, True)


def test_blocks_lie_in_each_other():
    with isonorm.torch.enabled(layer_norm=False):
        with isonorm.torch.enabled():
            assert replaced() == (True, True, True)
        assert replaced() == (True, False, False)
        isonorm.torch.enable()
        isonorm.torch.disable()  # takes back enable(), not the block
        assert replaced() == (True, False, False)
    assert replaced() == (False, False, False)
    isonorm.torch.enable()
    with isonorm.torch.enabled():
        pass
    assert replaced() == (True, True, True)


def test_a_block_ends_with_an_exception_too():
    with pytest.raises(KeyError):
        with isonorm.torch.enabled():
            raise KeyError
    assert replaced() == (False, False, False)


def test_blocks_of_several_threads():
    entered, leave = threading.Barrier(3), threading.Event()
    failures = []

    def work():
        with isonorm.torch.enabled():
            entered.wait()
            leave.wait()
            if not is_ours(RMS[0]):
                failures.append("replaced by torch's own although a block goes on")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    entered.wait()
    with isonorm.torch.enabled():
        pass
    assert is_ours(RMS[0])
    leave.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert replaced() == (False, False, False)


def test_many_threads_compute_at_once():
    x = torch.randn(64, 96)
    results = [None] * 8
    with isonorm.torch.enabled():
        expected = F.rms_norm(x, (96,), eps=1e-6)

        def work(i):
            results[i] = all(torch.equal(F.rms_norm(x, (96,), eps=1e-6), expected) for _ in range(200))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 8


def test_nothing_is_printed_and_no_compiler_loaded():
    done = run(
        """
        import sys, torch
        before = set(sys.modules)
        import isonorm.torch
        from torch.nn import functional as F
        for _ in range(2):
            isonorm.torch.enable()
            x = torch.randn(3, 8, requires_grad=True)
            w = torch.ones(8, requires_grad=True)
            (F.rms_norm(x, (8,), w) + F.layer_norm(x, (8,), w, w)).sum().backward()
            isonorm.torch.disable()
        loaded = {name.split(".")[0] for name in set(sys.modules) - before} | {n for n in sys.modules if "dynamo" in n} - before
        assert not loaded & {"triton", "torch._dynamo", "transformers"}, loaded
    """,
        "-W",
        "error",
    )
    assert done.stdout == "" and silent(done.stderr)


def test_the_process_ends_well_while_enabled():
    done = run("""
        import torch, isonorm.torch
        isonorm.torch.enable()
        torch.nn.functional.layer_norm(torch.randn(3, 8), (8,))
    """)
    assert silent(done.stderr)


def test_an_override_before_ours_is_given_back():
    own = torch.library.Library("aten", "IMPL")
    calls = []

    def other(x, normalized_shape, weight, bias, eps):
        calls.append(x.dtype)
        stats = x.new_zeros(x.shape[0], 1)
        return x + 1, stats, stats

    own.impl("native_layer_norm", other, "CPU")
    try:
        x = torch.randn(2, 4)
        with isonorm.torch.enabled():
            F.layer_norm(x, (4,))
            assert calls == []
            y = F.layer_norm(x, (4,), eps=-1e-9)  # not ours: goes to what was there before
            assert calls == [torch.float32] and torch.equal(y, x + 1)
        assert torch.equal(F.layer_norm(x, (4,)), x + 1)
    finally:
        own._destroy()
    assert not torch.equal(F.layer_norm(x, (4,)), x + 1)


def test_an_eps_that_float32_does_not_have_is_torchs():
    x = torch.ones(2, 8)
    for function in (torch.nn.functional.rms_norm, torch.nn.functional.layer_norm):
        own = function(x, (8,), eps=1e300)
        with isonorm.torch.enabled():
            assert torch.equal(function(x, (8,), eps=1e300), own)
