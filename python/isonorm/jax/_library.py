"""The handlers of libisonorm_jax.so, registered with XLA."""

from __future__ import annotations

import ctypes
import pathlib

from isonorm.jax._options import KINDS

try:
    import jax
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: isonorm.jax needs JAX, as `pip install 'jax>=0.6.2'` installs it") from None

if jax.__version_info__ < (0, 6, 2):
    raise ImportError(f"isonorm.jax needs jax 0.6.2 or later, but this is jax {jax.__version__}")

PATH = str(pathlib.Path(__file__).resolve().parent.parent / "libisonorm_jax.so")
handle = ctypes.CDLL(PATH)

for _kind in KINDS:
    jax.ffi.register_ffi_target(_kind.target, jax.ffi.pycapsule(getattr(handle, _kind.target)), platform="cpu")
