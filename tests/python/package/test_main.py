"""python -m isonorm: info, demo, and how it ends."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import isonorm
from isonorm import demo


def run(*arguments, stdout=subprocess.PIPE, **environment):
    command = [sys.executable, "-m", "isonorm", *arguments]
    environment = {**os.environ, **environment}
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, check=False)


def test_info_has_what_a_report_needs():
    done = run("info", "--json", ISONORM_TARGET="reference", ISONORM_OTHER="a b")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["isonorm"] == isonorm.__version__ and found["packages"]["numpy"] == np.__version__
    assert found["python"].endswith(".".join(map(str, sys.version_info[:3])))
    assert found["targets"] == isonorm.targets() and found["target"] == "reference"
    assert found["environment"]["ISONORM_OTHER"] == "a b" and found["environment"]["ISONORM_TARGET"] == "reference"
    assert all(name.startswith("ISONORM_") for name in found["environment"])
    assert found["threads"] == found["cpu"]["cpus"] == len(os.sched_getaffinity(0))
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    if "model name" in cpuinfo:
        assert found["cpu"]["name"] in cpuinfo and re.search(rf"cpu family\s*: {found['cpu']['family']}\n", cpuinfo)


def test_info_names_the_libraries():
    found = json.loads(run("info", "--json").stdout)["libraries"]
    folder = str(pathlib.Path(isonorm.__file__).resolve().parent)
    for name in ("libisonorm.so", "_native"):
        paths = [path for path in found if pathlib.Path(path).name.startswith(name)]
        assert len(paths) == 1 and found[paths[0]] == {"loaded": True} and paths[0].startswith(folder)
    others = [path for path in found if pathlib.Path(path).name.startswith("libisonorm_")]
    assert len(others) == 3 and all(found[path] == {"loaded": False} for path in others), "no framework was loaded"


def test_a_library_that_is_not_loaded(monkeypatch, tmp_path):
    from isonorm import _info

    loaded = {path for path, state in _info.collect()["libraries"].items() if "libisonorm" in path and state["loaded"]}
    (tmp_path / "libisonorm_other.so").touch()
    monkeypatch.setattr(isonorm, "__file__", str(tmp_path / "__init__.py"))
    found = _info.collect()
    there = {str(tmp_path / "libisonorm_other.so"): {"loaded": False}}
    assert found["libraries"] == {**there, **dict.fromkeys(loaded, {"loaded": True})}
    assert "libisonorm_other.so (not loaded)" in _info.text(found)


def test_info_imports_no_framework():
    script = "import sys; from isonorm import _info; _info.text(_info.collect()); print(list(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "'numpy'" in modules
    for name in ("torch", "transformers", "triton", "tqdm", "jax", "keras", "tensorflow"):
        assert f"'{name}'" not in modules


def test_info_to_be_read():
    done = run("info", ISONORM_TARGET="reference")
    assert done.returncode == 0
    target = "targets .*reference \\(in use\\)"
    for line in (f"isonorm +{isonorm.__version__}", target, "environment +ISONORM_TARGET=reference"):
        assert re.search(f"^{line}", done.stdout, re.MULTILINE)
    assert "\033" not in done.stdout


def test_a_package_that_is_missing(monkeypatch):
    from isonorm import _info

    monkeypatch.setattr(_info, "PACKAGES", ("numpy", "no-such-package"))
    found = _info.collect()
    assert found["packages"]["no-such-package"] is None
    assert re.search("^no-such-package not installed$", _info.text(found), re.MULTILINE)


def test_the_demo_in_ten_seconds():
    done = run("demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert "OTHER BITS" not in done.stdout and done.stdout.count("the same bits") >= 7
    for heading in ("however a row is computed", "What the frameworks call RMSNorm differs", "LayerNorm against", "One thread"):
        assert heading in done.stdout
    assert "\033" not in done.stdout


def test_the_demo_sees_other_bits(monkeypatch, capsys):
    x, weight = demo.activations()
    chosen = isonorm.target()
    rms_norm = isonorm.rms_norm

    def wrong(x, *arguments, threads, **options):
        y = rms_norm(x, *arguments, threads=threads, **options)
        if threads == 2:
            y[3, 5] = np.nextafter(y[3, 5], np.float32(9))
        return y

    assert demo.same_bits(x[:20], weight)
    monkeypatch.setattr(isonorm, "rms_norm", wrong)
    capsys.readouterr()
    assert not demo.same_bits(x[:20], weight)
    other = [line for line in capsys.readouterr().out.splitlines() if "OTHER BITS" in line]
    assert len(other) == 1 and other[0].startswith("  by at most 2 threads")
    assert isonorm.target() == chosen


def test_contracts_of_the_demo_differ(capsys):
    demo.contracts(*demo.activations())
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:6]]
    shares = {row[0]: [float(cell.rstrip("%")) for cell in row[1:]] for row in rows}
    for i, name in enumerate(demo.CONTRACTS):
        assert shares[name][i] == 0 and all(s > 1 for j, s in enumerate(shares[name]) if j != i)


@pytest.mark.parametrize(
    "terminal, environment, bold",
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals_that_want_it(monkeypatch, capsys, terminal, environment, bold):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    demo._heading("Title")
    assert ("\033[1m" in capsys.readouterr().out) is bold


def test_the_command_line():
    bare = run()
    assert bare.returncode == 2 and bare.stdout == "" and "usage: python -m isonorm" in bare.stderr and "demo" in bare.stderr
    for wrong in (["nonsense"], ["info", "--no-such"], ["demo", "more"]):
        done = run(*wrong)
        assert done.returncode == 2 and done.stdout == "" and "usage:" in done.stderr
    assert run("--help").returncode == 0
    assert run("--version").stdout == f"isonorm {isonorm.__version__}\n"


def test_output_that_does_not_arrive():
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = run("info", stdout=full)
    assert done.returncode == 4
    assert done.stderr == "python -m isonorm: standard output cannot be written: No space left on device\n"
    read, write = os.pipe()
    os.close(read)
    done = run("info", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
