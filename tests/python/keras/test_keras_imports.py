"""What isonorm.keras does where it is imported: on another backend, without Keras, and with an old one."""

import os
import subprocess
import sys

SCRIPT = """
import numpy as np, keras, isonorm.keras
x = np.array([[3.0, 4.0]], np.float32)
for theirs, ours in ((keras.layers.RMSNormalization(), isonorm.keras.RMSNormalization()),
                     (keras.layers.LayerNormalization(), isonorm.keras.LayerNormalization())):
    assert (ours(x) == theirs(x)).all()
"""


def test_a_backend_without_functions_of_isonorm():
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True)


def test_without_keras_or_an_old_one(tmp_path):
    for text, sentence in (
        ("raise ModuleNotFoundError(\"No module named 'keras'\", name='keras')", "pip install 'keras>=3.11'"),
        ("__version__ = '3.9.2'", "isonorm.keras needs keras 3.11 or later, but this is keras 3.9.2"),
    ):
        (tmp_path / "keras.py").write_text(text)
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        script = [sys.executable, "-c", "import isonorm.keras"]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode != 0 and sentence in done.stderr.splitlines()[-1]
