#!/usr/bin/env python3
"""Builds the wheel as `pip install .` does, looks into it, installs it into an environment of its own, and uses it there.

check_wheel.py SOURCE WORK
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import venv
import zipfile

MAX_BYTES = 8_000_000
FIRST_LINES = """
import numpy as np, isonorm
assert isonorm.rms_norm(np.array([[3.0, 4.0]]), eps=0).tolist() == [[3 / 12.5**0.5, 4 / 12.5**0.5]]
import sys
loaded = {name.split(".")[0] for name in sys.modules} & {"torch", "transformers", "ml_dtypes", "jax", "tensorflow", "triton"}
assert not loaded, loaded
"""


def run(*command, **options):
    done = subprocess.run([*map(str, command)], text=True, capture_output=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def build(source, work):
    environment = dict(os.environ)
    if shutil.which("ccache"):
        environment |= {"CMAKE_C_COMPILER_LAUNCHER": "ccache", "CMAKE_CXX_COMPILER_LAUNCHER": "ccache"}
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    # --config-settings: the pip of Debian 12 has no -C.
    settings = ("--config-settings", f"build-dir={work}/build")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", work, *settings, source, env=environment)
    (wheel,) = work.glob("isonorm-*.whl")
    return wheel


def look(wheel, source):
    faults = []
    if wheel.stat().st_size > MAX_BYTES:
        faults.append(f"{wheel.name} has {wheel.stat().st_size} bytes; {MAX_BYTES} are allowed")
    header = (source / "include/isonorm/isonorm.h").read_text(encoding="utf-8")
    version = ".".join(re.findall(r"#define ISONORM_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header))
    if not wheel.name.startswith(f"isonorm-{version}-"):
        faults.append(f"{wheel.name} is not of version {version}, which isonorm.h has")
    paths = [str(source), str(pathlib.Path.home()), os.path.dirname(sys.executable)]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for needed in ("libisonorm.so.0.2", "libisonorm_torch.so", "_native", "py.typed", "_native.pyi", "scripts/isonorm"):
            if not any(needed in name for name in names):
                faults.append(f"{wheel.name} has no {needed}")
        for name in names:
            data = archive.read(name)
            faults += [f"{name} names {path}" for path in paths if len(path) > 5 and path.encode() in data]
    return faults


def needs(wheel, work):
    """Libraries that no Linux has by itself, of what is compiled in the wheel."""
    allowed = re.compile(r"lib(isonorm|mvec|stdc\+\+|m|gcc_s|c|pthread|dl|rt|torch_cpu)\.so|ld-linux")
    folder = work / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    compiled = [path for path in folder.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
    if len(compiled) < 4:
        return [f"only {len(compiled)} files of {wheel.name} are compiled"]
    faults = []
    for path in compiled:
        for library in re.findall(r"\(NEEDED\)\s+Shared library: \[(.*)\]", run("readelf", "-d", path)):
            if not allowed.match(library):
                faults.append(f"{path.name} needs {library}")
    return faults


def use(wheel, work):
    venv.create(work / "venv", with_pip=True, clear=True)
    binaries = work / "venv" / "bin"
    run(binaries / "python", "-m", "pip", "install", "-q", wheel)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ISONORM"))}
    run(binaries / "python", "-c", FIRST_LINES, cwd=work, env=clean)
    run(binaries / "python", "-m", "isonorm", "info", cwd=work, env=clean)
    version = run(binaries / "python", "-c", "import isonorm; print(isonorm.__version__)", cwd=work, env=clean).strip()
    if version not in run(binaries / "isonorm", "--version", cwd=work, env=clean):
        sys.exit(f"the command of the wheel does not say that its version is {version}")
    print(run(binaries / "python", "-m", "isonorm", "demo", cwd=work, env=clean))


def main():
    source, work = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    wheel = build(source, work)
    faults = look(wheel, source) + needs(wheel, work)
    if faults:
        sys.exit("\n".join(faults))
    use(wheel, work)
    print(f"{wheel.name}: {wheel.stat().st_size} bytes")


main()
