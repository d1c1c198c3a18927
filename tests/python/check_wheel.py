#!/usr/bin/env python3
"""Builds the source archive, and from it the wheel as `pip install .` does; looks into it, lets the audits of others judge it,
installs it into an environment of its own, and uses it there.

check_wheel.py SOURCE WORK
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import venv
import zipfile

MAX_BYTES = 8_000_000
LIBRARIES = ("libisonorm.so.0.2", "libisonorm_torch.so", "libisonorm_jax.so", "libisonorm_tensorflow.so")
# What no Linux has by itself: the frameworks that were imported before, by these names.
OUTSIDE = ["libtensorflow_framework.so.2", "libtorch_cpu.so"]
TOOLS = ["build>=1", "abi3audit>=0.0.26", "auditwheel>=6.8"]
if sys.version_info >= (3, 11):
    TOOLS += ["torch-abi-audit>=0.3"]  # which takes no older Python; what it judges is the same for all
FIRST_LINES = """
import numpy as np, isonorm
assert isonorm.rms_norm(np.array([[3.0, 4.0]]), eps=0).tolist() == [[3 / 12.5**0.5, 4 / 12.5**0.5]]
import sys
frameworks = {"torch", "transformers", "ml_dtypes", "jax", "keras", "tensorflow", "triton"}
loaded = {name.split(".")[0] for name in sys.modules} & frameworks
assert not loaded, loaded
"""
# The oldest torch that has all that libisonorm_torch.so must find. Weak symbols are null where torch is older.
OLDEST_TORCH = """
import json, subprocess, sys, torch_abi_audit
names = [line.split() for line in subprocess.check_output(["nm", "-D", "--undefined-only", sys.argv[1]], text=True).splitlines()]
shims = [name for kind, name in names if kind == "U" and name.startswith(("torch_", "aoti_torch_"))]
version, why, unknown = torch_abi_audit.minimum_version(shims)
stable = torch_abi_audit.inspect_extension(sys.argv[1]).torch.stable
print(json.dumps({"stable": stable, "version": list(version)[:2], "why": why, "unknown": unknown}))
"""


def run(*command, **options):
    done = subprocess.run([*map(str, command)], text=True, capture_output=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def environment(folder, *packages):
    """Makes one that has these packages, and returns the folder of its programs."""
    venv.create(folder, with_pip=True, clear=True)
    run(folder / "bin" / "python", "-m", "pip", "install", "-q", *packages)
    return folder / "bin"


def build(source, work, tools):
    """The wheel, and the source that it was made of."""
    variables = dict(os.environ)
    if shutil.which("ccache"):
        # And the compilers by the names that CMake finds, not by those that Python was built with, which a cache takes for others.
        variables |= {"CMAKE_C_COMPILER_LAUNCHER": "ccache", "CMAKE_CXX_COMPILER_LAUNCHER": "ccache", "CC": "cc", "CXX": "c++"}
    run(tools / "python", "-m", "build", "--sdist", "--outdir", work, source)
    (archive,) = work.glob("isonorm-*.tar.gz")
    shutil.unpack_archive(archive, work)
    unpacked = work / archive.name.removesuffix(".tar.gz")
    # --config-settings: the pip of Debian 12 has no -C. The build lies to its sources as that of scripts/test does: a compiler
    # cache that compares relative paths has the library already.
    settings = ("--config-settings", f"build-dir={unpacked}/build")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", work, *settings, unpacked, env=variables)
    (wheel,) = work.glob("isonorm-*.whl")
    return wheel, unpacked


def look(wheel, source):
    faults = []
    if wheel.stat().st_size > MAX_BYTES:
        faults.append(f"{wheel.name} has {wheel.stat().st_size} bytes; {MAX_BYTES} are allowed")
    header = (source / "include/isonorm/isonorm.h").read_text(encoding="utf-8")
    version = ".".join(re.findall(r"#define ISONORM_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header))
    if not wheel.name.startswith(f"isonorm-{version}-"):
        faults.append(f"{wheel.name} is not of version {version}, which isonorm.h has")
    paths = [str(source), str(pathlib.Path.home()), os.path.dirname(sys.executable)]
    paths += ["../src/", "../tools/", "../python/", "../include/"]  # what a compiler cache makes of the first
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for needed in (*LIBRARIES, "_native", "py.typed", "_native.pyi", "scripts/isonorm"):
            if not any(needed in name for name in names):
                faults.append(f"{wheel.name} has no {needed}")
        for name in names:
            data = archive.read(name)
            faults += [f"{name} names {path}" for path in paths if len(path) > 5 and path.encode() in data]
    return faults


def audit(wheel, source, work, tools):
    """What the audits of others find: libraries that no Linux has by itself, and what is outside of a stable ABI."""
    faults = []
    shown = json.loads(run(tools / "auditwheel", "show", "--json", wheel))
    outside = shown["policy_upgrades"].get(shown["sym_tag"], {}).get("libs_to_eliminate")
    if not shown["sym_tag"].startswith("manylinux_") or sorted(outside or []) != OUTSIDE:
        faults.append(f"{wheel.name} fits {shown['sym_tag']} without {outside}; a manylinux without {OUTSIDE} is due")
    if sys.version_info >= (3, 12):
        if "-cp312-abi3-" not in wheel.name:
            faults.append(f"{wheel.name} is not for every Python from 3.12 on")
        run(tools / "abi3audit", "--strict", wheel)
    folder = work / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    if sys.version_info >= (3, 11):
        (metadata,) = folder.glob("*.dist-info/METADATA")
        promised = re.search(r'torch>=(\d+)\.(\d+); extra == "torch"', metadata.read_text(encoding="utf-8")).groups()
        found = json.loads(run(tools / "python", "-c", OLDEST_TORCH, folder / "isonorm/libisonorm_torch.so"))
        if not found["stable"] or found["unknown"] or found["version"] != [int(part) for part in promised]:
            faults.append(f"libisonorm_torch.so is for torch from {'.'.join(promised)} on, but {found}")
    undefined = run("nm", "-D", "--undefined-only", folder / "isonorm/libisonorm_tensorflow.so")
    found = {line.split()[1] for line in undefined.splitlines() if line.split()[1].startswith("TF_")}
    header = (source / "python/native/tensorflow/tf_c_api.h").read_text(encoding="utf-8")
    declared = set(re.findall(r"\b(TF_\w+)\(", header))
    if found != declared or "tensorflow" in undefined.replace("isonorm_tensorflow", ""):
        faults.append(f"libisonorm_tensorflow.so needs {sorted(found ^ declared)}, which its header does not declare, or does")
    print(f"{wheel.name}: {wheel.stat().st_size} bytes, {shown['sym_tag']} without {', '.join(OUTSIDE)}")
    return faults


def use(wheel, work):
    binaries = environment(work / "venv", wheel)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ISONORM"))}
    run(binaries / "python", "-c", FIRST_LINES, cwd=work, env=clean)
    info = json.loads(run(binaries / "python", "-m", "isonorm", "info", "--json", cwd=work, env=clean))
    loaded = {pathlib.Path(path).name.split(".")[0]: state["loaded"] for path, state in info["libraries"].items()}
    faces = ("torch", "jax", "tensorflow")
    wanted = {"libisonorm": True, "_native": True, **{f"libisonorm_{face}": False for face in faces}}
    if any(info["packages"][face] for face in faces) or loaded != wanted:
        sys.exit(f"without {', '.join(faces)}, `info` of the wheel says {info}")
    if info["isonorm"] not in run(binaries / "isonorm", "--version", cwd=work, env=clean):
        sys.exit(f"the command of the wheel does not say that its version is {info['isonorm']}")
    print(run(binaries / "python", "-m", "isonorm", "demo", cwd=work, env=clean))


def main():
    source, work = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tools = environment(work / "tools", *TOOLS)
    wheel, unpacked = build(source, work, tools)
    faults = look(wheel, unpacked) + audit(wheel, unpacked, work, tools)
    if faults:
        sys.exit("\n".join(faults))
    use(wheel, work)


main()
