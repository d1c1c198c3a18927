"""A patched module computes what the class of `transformers` computes: types, bits where bits can be equal, ulps where not."""

from __future__ import annotations

import functools
import itertools

import norms
import pytest
import torch
from norms import CASES, COLS, HALVES, KINDS, Case, random_rows, same_bits, ulps

import isonorm.transformers.patched
from isonorm.transformers.bodies import BODIES
from isonorm.transformers.patched import patched_class

PLAIN = [case for case in CASES if not case.gate and not case.layer_norm]
pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The types of x of all calls of our kernels."""
    found: list[torch.dtype] = []

    def counted(function: object) -> object:
        def count(x: torch.Tensor, *args: object, **options: object) -> object:
            found.append(x.dtype)
            return function(x, *args, **options)  # type: ignore[operator]

        return count

    for name in ("rms_norm", "layer_norm"):
        monkeypatch.setattr(isonorm.transformers.patched, name, counted(getattr(isonorm.transformers.patched, name)))
    monkeypatch.setattr(isonorm.transformers.patched, "_made", {})  # classes keep the functions that they were made with
    return found


@functools.cache
def power_of_four_rows(dtype: torch.dtype, group: int) -> torch.Tensor:
    """Rows whose groups have a mean square of exactly 4^k: few of the values are not 0, and the squares add up to group * 4^k.

    Every sum on the way is exact in float32, in any order, and so are the mean and its root.
    """
    generator = torch.Generator().manual_seed(5)
    rows = []
    for row in range(24):
        parts = []
        for _ in range(COLS // group):
            left, values = group, []
            while left:
                value = int(torch.randint(1, int(left**0.5) + 1, (1,), generator=generator))
                if len(values) + left > group and left < group:  # no room for steps of 1 any more
                    value = int(left**0.5)
                values.append(float(value))
                left -= value * value
            signs = torch.randint(0, 2, (len(values),), generator=generator) * 2 - 1
            part = torch.zeros(group)
            part[torch.randperm(group, generator=generator)[: len(values)]] = torch.tensor(values) * signs
            parts.append(part * 2.0 ** (row % 9 - 4))
        rows.append(torch.cat(parts))
    x = torch.stack(rows)
    scale = torch.tensor([4.0 ** (row % 9 - 4) for row in range(24)])[:, None]
    assert torch.equal(x.reshape(24, -1, group).square().mean(-1), scale.expand(24, COLS // group))
    assert torch.equal(x.to(dtype).float(), x)
    return x.to(dtype)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_power_of_four_rows_give_the_bits_of_the_module(case: Case, dtype: torch.dtype, calls: list[torch.dtype]) -> None:
    x = power_of_four_rows(dtype, dict(case.options).get("group_size", COLS))
    if case.name == "MuseSparkTextInputScaledRMSNorm":
        plain, patched = case.pair(dtype, eps=0.0)
        for module in (plain, patched):  # its weight comes before the norm: 1 + weight is 1 or 2 for the whole row
            torch.nn.init.zeros_(module.weight)
    else:
        plain, patched = case.pair(dtype, eps=0.0)
    assert same_bits(patched(x), plain(x))
    assert len(calls) == (case.name != "DeepseekV4UnweightedRMSNorm")
    for weights in KINDS:
        plain, patched = plain.to(weights), patched.to(weights)
        assert same_bits(patched(x), plain(x))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_random_rows_are_within_the_roundings(case: Case, dtype: torch.dtype) -> None:
    """Within 1 ulp for one rounding and 2 for two, more than 1 on less than 0.2 % of the values.

    Two floats may lie on either side of where a rounding turns, which makes 1 ulp; a factor may make 2 of it, in a value of
    smaller significand, and each further rounding after a factor doubles it again.
    """
    if case.name == "EsmFold2LayerNorm":
        plain, patched = case.pair(torch.float32)
    else:
        plain, patched = case.pair(dtype)
    inputs = case.inputs(random_rows(dtype, rows=500))
    off = ulps(patched(*inputs), plain(*inputs))
    assert int(off.max()) <= 2 ** (case.roundings - 1)
    assert float((off > 1).double().mean()) < 0.002
    # The values before the roundings differ by some 2^-22 of themselves: few of them round to another value at all.
    assert float((off > 0).double().mean()) < 0.002


@pytest.mark.parametrize("case", [case for case in CASES if not case.layer_norm], ids=str)
def test_float32_rows_are_within_the_operations(case: Case) -> None:
    """Both sides differ from the true value by u = 2^-24 for each operation on the way to it.

    The sum of n squares: its terms go through less than 12 additions here (n / 64 lanes and 6 levels), and in torch less than
    n / 4 in a row; all are positive, so the relative error of the sum is at most (n / 4 + 1) u, that of its root half as much.
    Mean, eps, root and quotient add 4 u, scale and weight 2 u, 1 + weight 1 u; a gate's function 5 u (2.49 ulp here, less in
    torch) and a product; before the sum it counts twice, for the value and for the root.
    """
    plain, patched = case.pair()
    inputs = case.inputs(random_rows(torch.float32, rows=200))
    got, expected = patched(*inputs).double(), plain(*inputs).double()
    bound = 2 * ((COLS / 4 + 1) / 2 + 7 + (12 if case.gate else 0)) * 2.0**-24
    assert bool(((got - expected).abs() <= bound * expected.abs()).all())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_types_of_results(case: Case, calls: list[torch.dtype]) -> None:
    """For every mix of types the result has the type of the module's own; with float64 anywhere it has its bits."""
    kinds = (*KINDS, torch.float64)
    for weights, of_x in itertools.product(kinds, kinds):
        plain, patched = case.pair(weights)
        inputs = case.inputs(random_rows(of_x, rows=10))
        try:
            expected = plain(*inputs)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                patched(*inputs)
            continue
        calls.clear()
        got = patched(*inputs)
        assert got.dtype == expected.dtype and got.shape == expected.shape
        has_parameters = any(True for _ in plain.parameters())
        if of_x == torch.float64 or (weights == torch.float64 and has_parameters):
            assert not calls and same_bits(got, expected)
        elif of_x == weights:
            assert calls or case.name in ("DeepseekV4UnweightedRMSNorm", "EsmFold2LayerNorm")
            assert int(ulps(got, expected).max()) <= 2 or of_x == torch.float32
        elif expected.dtype != torch.float32 or of_x == torch.float32:
            assert int(ulps(got.to(torch.bfloat16), expected.to(torch.bfloat16)).max()) <= 2
        else:  # rounded to x's type, and then widened by the weight
            assert int(ulps(got.to(of_x), expected.to(of_x)).max()) <= 2


@pytest.mark.parametrize("dtype", HALVES)
def test_another_contract_would_be_seen(dtype: torch.dtype) -> None:
    """What these tests rest on: on random data the contracts differ, by more than the share that is allowed."""
    x = random_rows(dtype, rows=500)
    for name, wrong in (("LlamaRMSNorm", "9bb6bb8e55cf1713"), ("Olmo2RMSNorm", "f5c95295c0f85e5a")):
        case = next(case for case in CASES if case.name == name)
        plain, patched = case.make(dtype), case.make(dtype)
        patched.__class__ = patched_class(case.cls, BODIES[wrong])
        assert float((ulps(patched(x), plain(x)) > 0).double().mean()) > 0.02


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("case", [case for case in CASES if case.gate], ids=str)
def test_gate_that_is_not_there(case: Case, dtype: torch.dtype) -> None:
    plain, patched = case.pair(dtype)
    x = random_rows(dtype, rows=10)
    try:
        expected = plain(x)
    except (AttributeError, TypeError) as error:
        with pytest.raises(type(error)):
            patched(x)
        return
    assert int(ulps(patched(x).to(torch.bfloat16), expected.to(torch.bfloat16)).max()) <= 1
    assert same_bits(patched(x, None), patched(x)) and same_bits(patched(hidden_states=x, gate=None), patched(x))


@pytest.mark.parametrize("case", [case for case in CASES if case.gate], ids=str)
def test_gate_of_another_type(case: Case) -> None:
    plain, patched = case.pair(torch.bfloat16)
    x = random_rows(torch.bfloat16, rows=200)
    for kind in (*KINDS, torch.float64):
        gate = torch.randn(x.shape).to(kind)
        got, expected = patched(x, gate), plain(x, gate)
        assert int(ulps(got, expected).max()) <= 2 and got.dtype == torch.bfloat16


def test_row_alone_and_threads() -> None:
    """A row alone has the bits that it has in its batch, patched, whatever the number of threads."""
    _, patched = norms.CASES[0].pair(torch.bfloat16)
    x = random_rows(torch.bfloat16, rows=300)
    whole = patched(x)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert same_bits(patched(x), whole)
    finally:
        torch.set_num_threads(threads)
    assert all(same_bits(patched(x[1, row]), whole[1, row]) for row in range(0, 300, 37))
