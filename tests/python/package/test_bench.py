"""bench/python, scripts/bench-python's measurements: every row runs, all candidates agree, and the pages get what was found."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
for package in ("transformers", "onnx", "onnxruntime", "jax"):
    pytest.importorskip(package)
for package in ("keras", "tensorflow"):  # imported here they would stand before what loads Triton
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"there is no {package}", allow_module_level=True)

SOURCE = pathlib.Path(os.environ.get("ISONORM_SOURCE", pathlib.Path(__file__).parents[3]))
BENCH = SOURCE / "bench/python"
sys.path[:0] = [str(BENCH), str(BENCH.parent)]
import oracle  # noqa: E402
import page  # noqa: E402
import race  # noqa: E402
import report  # noqa: E402
import rows  # noqa: E402
import torch_rows  # noqa: E402


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    rows.isonorm.set_num_threads(None)


def run(*arguments):
    return subprocess.run([sys.executable, BENCH, *arguments], capture_output=True, text=True, check=False)


def test_every_row_runs_and_agrees(tmp_path):
    results = tmp_path / "results.json"
    done = run("--quick", "--json-file", results)
    assert done.returncode == 0, done.stderr
    found = json.loads(results.read_text(encoding="utf-8"))
    names = [row["row"] for row in found["rows"]]
    assert len(set(names)) == len(names) and done.stdout.rstrip().splitlines()[-1].startswith(f"{len(names)} rows")
    for row in found["rows"]:
        assert min(row["seconds"].values()) > 0 and len(row["seconds"]) > 1, row
        assert row["against"] and all(verdict["name"] in row["seconds"] for verdict in row["against"]), row
    # What the goals are about.
    for row, other in report.SHORT_COLUMNS:
        for shape in report.SHORT_SHAPES:
            for dtype in ("f32", "bf16"):
                (found_row,) = [r for r in found["rows"] if r["row"] == f"{row}.{shape}.{dtype}.threads1"]
                assert other in [verdict["name"] for verdict in found_row["against"]]


def test_a_filter(tmp_path):
    results = tmp_path / "results.json"
    assert run("--quick", "--filter", "numpy_call", "--json-file", results).returncode == 0
    assert len(json.loads(results.read_text())["rows"]) == 2
    done = run("--quick", "--filter", "no_such_row")
    assert done.returncode != 0 and "no row has 'no_such_row' in its name" in done.stderr


def wrong_row(dtype, spoil, grad):
    """A row of torch's, in which a candidate more computes something else."""
    (row,) = [
        row for row in torch_rows.rows() if row.title == f"forward{'_backward' * grad}.8x4096.{dtype}.threads1"
    ]  # fmt: skip

    def make(data, quick):
        good = row.make(data, quick)[1]
        return [good, race.Candidate("the wrong one", good.statement, good.names, lambda: spoil(*good.results()))]

    return rows.dataclasses.replace(row, make=make)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_candidate_that_computes_something_else_is_found(dtype):
    """Faults of about the size that a forgotten weight, another mean, or one lost row of 8 gives."""
    faults = [lambda y, *rest: (y * 1.2, *rest), lambda y, dx, dw: (y, dx + 0.5, dw), lambda y, dx, dw: (y, dx, dw * 0.8)]
    faults += [lambda y, *rest: (y * float("nan"), *rest), lambda y, *rest: (y,), lambda y, *rest: (y[:, :-1], *rest)]
    for spoil in faults:
        with pytest.raises(ValueError, match="threads1: the wrong one gives"):
            wrong_row(dtype, spoil, True).run(True)
    wrong_row(dtype, lambda *outputs: outputs, True).run(True)


def test_the_bound_of_f32_finds_another_eps():
    data = rows.Data.random((8, 128), "f32")
    exact = oracle.norm(data.x, data.weight, None, None, rows.EPS, False)
    other = oracle.norm(data.x, data.weight, None, None, 1e-3, False)
    assert oracle.disagreement((exact[0].values.astype(np.float32),), exact, "f32") is None
    assert "y" in oracle.disagreement((other[0].values,), exact, "f32")


def test_a_race_counts_rounds_and_compares_within_them():
    seen = []
    candidates = [race.Candidate(name, f"seen.append({name!r})", {"seen": seen}) for name in "ab"]
    times = race.race(candidates, 0, (4, 4))
    turns = "".join(seen[-1:])
    assert set(seen) == {"a", "b"} and turns in "ab" and times.names() == ["a", "b"]
    fixed = race.Times({"a": [1.0, 2.0, 9.0], "b": [3.0, 8.0, 9.0]})
    assert (fixed.median("a"), fixed.ratio("a", "b"), fixed.difference("b", "a")) == (2.0, 3.0, 2.0)


def result(value, goal, unit=rows.TIMES, where=None):
    """`value` times as fast as torch, or so many microseconds more."""
    own = 1e-6 * value + 8e-6 if unit == rows.MORE else 8e-6 / value
    times = race.Times({"isonorm": [own], "torch": [8e-6]})
    row = {"row": "forward.1x4096.f32.threads1", "threads": 1, "of": "isonorm", "seconds": {"isonorm": 1e-6, "torch": 8e-6}}
    row["seconds"]["NumPy"] = 2e-5
    return {**row, "against": [rows.Against("torch", goal, unit, where).verdict(times, "isonorm")]}


def test_goals():
    assert report.against_text(result(8.0, 3)) == "torch 8 µs: 8 × (≥ 3); NumPy 20 µs"
    assert report.against_text(result(2.5, 3)) == "torch 8 µs: 2.5 × (≥ 3, **missed**); NumPy 20 µs"
    assert report.against_text(result(1.25, None)) == "torch 8 µs: 1.25 ×; NumPy 20 µs"
    assert report.against_text(result(1.0, 1.2, rows.MORE)) == "torch 8 µs: 1.00 µs more (≤ 1.2); NumPy 20 µs"
    assert "missed" in report.against_text(result(1.3, 1.2, rows.MORE))
    # Of a machine where torch took 4 µs: twice as many are allowed here.
    assert "(≤ 2.4)" in report.against_text(result(1.3, 1.2, rows.MORE, ("torch", 4)))
    assert "(≤ 2.4, **missed**)" in report.against_text(result(2.5, 1.2, rows.MORE, ("torch", 4)))
    assert report.summary([result(8.0, 3), result(2.5, 3), result(1.0, None)]) == "1 of 2 goals are met."


def test_pages(tmp_path, monkeypatch):
    """Sections of other CPUs stay, that of this one is made and then replaced."""
    pages = tmp_path / "speed-python.md", tmp_path / "python.md", tmp_path / "speed-keras.md"
    other = "<!-- cpu: other -->\nits own\n<!-- end -->\n"
    for path in pages:
        path.write_text("# Title\n\n" + other + "\n## After\n", encoding="utf-8")
    monkeypatch.setattr(report, "PAGE", pages[0])
    monkeypatch.setattr(report, "SHORT_PAGE", pages[1])
    monkeypatch.setattr(report, "KERAS_PAGE", pages[2])
    results = tmp_path / "results.json"
    for value in (4.0, 5.0):
        both = [result(value, 3), {**result(value, 3), "row": "keras_torch.1x4096.f32.threads1"}]
        whole = {"target": "AVX2", "versions": {"torch": "1.2"}, "rows": both}
        results.write_text(json.dumps(whole), encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["report.py", str(results)])
        report.main()
        for path in pages:
            text = path.read_text(encoding="utf-8")
            assert text.startswith("# Title\n\n" + other) and text.count("<!-- cpu: ") == text.count("<!-- end -->") == 2
            assert text.endswith("<!-- end -->\n\n## After\n")
            assert f" {value:g} × " in text and f" {9 - value:g} × " not in text
            assert ("keras_torch" in text) == (path == pages[2])
    results.write_text(json.dumps({"target": "", "versions": {}, "rows": []}))
    with pytest.raises(SystemExit, match="no rows"):
        report.main()


def test_both_scripts_take_results_from_a_file(tmp_path):
    """Of a copy of the repository, so that its pages may change."""
    for name in ("scripts", "bench", "docs"):
        shutil.copytree(SOURCE / name, tmp_path / name)
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"target": "AVX2", "versions": {}, "rows": [result(4.0, 3)]}), encoding="utf-8")
    subprocess.run([tmp_path / "scripts/bench-python", results], check=True)
    mark = f"<!-- cpu: {page.slug_of(page.cpu_name())} -->\n"
    for path in ("docs/speed-python.md", "docs/speed-keras.md", "docs/python.md"):
        assert mark in (tmp_path / path).read_text(encoding="utf-8")
    row = {"row": "a_row", "seconds": 1e-3, "gigabytes_per_second": None, "unit": "times the reference's time", "value": 1.5,
           "reference": {"name": "itself", "seconds": 1}, "goal": 2, "goal_met": True, "within": [1.2, 1.7],
           "bound": None, "met": False, "note": None, "beside": {"a copy": 2e-3},
           "plain": {"name": "unfused", "seconds": 9e-4, "times_the_time": 0.9, "met": False}}  # fmt: skip
    rows = [row, {**row, "row": "near", "goal": 1.4}, {**row, "row": "bound", "goal": 1.1, "goal_met": False, "bound": "in cache"}]
    results.write_text(json.dumps({"cpu": "C", "compiler": "gcc", "target": "AVX2", "rows": rows}), encoding="utf-8")
    subprocess.run([sys.executable, tmp_path / "scripts/speed", results], check=True)
    text = (tmp_path / "docs/speed.md").read_text(encoding="utf-8").split(mark)[1]
    for name, goal in (("a_row", "≤ 2"), ("near", "≤ 1.4 (the run says 1.2 to 1.7)"), ("bound", "≤ 1.1 (bound: in cache, missed)")):
        assert f"| {name} | 1 ms |  | 1.50 × the time of itself | {goal} | 0.90 × (missed) | a copy 2 ms |" in text


def test_two_processes():
    """bench/torch/ranks.py, of docs/scaling.md."""
    command = [sys.executable, SOURCE / "bench/torch/ranks.py", "8", "512", "3", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *kinds, forward, both, steps = done.stdout.splitlines()
    assert len(kinds) == 6 and forward.startswith("split forward, times local") and both.startswith("split both, times local")
    assert steps.startswith("steps: ") and steps.count(",") == 4
