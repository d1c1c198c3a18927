#!/usr/bin/env python3
"""Writes results of bench/python into docs/speed-python.md, and the main ones into docs/python.md, in the sections of this CPU.

bench/python/report.py FILE.json
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from page import ROOT, cpu_name, slug_of, time_text, write_section  # noqa: E402

PAGE, SHORT_PAGE = ROOT / "docs/speed-python.md", ROOT / "docs/python.md"
KERAS_PAGE, ON_KERAS_PAGE = ROOT / "docs/speed-keras.md", ("tensorflow", "keras_")
SHORT_SHAPES = ("1x4096", "512x4096", "4096x4096")
SHORT_COLUMNS = [
    ("forward", "torch"), ("forward", "torch.compile"), ("forward_backward", "torch"), ("forward_backward", "torch.compile"),
    ("numpy_out", "ONNX Runtime"),
]  # fmt: skip


def goal_text(verdict: dict[str, Any]) -> str:
    if verdict["goal"] is None:
        return ""
    sign = "≤" if verdict["unit"].endswith("more") else "≥"
    return f" ({sign} {verdict['goal']:.3g}{'' if verdict['met'] else ', **missed**'})"


def value_text(verdict: dict[str, Any]) -> str:
    return f"{verdict['value']:.2f} µs more" if verdict["unit"].endswith("more") else f"{verdict['value']:.3g} ×"


def against_text(row: dict[str, Any]) -> str:
    """Each comparison with its goal, then the times of the others."""
    parts = [f"{v['name']} {time_text(row['seconds'][v['name']])}: {value_text(v)}{goal_text(v)}" for v in row["against"]]
    named = {row["of"], *(v["name"] for v in row["against"])}
    return "; ".join(parts + [f"{name} {time_text(s)}" for name, s in row["seconds"].items() if name not in named])


def line(row: dict[str, Any]) -> str:
    return f"{row['row']:44} {time_text(row['seconds'][row['of']]):>8}  {against_text(row)}".replace("**", "")


def summary(rows: list[dict[str, Any]]) -> str:
    verdicts = [v for row in rows for v in row["against"] if v["goal"] is not None]
    return f"{sum(v['met'] for v in verdicts)} of {len(verdicts)} goals are met."


def table(results: dict[str, Any], name: str, on_keras_page: bool) -> str:
    rows = [row for row in results["rows"] if row["row"].startswith(ON_KERAS_PAGE) == on_keras_page]
    versions = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
    lines = [
        f"{name}, target {results['target']}; {versions}. {summary(rows)} By `scripts/bench-python`.\n",
        "| row | isonorm | beside it |",
        "| --- | ---: | --- |",
    ]
    lines += [f"| {row['row']} | {time_text(row['seconds'][row['of']])} | {against_text(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def short_table(results: dict[str, Any], name: str) -> str:
    """How many times as fast, one thread."""
    values = {(row["row"], v["name"]): f"{v['value']:.3g} ×" for row in results["rows"] for v in row["against"]}
    lines = [
        f"One thread of a {name}; `scripts/bench-python` measures, and [speed-python.md](speed-python.md) has every row.\n",
        "| rows | type | forward: torch | torch.compile | with backward: torch | torch.compile | NumPy, `out=`: ONNX Runtime |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for shape in SHORT_SHAPES:
        for dtype in ("f32", "bf16"):
            cells = [values.get((f"{row}.{shape}.{dtype}.threads1", other), "") for row, other in SHORT_COLUMNS]
            lines.append(f"| {shape.replace('x', '×')} | {dtype} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    results = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    if not results["rows"]:
        raise SystemExit("the results have no rows")
    name = cpu_name()
    write_section(PAGE, slug_of(name), table(results, name, False))
    write_section(KERAS_PAGE, slug_of(name), table(results, name, True))
    write_section(SHORT_PAGE, slug_of(name), short_table(results, name))


if __name__ == "__main__":
    main()
