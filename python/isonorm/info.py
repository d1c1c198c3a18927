"""What the library says of itself: targets, kernels, versions."""

from __future__ import annotations

from typing import Optional

from isonorm import _native
from isonorm._arrays import utf8


def targets() -> list[str]:
    """The instruction sets this CPU has and the library was built for, best first; the last is "reference".

    >>> import isonorm
    >>> isonorm.targets()[-1]
    'reference'
    """
    return _native.targets()


def target() -> str:
    """The instruction set in use: the best one, or what the environment variable ISONORM_TARGET or set_target() chose.

    >>> import isonorm
    >>> isonorm.target() in isonorm.targets()
    True
    """
    return _native.target()


def set_target(name: Optional[str]) -> None:
    """Chooses the instruction set for the whole process; None goes back to the best. Results have the same bits on all of them.

        >>> import isonorm
        >>> isonorm.set_target("reference")
        >>> isonorm.target()
        'reference'
        >>> isonorm.set_target(None)

    Raises RuntimeError for one that this CPU does not have."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name is a {type(name).__name__}, but has to be a str or None")
    _native.set_target(utf8(name or ""))


def kernels() -> list[str]:
    """The kernels of the library: operation, source, sink, types of x, weight and output.

    >>> import isonorm
    >>> "forward.plain.cast.f32.f32.f32" in isonorm.kernels()
    True
    """
    return _native.kernels()


def last_kernel() -> str:
    """What this thread's last call ran, such as "forward.plain.cast.f32.f32.f32@AVX2"; "" before the first.

    >>> import numpy as np, isonorm
    >>> y = isonorm.rms_norm(np.ones((2, 4), np.float32), eps=1e-6)
    >>> isonorm.last_kernel().startswith("forward.plain.cast.f32")
    True
    """
    return _native.last_kernel()
