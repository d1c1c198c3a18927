"""examples/python/patch_llama.py prints what stands beside it."""

import pathlib
import subprocess
import sys

FOLDER = pathlib.Path(__file__).parents[3] / "examples" / "python"


def test_patch_llama() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", FOLDER / "patch_llama.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (FOLDER / "patch_llama.out").read_text()
