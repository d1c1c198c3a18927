"""What a report about a fault needs to say of the machine, the versions and the environment. Imports no framework."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
from typing import Any, Optional

import isonorm

PACKAGES = ("numpy", "ml_dtypes", "torch", "jax", "tensorflow", "keras", "transformers")
OTHER_NAMES = {"tensorflow": ("tensorflow-cpu",)}  # of packages that install the same


def _version(package: str) -> Optional[str]:
    for name in (package, *OTHER_NAMES.get(package, ())):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return None


def _cpu() -> dict[str, Any]:
    """Of the first processor in /proc/cpuinfo, which has other names for this on every architecture."""
    names = {
        "model name": "name",
        "cpu family": "family",
        "model": "model",
        "stepping": "stepping",
        "CPU implementer": "implementer",
        "CPU part": "part",
    }
    cpu: dict[str, Any] = {"name": platform.processor() or platform.machine()}
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        if key.strip() in names:
            cpu[names[key.strip()]] = value.strip()
    return {**cpu, "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}


def _libraries() -> dict[str, dict[str, Any]]:
    """Every compiled file of the package, and each of the same name that this process loaded from elsewhere."""
    folder = pathlib.Path(isonorm.__file__).resolve().parent
    present = {str(path) for path in folder.iterdir() if ".so" in path.name}
    try:
        maps = pathlib.Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        maps = ""
    mapped = {line.split(maxsplit=5)[5] for line in maps.splitlines() if len(line.split(maxsplit=5)) == 6}
    loaded = {path for path in mapped if path in present or pathlib.Path(path).name.startswith("libisonorm")}
    return {path: {"loaded": path in loaded} for path in sorted(present | loaded)}


def collect() -> dict[str, Any]:
    """All of it, as JSON takes it."""
    return {
        "isonorm": isonorm.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "packages": {package: _version(package) for package in PACKAGES},
        "cpu": _cpu(),
        "targets": isonorm.targets(),
        "target": isonorm.target(),
        "threads": isonorm.get_num_threads(),
        "libraries": _libraries(),
        "environment": {name: os.environ[name] for name in sorted(os.environ) if name.startswith("ISONORM_")},
    }


def text(found: dict[str, Any]) -> str:
    """The same, to be read."""
    cpu = found["cpu"]
    details = ", ".join(f"{key} {cpu[key]}" for key in cpu if key not in ("name", "cpus"))
    lines = [
        ("isonorm", found["isonorm"]),
        ("python", f"{found['python']} on {found['platform']}"),
        *((package, version or "not installed") for package, version in found["packages"].items()),
        ("cpu", cpu["name"] + (f" ({details})" if details else "")),
        ("targets", ", ".join(name + " (in use)" * (name == found["target"]) for name in found["targets"])),
        ("threads", f"{found['threads']} of {cpu['cpus']} CPUs"),
    ]
    lines += [("library", path if state["loaded"] else f"{path} (not loaded)") for path, state in found["libraries"].items()]
    variables = [f"{name}={value}" for name, value in found["environment"].items()]
    lines += [("environment", variable) for variable in variables or ["no ISONORM_*"]]
    return "\n".join(f"{key:<13} {value}" for key, value in lines)
