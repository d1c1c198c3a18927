"""The gate of conftest.py: where CI is set, a test that was skipped makes a run fail."""

import os
import pathlib
import subprocess
import sys

import pytest

TESTS = {
    "one test": "import pytest\n\n\ndef test_here(): pass\n\n\n@pytest.mark.skip\ndef test_left_out(): pass\n",
    "a whole file": "import pytest\n\npytest.importorskip('no_such_framework')\n",
    "none": "def test_here(): pass\n",
}


@pytest.mark.parametrize("what", TESTS)
@pytest.mark.parametrize("ci", ["", "true"])
def test_skipping_fails_in_ci(tmp_path, what, ci):
    (tmp_path / "conftest.py").write_text((pathlib.Path(__file__).parents[1] / "conftest.py").read_text())
    (tmp_path / "test_passes.py").write_text(TESTS["none"])
    (tmp_path / "test_some.py").write_text(TESTS[what])
    environment = {**os.environ, "CI": ci}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == (1 if ci and what != "none" else 0), done.stdout
    assert ("these were skipped" in done.stdout) == bool(ci and what != "none")
