"""The operations of libisonorm_tensorflow.so, loaded beside the TensorFlow that is imported."""

from __future__ import annotations

import ctypes
import functools
import pathlib

try:
    import tensorflow as tf
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}: isonorm.tensorflow needs TensorFlow, as `pip install 'tensorflow>=2.18'` installs it"
    ) from None

if tuple(int(part) for part in tf.__version__.split(".")[:2]) < (2, 18):
    raise ImportError(f"isonorm.tensorflow needs TensorFlow 2.18 or later, but this is TensorFlow {tf.__version__}")

PATH = str(pathlib.Path(__file__).resolve().parent.parent / "libisonorm_tensorflow.so")
ops = tf.load_op_library(PATH)
_handle = ctypes.CDLL(PATH)


def set_threads() -> None:
    """As many as TensorFlow computes one operation with, whose own threads its C API does not lend: 0 is one for each CPU."""
    _handle.isonorm_tensorflow_set_threads(tf.config.threading.get_intra_op_parallelism_threads())


@functools.lru_cache(maxsize=None)
def settle_threads() -> None:
    """Once there is a tensor TensorFlow lets nobody change that number any more; programs set it after the import."""
    set_threads()


set_threads()  # for a program that runs a SavedModel alone
