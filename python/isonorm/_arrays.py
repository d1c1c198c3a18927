"""Shapes, axes and types of arrays, before the compiled part sees them."""

from __future__ import annotations

import collections
import functools
import math
from typing import Any, Iterable, Optional, Sequence, Union

import numpy as np

from isonorm import _native

Axis = Union[int, Iterable[int]]
MAX_DIMS = 7  # of the C ABI

default_threads = 0  # 0: one for each CPU


# The allocator keeps smaller blocks when they are freed, and their pages with them.
LARGE_BYTES = 1 << 25


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """np.empty() for results. Large ones are in memory that is used again: see python/native/memory.h."""
    if math.prod(shape) * np.dtype(dtype).itemsize < LARGE_BYTES:
        return np.empty(shape, dtype)
    return _native.empty(shape, dtype)


def set_num_threads(threads: Optional[int]) -> None:
    """Sets how many threads calls of this package use at most where they are given ``threads=None``.

    None goes back to the beginning: one thread for each CPU that the process may use. Results have the same bits for
    any number. Processes that are forked have the number, those that are spawned begin anew.

        >>> import isonorm
        >>> isonorm.set_num_threads(1)
        >>> isonorm.get_num_threads()
        1
        >>> isonorm.set_num_threads(None)

    Raises ValueError for less than 1, TypeError for what is no int.
    """
    global default_threads
    default_threads = thread_count(threads) if threads is not None else 0


def get_num_threads() -> int:
    """The number of threads of calls with ``threads=None``.

    >>> import isonorm
    >>> isonorm.get_num_threads() >= 1
    True
    """
    return default_threads or _native.available_cpus()


def integer(value: Any, name: str) -> int:
    """An argument that counts something; TypeError for what is no integer, ValueError for one of more than 64 bits."""
    return _native.integer(value, name)


def utf8(text: str) -> str:
    """A text as C++ can have it: with a question mark for what UTF-8 has no bytes for, and for a zero byte."""
    return text.encode(errors="replace").decode().replace("\0", "?")


def flag(value: Any, name: str) -> bool:
    """An argument that is true or not."""
    try:
        return bool(value)
    except Exception:
        raise TypeError(f"{name} is a {type(value).__name__}, but has to be a bool") from None


def check_is(value: Any, kind: type, name: str) -> None:
    """Raises TypeError unless value is None or of that class."""
    if value is not None and not isinstance(value, kind):
        wanted = f"isonorm.{kind.__name__}" if kind.__module__.startswith("isonorm") else f"a {kind.__name__}"
        raise TypeError(f"{name} is a {type(value).__name__}, but has to be {wanted}")


def result_dtype(dtype: Any) -> np.dtype:
    """A `dtype=` argument as NumPy has it. No array of a type without numbers is made: it might be of any size."""
    try:
        found = np.dtype(dtype)
    except Exception:
        raise TypeError(f"dtype is {dtype!r}, but has to be a type of NumPy or of ml_dtypes") from None
    if found.kind not in "fiuV" or found.itemsize > 8:
        raise TypeError(f"dtype is {found}, but results are float32, float64, float16, or bfloat16 of ml_dtypes")
    return found


def names_of(needs: Optional[Iterable[str]], possible: dict[str, bool]) -> set[str]:
    """A `needs=` argument as a set; None: all that are possible."""
    if needs is None:
        return {name for name, there in possible.items() if there}
    if isinstance(needs, str):
        return {needs}
    try:
        wanted = set(needs)
    except TypeError:
        raise TypeError(f"needs is {needs!r}, but has to be a name or several") from None
    if not wanted:
        raise ValueError("needs is empty, but has to name a gradient")
    return wanted


def thread_count(threads: Optional[int]) -> int:
    """A `threads=` argument as the compiled part takes it."""
    if threads is None:
        return default_threads
    if isinstance(threads, bool):
        raise TypeError("threads is a bool, but has to be an int or None")
    count = integer(threads, "threads")
    if not 1 <= count < 2**31:
        raise ValueError(f"threads is {count}, but has to be at least 1; None means one for each CPU")
    return count


@functools.lru_cache(maxsize=None)
def _result_type(name: str, fields: tuple[str, ...]) -> Any:
    return collections.namedtuple(name, fields)  # type: ignore[misc]


def result(name: str, values: dict[str, Any]) -> Any:
    """The only value there is, or a named tuple of all of them."""
    if len(values) == 1:
        return next(iter(values.values()))
    return _result_type(name, tuple(values))(*values.values())


def class_of(value: Any) -> str:
    """The name of its class, and of the package that has it: several frameworks have a Tensor."""
    cls = type(value)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__.partition('.')[0]}.{cls.__name__}"


def check_real(value: Any, name: str) -> None:
    """Raises TypeError for what is masked, or stands for a tensor that is not there yet: frameworks would take the former without
    its mask, and say of the latter what many lines do not explain."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, and isonorm knows no masks: fill it, as {name}.filled(0)")
    if type(value).__name__ == "KerasTensor":
        raise TypeError(f"{name} is a symbolic tensor of Keras, which isonorm.keras.RMSNormalization and LayerNormalization take")


def check_array(value: Any, name: str) -> np.ndarray:
    """value as it is, if it is an array of NumPy; the TypeError of the compiled part for anything else."""
    if type(value) is not np.ndarray:
        check_real(value, name)
        if not isinstance(value, np.ndarray):
            _native.check_array(value, name)
    return value


def check_eps(value: Any, name: str = "eps") -> None:
    """Of a constructor, whose number the functions check once more in the type that they compute in."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is a bool, but has to be a number")
    number = _native.real(value, name)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{name} is {number}, but has to be 0 or more and finite")


def size_of(value: Any, name: str) -> int:
    """How many values an axis has that is normalised."""
    if isinstance(value, bool):
        raise TypeError(f"{name} is a bool, but has to be an int")
    size = integer(value, name)
    if size < 1:
        raise ValueError(f"{name} is {size}, but has to be 1 or more")
    return size


def axes_of(axis: Axis, shape: Sequence[Any]) -> list[int]:
    """An `axis=` argument as axes of an x of that shape, from 0 on, in the order in which they are given."""
    try:
        axes: list[Any] = list(axis)  # type: ignore[arg-type]
    except TypeError:
        axes = [axis]  # type: ignore[list-item]
    if not axes:
        raise ValueError("axis is empty, but has to name one axis or more")
    ndim, numbers = len(shape), []
    for number in (integer(a, "axis") for a in axes):
        if not -ndim <= number < ndim:
            raise ValueError(f"axis {number} does not exist: x has shape {shape}")
        numbers.append(number % ndim)
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"axis {tuple(axes)} names an axis twice: x has shape {shape}")
    return numbers


class Frame:
    """How the axes of x become rows, and results axes again.

    The normalised axes end up last and as one. That is a view where the values of a row lie side by side, whatever the strides
    of the other axes, and else a copy."""

    def __init__(self, x: np.ndarray, axis: Axis) -> None:
        ndim = x.ndim
        self.shape = shape = x.shape
        if type(axis) is int and axis == -1 and 1 <= ndim <= MAX_DIMS:
            self.plain = self.trailing = True
            self.axes: tuple[int, ...] = (ndim - 1,)
            self.lead = self.rows = shape[:-1]
            self.cols = shape[-1]
            return
        if ndim == 0:
            raise ValueError("x has 0 dimensions, but needs an axis to normalise")
        self.axes = tuple(sorted(axes_of(axis, shape)))
        self.trailing = self.axes == tuple(range(ndim - len(self.axes), ndim))
        self.normalized_shape = tuple(shape[a] for a in self.axes)
        self.cols = math.prod(self.normalized_shape)
        self.lead = tuple(x.shape[a] for a in range(ndim) if a not in self.axes)
        self.plain = self.trailing and len(self.axes) == 1 and ndim <= MAX_DIMS
        self.rows = self.lead if len(self.lead) < MAX_DIMS else (math.prod(self.lead),)

    def view(self, array: Optional[np.ndarray], name: str) -> Optional[np.ndarray]:
        """An input of x's shape as [rows..., cols]."""
        if array is None:
            return None
        if self.plain:
            return dense(array)
        check_array(array, name)
        if array.shape != self.shape:
            raise ValueError(f"{name} has shape {array.shape}, but x has {self.shape}")
        if not self.trailing:
            array = np.moveaxis(array, self.axes, range(-len(self.axes), 0))
        return dense(array.reshape(self.rows + (self.cols,)))

    def vector(self, array: Optional[np.ndarray], name: str) -> Optional[np.ndarray]:
        """A weight or bias of the normalised shape as [cols]."""
        if array is None or self.plain:
            return array
        check_array(array, name)
        if len(self.axes) == 1:  # what else is wrong with it the compiled part says
            if array.size != self.cols:
                raise ValueError(f"{name} has shape {array.shape}, but x has {self.cols} values along axis {self.axes[0]}")
            return array
        if array.shape not in (self.normalized_shape, (self.cols,)):
            raise ValueError(f"{name} has shape {array.shape}, but the normalised axes of x have {self.normalized_shape}")
        return array.reshape(self.cols)

    def restore(self, array: np.ndarray) -> np.ndarray:
        """A result of [rows..., cols] in the shape of x."""
        if self.plain:
            return array
        whole = array.reshape(self.lead + self.normalized_shape)
        return whole if self.trailing else np.moveaxis(whole, range(-len(self.axes), 0), self.axes)

    def per_row(self, tail: tuple[int, ...], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """Memory for numbers of each row, and what the caller gets: [leading axes..., tail]."""
        values = np.empty(self.rows + tail, dtype)
        return values, values if self.rows == self.lead else values.reshape(self.lead + tail)

    def row_output(self, out: Optional[np.ndarray], dtype: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Memory for one number of each row, and what the caller gets: fresh, or `out`."""
        if out is None:
            return self.per_row((), dtype)
        check_array(out, name)
        if out.shape != self.lead:
            raise ValueError(f"{name} has shape {out.shape}, but the leading axes of x have {self.lead}")
        rows = out.reshape(self.rows)
        if out.size and not np.may_share_memory(rows, out):
            raise ValueError(f"{name} of strides {out.strides} cannot be written to without a copy: it has to be contiguous")
        return rows, out

    def of_rows(self, array: Optional[np.ndarray], name: str) -> Optional[np.ndarray]:
        """Numbers of each row as forward returned them, for the compiled part."""
        array = dense(array)
        if array is None or self.rows == self.lead:
            return array
        check_array(array, name)
        tail = array.shape[len(self.lead) :]
        if array.shape != self.lead + tail:
            raise ValueError(f"{name} has shape {array.shape}, but the leading axes of x have {self.lead}")
        return array.reshape(self.rows + tail)

    def output(self, out: Optional[np.ndarray], dtype: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Memory for a result of x's shape, and what the caller gets: fresh, or `out`."""
        if out is None:
            rows = empty(self.rows + (self.cols,), dtype)
            return rows, self.restore(rows)
        check_array(out, name)
        if out.shape != self.shape:
            raise ValueError(f"{name} has shape {out.shape}, but x has {self.shape}")
        if self.plain:
            return out, out
        moved = out if self.trailing else np.moveaxis(out, self.axes, range(-len(self.axes), 0))
        rows = moved.reshape(self.rows + (self.cols,))
        if out.size and not np.may_share_memory(rows, out):
            raise ValueError(
                f"{name} of strides {out.strides} cannot be written to without a copy: its normalised axes have to "
                "be the last ones and contiguous"
            )
        return rows, out


def fresh_groups(groups: Any, cols: int) -> tuple[int, ...]:
    """The last axis of numbers of each group; none for what the compiled part will refuse, which might be of any size."""
    count = integer(groups, "groups")
    return (count,) if 1 < count <= cols else ()


def parameter(array: Optional[np.ndarray], name: str, x: np.ndarray) -> Optional[np.ndarray]:
    """A weight or bias side by side in memory, in a type that goes with x: one of float64 beside other types is rounded to
    float32, to nearest even, and with an x of float64 it becomes float64, which is exact."""
    if array is None:
        return None
    check_array(array, name)
    array = dense(array)
    if x.dtype == np.float64:
        if array.dtype != np.float64 and array.dtype.kind in "fV":
            return array.astype(np.float64)
    elif array.dtype == np.float64:
        return array.astype(np.float32)
    return array


def dense(array: Any) -> Any:
    """The array, or a copy where the values of a row do not lie side by side; a stride of 0, one value for all, stays."""
    if isinstance(array, np.ndarray) and array.ndim and array.shape[-1] > 1 and array.strides[-1] not in (0, array.itemsize):
        return np.array(array, order="C", subok=True)  # a masked array stays one, which the compiled part refuses
    return array


def compute_dtype(x: np.ndarray) -> Any:
    """The type of statistics: float64 for float64, else float32."""
    return np.float64 if x.dtype == np.float64 else np.float32
