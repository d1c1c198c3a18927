"""Measures the Python package beside torch, JAX, TensorFlow, Keras, ONNX Runtime and NumPy, and prints a table;
scripts/bench-python has the rest.

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
import subprocess
import sys
import tempfile
import time
import warnings
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax_rows  # noqa: E402
import keras_rows  # noqa: E402
import model_rows  # noqa: E402
import numpy_rows  # noqa: E402
import overhead_rows  # noqa: E402
import report  # noqa: E402
import tf_rows  # noqa: E402
import torch_rows  # noqa: E402

import isonorm  # noqa: E402
from isonorm import _native  # noqa: E402

PACKAGES = {"torch": "torch", "jax": "jax", "tensorflow": "tensorflow-cpu", "keras": "keras", "numpy": "numpy"}
PACKAGES |= {"onnxruntime": "onnxruntime", "transformers": "transformers"}
BACKENDS = ("tensorflow", "torch", "jax")  # of Keras, each in a process of its own
ON_ONE_THREAD = {"tensorflow": tf_rows.on_one_thread, "jax": jax_rows.on_one_thread}


def chosen_rows(backend: str | None, text: str) -> list[Any]:
    """Those of the process of that backend, or those that need none of their own."""
    if backend is None:
        table = [row for part in (torch_rows, numpy_rows, overhead_rows, model_rows, jax_rows) for row in part.rows()]
    else:
        table = keras_rows.rows(backend)
        if backend == "tensorflow":
            table = tf_rows.rows() + table
    return [row for row in table if text in row.title]


def of_backend(backend: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The results of that process."""
    if not chosen_rows(backend, options.filter):
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "results.json")
        command = [sys.executable, str(pathlib.Path(__file__).parent), "--filter", options.filter, "--json-file", str(path)]
        command += ["--keras", backend] + ["--quick"] * options.quick
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
        subprocess.run(command, env=environment, check=True)
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="", metavar="TEXT", help="only rows whose names have TEXT in them")
    parser.add_argument("--quick", action="store_true", help="check the rows, measure nothing")
    parser.add_argument("--json-file", type=pathlib.Path, metavar="FILE", help="write the results to FILE")
    parser.add_argument("--keras", choices=BACKENDS, help="the rows of that backend of Keras alone, and of TensorFlow with it")
    options = parser.parse_args()
    chosen = chosen_rows(options.keras, options.filter)
    if options.keras in ON_ONE_THREAD:
        ON_ONE_THREAD[options.keras]()
    warnings.filterwarnings("ignore", module="torch")
    started = time.monotonic()
    results = []
    for row in chosen:
        results.append(row.run(options.quick))
        print(report.line(results[-1]), flush=True)
    if options.keras is None:
        for backend in BACKENDS:
            results += of_backend(backend, options)
        if not results:
            parser.error(f"no row has {options.filter!r} in its name")
        print(f"{len(results)} rows in {time.monotonic() - started:.0f} s")
    if options.json_file is not None:
        versions = {name: importlib.metadata.version(package) for name, package in PACKAGES.items()}
        whole = {"target": _native.target(), "versions": {"isonorm": isonorm.__version__, **versions}, "rows": results}
        options.json_file.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
