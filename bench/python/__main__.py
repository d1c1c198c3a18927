"""Measures the Python package beside torch, JAX, ONNX Runtime and NumPy, and prints a table; scripts/bench-python has the rest.

python bench/python --json-file FILE     all rows, some minutes
python bench/python --filter llama       those rows whose names have this in them
python bench/python --quick              small shapes, one short turn each: whether every row runs, and whether all candidates
                                         agree with the formula as far as their roundings let them
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import sys
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax_rows  # noqa: E402
import model_rows  # noqa: E402
import numpy_rows  # noqa: E402
import overhead_rows  # noqa: E402
import report  # noqa: E402
import torch_rows  # noqa: E402

import isonorm  # noqa: E402
from isonorm import _native  # noqa: E402

PACKAGES = ("torch", "jax", "numpy", "onnxruntime", "transformers")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="", metavar="TEXT", help="only rows whose names have TEXT in them")
    parser.add_argument("--quick", action="store_true", help="check the rows, measure nothing")
    parser.add_argument("--json-file", type=pathlib.Path, metavar="FILE", help="write the results to FILE")
    options = parser.parse_args()
    table = [row for part in (torch_rows, numpy_rows, overhead_rows, model_rows, jax_rows) for row in part.rows()]
    chosen = [row for row in table if options.filter in row.title]
    if not chosen:
        parser.error(f"no row has {options.filter!r} in its name")
    warnings.filterwarnings("ignore", module="torch")
    started = time.monotonic()
    results = []
    for row in chosen:
        results.append(row.run(options.quick))
        print(report.line(results[-1]), flush=True)
    print(f"{len(results)} rows in {time.monotonic() - started:.0f} s")
    if options.json_file is not None:
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        whole = {"target": _native.target(), "versions": {"isonorm": isonorm.__version__, **versions}, "rows": results}
        options.json_file.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
