"""Where our kernels cannot compute what the module computes, its own forward runs; and the result lies in memory as its own."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from norms import CASES, COLS, Case, random_rows, same_bits, ulps
from torch import nn

import isonorm.transformers.patched
from isonorm.transformers import patch

LLAMA, NANOCHAT = CASES[0], next(case for case in CASES if case.name == "NanoChatRMSNorm")
GATED = {case.name: case for case in CASES if case.gate}


@pytest.fixture
def none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise AssertionError("our kernel was called")

    for name in ("rms_norm", "layer_norm"):
        monkeypatch.setattr(isonorm.transformers.patched, name, fail)
    monkeypatch.setattr(isonorm.transformers.patched, "_made", {})  # classes keep the functions that they were made with


def test_kernels_are_called_otherwise(none_of_ours: None) -> None:
    for case in CASES:
        _, patched = case.pair()
        with pytest.raises(AssertionError, match="our kernel was called"):
            patched(*case.inputs(random_rows(torch.float32, rows=10)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_another_device(case: Case, none_of_ours: None) -> None:
    plain, patched = case.pair()
    inputs = [tensor.to("meta") for tensor in case.inputs(random_rows(torch.float32, rows=10))]
    expected, got = plain.to("meta")(*inputs), patched.to("meta")(*inputs)
    assert got.device.type == "meta" and got.shape == expected.shape and got.dtype == expected.dtype
    assert got.stride() == expected.stride()


@pytest.mark.parametrize("devices", [("meta", "cpu"), ("cpu", "meta")])
def test_devices_that_differ_raise_as_before(devices: tuple[str, str], none_of_ours: None) -> None:
    x = random_rows(torch.float32, rows=3).to(devices[0])
    plain, patched = (module.to(devices[1]) for module in LLAMA.pair())
    with pytest.raises(RuntimeError) as expected:
        plain(x)
    with pytest.raises(RuntimeError) as got:
        patched(x)
    assert str(got.value) == str(expected.value)


class Subclass(torch.Tensor):
    """A tensor that may compute otherwise."""


ROWS = nn.Parameter(torch.arange(40.0)[:, None].expand(40, COLS))
OF_SUBCLASS = nn.Parameter(Subclass(torch.ones(COLS)))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda module: setattr(module, "variance_epsilon", torch.tensor(1e-3)), id="eps is a tensor"),
        pytest.param(lambda module: setattr(module, "variance_epsilon", -1e-9), id="eps is negative"),
        pytest.param(lambda module: setattr(module, "variance_epsilon", float("inf")), id="eps is infinite"),
        pytest.param(lambda module: setattr(module, "variance_epsilon", True), id="eps is a bool"),
        pytest.param(lambda module: setattr(module, "weight", nn.Parameter(torch.tensor(2.0))), id="weight is a scalar"),
        pytest.param(lambda module: setattr(module, "weight", nn.Parameter(torch.ones(1))), id="weight is one value"),
        pytest.param(lambda module: setattr(module, "weight", ROWS), id="weight for each row"),
        pytest.param(lambda module: setattr(module, "weight", OF_SUBCLASS), id="weight is a subclass"),
        pytest.param(lambda module: module.to(torch.complex64), id="complex weight"),
    ],
)
def test_attributes_that_no_contract_has(change: Callable[[nn.Module], Any], none_of_ours: None) -> None:
    plain, patched = LLAMA.pair()
    change(plain), change(patched)
    x = random_rows(torch.float32)
    got, expected = patched(x), plain(x)
    assert type(got) is type(expected) and got.dtype == expected.dtype
    assert same_bits(got.detach().as_subclass(torch.Tensor).real, expected.detach().as_subclass(torch.Tensor).real)


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(torch.randn(3, COLS).as_subclass(Subclass), id="subclass"),
        pytest.param(torch.randn(COLS, 3).t(), id="columns are not neighbours"),
        pytest.param(torch.randn(1, COLS).expand(3, COLS), id="rows are one row"),
        pytest.param(torch.randn(3, 1), id="a column, which the weight widens"),
        pytest.param(torch.randint(-9, 9, (3, COLS)), id="integers"),
        pytest.param(torch.randn(3, 0, COLS)[..., :0].new_empty(3, 0), id="no columns"),
    ],
)
def test_inputs_that_our_kernels_do_not_take(x: torch.Tensor, none_of_ours: None) -> None:
    cases = {0: (NANOCHAT,), 1: (LLAMA,)}.get(x.shape[-1], (LLAMA, NANOCHAT))
    for case in cases:
        plain, patched = case.pair()
        got, expected = patched(x), plain(x)
        assert type(got) is type(expected) and got.stride() == expected.stride()
        if got.dtype == torch.int64:
            assert torch.equal(got, expected)
        else:
            assert same_bits(got.detach().as_subclass(torch.Tensor), expected.detach().as_subclass(torch.Tensor))


def test_errors_are_the_modules_own() -> None:
    wrong: list[tuple[Case, tuple[Any, ...]]] = [
        (LLAMA, (torch.randn(3, COLS + 1),)),
        (LLAMA, (torch.tensor(1.0, dtype=torch.float32).reshape(()).expand(()), "more")),
        (LLAMA, ()),
        (GATED["MambaRMSNormGated"], (torch.randn(3, 50),)),
        (GATED["Qwen3NextRMSNormGated"], (torch.randn(3, COLS), torch.randn(3, 5))),
        (GATED["FalconH1RMSNormGated"], (torch.randn(2, 2, 3, COLS), None)),
        (CASES[2], (torch.randn(3, COLS + 1),)),
    ]
    for case, inputs in wrong:
        plain, patched = case.pair()
        with pytest.raises(Exception) as expected:
            plain(*inputs)
        with pytest.raises(type(expected.value)) as got:
            patched(*inputs)
        assert str(got.value) == str(expected.value)


def test_by_keyword() -> None:
    x, gate = random_rows(torch.float32), random_rows(torch.float32, seed=4)
    _, patched = LLAMA.pair()
    assert same_bits(patched(hidden_states=x), patched(x))
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        patched(x=x)
    _, patched = GATED["Qwen3NextRMSNormGated"].pair()
    assert same_bits(patched(x, gate=gate), patched(x, gate))
    assert same_bits(patched(gate=gate, hidden_states=x), patched(x, gate))


def test_activation_that_changes_later(none_of_ours: None) -> None:
    plain, patched = GATED["Qwen3NextRMSNormGated"].pair()
    plain.activation = patched.activation = "gelu"
    x = random_rows(torch.float32)
    assert same_bits(patched(x, x), plain(x, x))


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda x: x,
    "heads before tokens": lambda x: x.reshape(2, 10, 4, COLS).transpose(1, 2),
    "three axes turned": lambda x: x.reshape(2, 10, 4, COLS).permute(2, 0, 1, 3),
    "a slice of a packed projection": lambda x: x.repeat(1, 1, 3)[..., COLS : 2 * COLS],
    "heads of a packed projection": lambda x: x.reshape(2, 10, 4, COLS)[:, :, 1:3].transpose(1, 2),
    "an axis of one": lambda x: x.reshape(2, 40, 1, COLS).transpose(1, 2),
    "nine dimensions, turned": lambda x: x.reshape(2, 5, 2, 1, 1, 2, 2, 1, COLS).transpose(1, 2),
    "every other row": lambda x: x[:, ::2],
    "columns are not neighbours": lambda x: x.transpose(0, 1).contiguous().reshape(-1, COLS).t().contiguous().t(),
    "no rows": lambda x: x[:, :0].transpose(0, 1),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("case", [case for case in CASES if "Eomt" not in case.name and "ConvNext" not in case.name], ids=str)
def test_results_lie_in_memory_as_before(case: Case, layout: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """A later view() of the model works on the result only if its strides are those of the module's own."""
    plain, patched = case.pair(torch.bfloat16)
    x = layout(random_rows(torch.bfloat16))
    inputs = (x, layout(torch.randn(2, 40, COLS).to(torch.bfloat16))) if case.gate else (x,)
    try:
        expected = plain(*inputs)
    except (RuntimeError, ValueError) as error:
        with pytest.raises(type(error)):
            patched(*inputs)
        return
    got = patched(*inputs)
    assert got.shape == expected.shape
    axes = [axis for axis, size in enumerate(got.shape) if size > 1]
    assert [got.stride(axis) for axis in axes] == [expected.stride(axis) for axis in axes] or got.numel() == 0
    if got.numel():
        assert int(ulps(got, expected).max()) <= 2


def test_nested_tensors_run_the_own_forward(none_of_ours: None) -> None:
    module = nn.RMSNorm(COLS)
    assert len(patch(module)) == 1
    nested = torch.nested.nested_tensor([torch.randn(2, COLS), torch.randn(3, COLS)], layout=torch.jagged)
    assert [part.shape for part in module(nested).unbind()] == [(2, COLS), (3, COLS)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_autocast_changes_no_type(case: Case, dtype: torch.dtype) -> None:
    plain, patched = case.pair()
    for kind in (torch.float32, dtype):
        inputs = case.inputs(random_rows(kind, rows=10))
        with torch.autocast("cpu", dtype=dtype):
            got, expected = patched(*inputs), plain(*inputs)
        assert got.dtype == expected.dtype
        assert same_bits(got, patched(*inputs))
