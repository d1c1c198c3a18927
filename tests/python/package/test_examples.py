"""examples/python: each prints what stands beside it, and what it says of numbers that depend on the machine is true."""

from __future__ import annotations

import importlib
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree
from typing import Any

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[3]
FOLDER = ROOT / "examples" / "python"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py"))
# Smaller than what users get.
ARGUMENTS = {"prenorm_blocks": ["--shape", "3", "5", "64"]}
CHANGES = {"prenorm_blocks": ("32x512x4096", "3x5x64")}
# In an .out file `~` stands before a number, such as a time, that depends on the machine or on another library's order of sums.
NUMBER = r"\d[\d.]*(?:e[-+]\d+)?"


def expected(name: str) -> re.Pattern[str]:
    text = (FOLDER / f"{name}.out").read_text().replace(*CHANGES.get(name, ("", "")))
    return re.compile(f" *{NUMBER}".join(re.escape(part) for part in re.split(f" *~{NUMBER}", text)))


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example that the test is named after, as a module."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return importlib.import_module(request.param)


# Those of MPI are run by ranks: tests/package/mpi.cmake.
@pytest.mark.parametrize("name", [name for name in EXAMPLES if not name.startswith("mpi_")])
def test_prints_what_stands_beside_it(name: str) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", *ARGUMENTS.get(name, [])],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert expected(name).fullmatch(done.stdout), done.stdout


@pytest.mark.parametrize(
    "page, link", [("examples/README.md", "(python/{}.py)"), ("docs/python.md", "(../examples/python/{}.py)")]
)
def test_pages_name_every_example(page: str, link: str) -> None:
    text = (ROOT / page).read_text()
    assert EXAMPLES and not [name for name in EXAMPLES if link.format(name) not in text]


def test_only_numbers_behind_a_tilde_are_free() -> None:
    lines = (FOLDER / "prenorm_blocks.out").read_text().replace(*CHANGES["prenorm_blocks"])
    timed = re.sub(r"~[\d.]+ ms", "12345.67 ms", lines).replace("~", "")
    pattern = expected("prenorm_blocks")
    assert pattern.fullmatch(timed)
    for old, new in (("2,304", "2,305"), ("0.64", "0.65"), ("12345.67", "nan"), ("12345.67 ms", "ms"), ("\n", "")):
        assert old in timed and not pattern.fullmatch(timed.replace(old, new, 1))


@pytest.mark.parametrize("example", ["from_scratch"], indirect=True)
def test_both_are_as_accurate_as_float32(example: Any) -> None:
    x, dy, weight = (array.astype(np.float64) for array in example.random_rows())
    rows, cols = x.shape
    u = 2.0**-24
    # A sum of n squares in any order is off by n u of itself, its root by half of that; then follow a mean, eps, a root, a
    # quotient and a product, with a u for each, and one more for u^2.
    root = (cols / 2 + 6) * u
    rstd = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + example.EPS)
    normalised = x * rstd
    y, dweight = normalised * weight, np.sum(dy * normalised, axis=0)
    dweight_bound = (root + (rows + 1) * u) * np.sum(np.abs(dy * normalised), axis=0)
    # dx = (g - normalised * mean) / rms: both terms have the errors of their factors, and mean that of its own sum.
    g = dy * weight
    mean = np.mean(g * normalised, axis=-1, keepdims=True)
    mean_bound = (root + (cols + 3) * u) * np.mean(np.abs(g * normalised), axis=-1, keepdims=True)
    dx = (g - normalised * mean) * rstd
    dx_bound = ((root + 4 * u) * (2 * np.abs(g) + 3 * np.abs(normalised * mean)) + np.abs(normalised) * mean_bound) * rstd
    bounds = {
        "y": root,
        "dx": dx_bound.max() / np.abs(dx).max(),
        "dweight": dweight_bound.max() / np.abs(dweight).max(),
    }
    assert np.abs(y).max() > 0
    errors = example.errors(*example.random_rows())
    assert list(errors) == list(bounds)
    for name, pair in errors.items():
        assert 0 < max(pair) <= bounds[name]


@pytest.mark.parametrize("example", ["hugging_face_twins"], indirect=True)
def test_twins_differ_in_fewer_than_two_values_of_a_thousand(example: Any) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    with torch.no_grad():
        for dtype in (torch.bfloat16, torch.float32):
            results = example.compare(dtype)
            assert len(results) == 5
            for name, same_keys, ours, theirs in results:
                assert same_keys and ours.dtype == theirs.dtype == dtype and ours.shape == theirs.shape
                if name.endswith("the sum"):
                    assert torch.equal(ours, theirs)
                elif dtype == torch.bfloat16:
                    # Gemma rounds once, the others twice: docs/python.md.
                    assert example.differing(ours, theirs) < 0.002
                    assert example.distance(ours, theirs) <= (1 if "Gemma" in name else 2)
                else:
                    # Both sides as y in the test above, in ulps of 2 u or less.
                    assert example.distance(ours, theirs) <= 2 * (example.WIDTH / 2 + 6)
    one, two = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([1 + 2**-23, -2.0 + 2**-23, 0.0])
    assert example.distance(one, two) == 1 and example.distance(two.bfloat16(), one.bfloat16()) == 0
    assert example.differing(one, two) == pytest.approx(2 / 3)


@pytest.mark.parametrize("example", ["gradient_penalty"], indirect=True)
def test_penalty_has_the_bits_of_torchs_where_all_is_exact(example: Any) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    # Each row has a mean square of 16 over 16 columns, so that with eps 0 everything is an integer by a power of two.
    row = torch.tensor([1.0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 10, 8, 6, 0])
    x = torch.stack([row[torch.randperm(16)] * torch.randint(0, 2, (16,)).mul(2).sub(1) for _ in range(8)])
    assert (x.square().sum(-1) == 256).all()
    weight, last = torch.randint(-8, 9, (2, 16)).double()
    results = []
    for norm in (example.isonorm.torch.RMSNorm, torch.nn.RMSNorm):
        critic = torch.nn.Sequential(norm(16, eps=0.0), torch.nn.Linear(16, 1)).double()
        with torch.no_grad():
            critic[0].weight.copy_(weight)
            critic[1].weight.copy_(last[None])
        penalty = example.r1_penalty(critic, x.double())
        results.append((penalty, *torch.autograd.grad(penalty, (critic[0].weight, critic[1].weight))))
    assert all(torch.equal(a, b) and a.abs().max() > 0 for a, b in zip(*results))


@pytest.mark.parametrize("example", ["gradient_penalty"], indirect=True)
def test_training_is_that_with_torchs_norm_in_float64(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    example.main(torch.nn.RMSNorm, torch.float64)
    assert expected("gradient_penalty").fullmatch(capsys.readouterr().out)


@pytest.mark.parametrize("example", ["gradient_penalty"], indirect=True)
def test_gradients_of_the_penalty_are_those_of_differences(example: Any) -> None:
    torch = pytest.importorskip("torch")
    critic = example.critic(width=4).double()
    names, values = zip(*critic.named_parameters())
    x = example.points()[0][:3].double()

    def penalty(*values: Any) -> Any:
        return example.r1_penalty(lambda x: torch.func.functional_call(critic, dict(zip(names, values)), (x,)), x)

    assert torch.autograd.gradcheck(penalty, values)


@pytest.mark.parametrize("example", ["width_neutral_penalty"], indirect=True)
def test_one_penalty_pulls_alike_at_every_width(example: Any) -> None:
    torch = pytest.importorskip("torch")
    pulls = {}
    for penalty in (example.rms_penalty, example.l2):
        pulls[penalty] = set()
        for width in example.WIDTHS:
            assert width & (width - 1) == 0  # so that nothing is rounded when it divides or multiplies
            x = torch.ones(1, width, requires_grad=True)
            (gradient,) = torch.autograd.grad(penalty(x).sum(), x)
            pulls[penalty] |= set((width * gradient).flatten().tolist())
    twice = torch.tensor(2 * example.RMS_LAMBDA, dtype=torch.float32).item()
    assert pulls[example.rms_penalty] == {twice}
    assert pulls[example.l2] == {twice * width / example.WIDTHS[0] for width in example.WIDTHS}


@pytest.mark.parametrize("example", ["width_neutral_penalty"], indirect=True)
def test_fits_are_the_minimum(example: Any) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    rows = 5
    for width in example.WIDTHS:
        noisy = torch.randn(rows, width)
        for penalty, factor in ((example.rms_penalty, example.RMS_LAMBDA), (example.l2, example.L2_LAMBDA * width)):
            fit = example.smooth(noisy, penalty).double()
            exact = noisy.double() / (1 + factor)

            def loss(fit: Any) -> float:
                return ((fit - noisy.double()).square().mean(-1) + penalty(fit)).sum().item()

            # No better loss can be seen in float32: two of them are off by as much as two sums of that many squares. Those of
            # float64 below are off by less than 2^-40.
            assert loss(exact) * (1 - 2.0**-40) <= loss(fit) <= loss(exact) * (1 + 2 * (width + rows + 6) * 2.0**-24)


@pytest.mark.parametrize("example", ["microgpt"], indirect=True)
def test_picture_of_training_is_whole_and_says_what_readme_says(example: Any) -> None:
    steps, (least, most) = 40, (2.0, 9.0)
    fine, broken = [least + 1 / (1 + step) for step in range(steps)], [most, float("nan")]
    runs = {(blocks, rate): {"RMSNorm": fine, "LayerNorm": fine, "no norm": broken} for blocks in (2, 8) for rate in (0.1, 1.0)}
    committed = (ROOT / "docs" / "microgpt.svg").read_text()
    for svg, panels, broken_panels in ((example.picture(runs, steps), 4, 4), (committed, 9, 7)):
        root = xml.etree.ElementTree.fromstring(svg)
        words = [element.text for element in root.iter() if element.tag.endswith("text")]
        assert sum(" blocks, learning rate " in word for word in words) == panels
        # Without a norm training broke, with one never.
        assert [word[:9] for word in words if word.startswith("✕ ") and "step" in word] == ["✕ no norm"] * broken_panels
        assert "nan" not in svg and "inf" not in svg
    # A loss that is not finite breaks a run, and one that is no better than guessing.
    assert example.verdict(broken) == "broken, step 2" and example.verdict(fine) == "2.03"
    assert example.verdict([example.GUESSING] * 20) == "broken, step 20"


@pytest.mark.parametrize("example", ["microgpt"], indirect=True)
def test_words_that_are_missing_are_named_with_their_package(example: Any, tmp_path: pathlib.Path) -> None:
    with pytest.raises(SystemExit, match="words does not exist: install Debian's package wamerican"):
        example.read_words(str(tmp_path / "words"))
    (tmp_path / "words").write_text("Aachen\nab\nab's\nz\u00e9\n", "utf-8")
    assert example.read_words(str(tmp_path / "words")).tolist() == [1, 2, 0]


@pytest.mark.parametrize("example", ["finetune_patched"], indirect=True)
def test_weights_are_the_same_only_if_every_bit_is(example: Any) -> None:
    torch = pytest.importorskip("torch")
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    assert example.same_weights(one, other)
    with torch.no_grad():
        one.bias[1], other.bias[1] = 0.0, -0.0
    assert not example.same_weights(one, other)


@pytest.mark.parametrize("example", ["swap_norms"], indirect=True)
def test_a_mean_costs_range_after_rms_norm_alone(example: Any) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    # Small integers, of which each row has as many of both signs: sums and means are exact in any order.
    half = torch.randint(1, 9, (64, example.WIDTH // 2)).float()
    x = torch.cat([half, -half], -1)
    model = example.Model(gated=False)
    other = example.swapped(model)
    assert torch.equal(model.norms[0](x), other.norms[0](x)) and not torch.equal(model.norms[0](x + 32), other.norms[0](x + 32))
    rows, shifted = x.numpy(), (x + 32).numpy()
    for dtype in ("int8", "float8_e4m3fn"):
        without = example.lost(dtype, "layer_norm", rows)
        assert without > 0 and example.lost(dtype, "rms_norm", rows) == without
        assert example.lost(dtype, "layer_norm", shifted) == without < example.lost(dtype, "rms_norm", shifted)
