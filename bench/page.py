"""What the pages of measurements share: the name of the CPU, times as text, and sections, one for each CPU."""

from __future__ import annotations

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent


def cpu_name() -> str:
    """The microarchitecture, which the name that AMD's server CPUs give to virtual machines does not tell."""
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    info = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", text, re.MULTILINE))
    if info.get("vendor_id") == "AuthenticAMD":
        family, model = int(info["cpu family"]), int(info["model"])
        zen_4 = family == 25 and (0x10 <= model < 0x20 or 0x60 <= model < 0x80 or 0xA0 <= model < 0xB0)
        name = {23: "Zen 2", 25: "Zen 4" if zen_4 else "Zen 3", 26: "Zen 5"}.get(family)
        if name is not None:
            return name
    # A virtual machine may hide the model of Intel's servers, but not the instructions that came with Sapphire Rapids.
    if info.get("vendor_id") == "GenuineIntel" and "avx512_fp16" in info.get("flags", "").split():
        return "Xeon with AVX-512 FP16"
    return info.get("model name", "unnamed CPU")


def slug_of(name: str) -> str:
    """For a file or a mark: "Zen 4" is zen-4."""
    return re.sub(r"\W+", "-", name.lower()).strip("-")


def time_text(seconds: float) -> str:
    """With three digits: 14.2 ms."""
    for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def write_section(page: pathlib.Path, slug: str, body: str) -> None:
    """Puts body into the section of a CPU. A new one goes behind the others, or else to the end of the page."""
    begin, end = f"<!-- cpu: {slug} -->\n", "<!-- end -->\n"
    section = f"{begin}{body}{end}"
    text = page.read_text(encoding="utf-8")
    if begin in text:
        head, rest = text.split(begin)
        text = head + section + rest.split(end, 1)[1]
    elif end in text:
        head, rest = text.rsplit(end, 1)
        text = head + end + "\n" + section + rest
    else:
        text += "\n" + section
    page.write_text(text, encoding="utf-8")
