"""A look into arrays, with the numbers of the command ``isonorm stats``: both run the same code."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from typing import Any, Optional, Union, overload

import numpy as np

from isonorm import _native
from isonorm._arrays import MAX_DIMS, flag, integer, thread_count, utf8
from isonorm._progress import progress_bar

Tensor = tuple[str, str, tuple[int, ...], Any]  # name, name in errors, shape, and an array of 1 to 7 dimensions


def _dense(value: Any, where: str) -> Any:
    """A tensor of torch as its memory, without the gradient that looking at it has no use for."""
    value = value.detach()
    if value.device.type != "cpu":
        raise TypeError(f"{where} is on the device {value.device}, but has to be in CPU memory: .cpu() copies it there")
    if value.layout != sys.modules["torch"].strided:
        raise TypeError(f"{where} has the layout {value.layout}, but has to be dense: .to_dense() makes it so")
    return value.resolve_neg()


def _tensor(name: str, where: str, value: Any) -> Tensor:
    if hasattr(value, "detach") and hasattr(value, "layout"):
        value = _dense(value, where)
    elif isinstance(value, np.generic):
        value = np.asarray(value)
    if not hasattr(value, "__dlpack__"):
        module = type(value).__module__
        kind = type(value).__qualname__ if module == "builtins" else f"{module}.{type(value).__qualname__}"
        raise TypeError(f"{where} is a {kind}, but has to be an array of NumPy or a tensor of a framework that has DLPack")
    try:
        shape = tuple(integer(size, "shape") for size in value.shape)
    except (AttributeError, TypeError):
        raise TypeError(f"{where} is a {type(value).__name__} without a shape, but has to be an array") from None
    if not shape:
        value = value.reshape(1)
    elif len(shape) > MAX_DIMS:
        value = value.reshape(math.prod(shape[:-1]), shape[-1])
    return utf8(name), utf8(where), shape, value


def _tensors(arrays: Any, argument: str) -> list[Tensor]:
    """Of one array, of several, or of several by name."""
    if isinstance(arrays, Mapping):
        for key in arrays:
            if not isinstance(key, str):
                raise TypeError(f"{argument} has the key {key!r}, but names have to be str")
        return [_tensor(key, f"{argument}[{key!r}]", value) for key, value in arrays.items()]
    if isinstance(arrays, (list, tuple)):
        return [_tensor(str(i), f"{argument}[{i}]", value) for i, value in enumerate(arrays)]
    return [_tensor(argument, argument, arrays)]


def _is_several(arrays: Any) -> bool:
    return isinstance(arrays, (Mapping, list, tuple))


def _bytes(tensors: list[Tensor]) -> int:
    return sum(getattr(tensor[3], "nbytes", 0) for tensor in tensors)


def _outlier(value: Any) -> float:
    outlier = _native.real(value, "outlier")
    if not 1 <= outlier <= 1e30:
        raise ValueError(f"outlier is {value}, but has to be from 1 to 1e30")
    return outlier


def _flat(value: Any, key: str, flat: dict[str, Any]) -> None:
    """Joins the keys of nested dicts; null becomes NaN, and of lists only the worst channel stays."""
    if key == "histogram":
        return
    if isinstance(value, dict):
        for name, part in value.items():
            _flat(part, key if name == "value" else f"{key}_{name}" if key else name, flat)
    elif key == "shape":
        flat[key] = str(value)
    elif key == "channels_worst":
        _flat(value[0] if value else dict.fromkeys(("channel", "rms", "factor")), key, flat)
    elif not isinstance(value, list):
        flat[key] = math.nan if value is None else value


def _entry(found: dict[str, Any], named: bool, flat: bool) -> dict[str, Any]:
    for key in ("file",) if named else ("file", "name", "layer", "series"):
        del found[key]
    if not flat:
        return found
    entry: dict[str, Any] = {}
    _flat(found, "", entry)
    return entry


Several = Union[Mapping[str, Any], list[Any], tuple[Any, ...]]


@overload
def stats(
    x: Several,
    *,
    eps: float = ...,
    outlier: float = ...,
    flat: bool = ...,
    threads: Optional[int] = ...,
    progress: Optional[bool] = ...,
) -> list[dict[str, Any]]: ...


@overload
def stats(
    x: Any,
    *,
    eps: float = ...,
    outlier: float = ...,
    flat: bool = ...,
    threads: Optional[int] = ...,
    progress: Optional[bool] = ...,
) -> dict[str, Any]: ...


def stats(
    x: Any,
    *,
    eps: float = 1e-6,
    outlier: float = 6.0,
    flat: bool = True,
    threads: Optional[int] = None,
    progress: Optional[bool] = None,
) -> Any:
    """What ``isonorm stats --json`` says about an array: RMS, mean drift, outlier channels, what float16 would lose.

        >>> import numpy as np, isonorm
        >>> found = isonorm.stats(np.array([[3.0, 4.0], [0.0, np.nan]], np.float32))
        >>> found["rows"], found["row_rms_max"], found["max_abs_row"], found["nan"], found["remarks"]
        (2, 3.5355339059327378, 0, 1, '1 NaN')

    x: [..., cols], float32, bfloat16, float16 or float64, of any number of dimensions; rows are what the last one holds, and a
        scalar is one row of one value. An array of NumPy, or a tensor in CPU memory of any framework that has DLPack; one of
        torch may require a gradient, of which nothing is recorded. Several: a list or tuple, or a mapping from names. Nothing
        is copied but rows that do not lie one after the other, piece by piece, and an array of more than 7 dimensions whose
        rows do not.
    eps: of the comparison of RMSNorm and LayerNorm; nothing else needs it.
    outlier: a channel is an outlier from this many times the RMS of the median channel, from 1 to 1e30.
    threads: at most so many, with the interpreter's lock released; the numbers are the same for any number.
    progress: a bar of tqdm: True, False, or None for one where tqdm is installed, stderr is a terminal or a notebook, there are
        64 MiB or more, and the work takes longer than a second.

    Returns a dict for one array and a list of dicts for several, which pandas.DataFrame takes as it is: the keys of the JSON,
    joined by "_", where "value" is left out ("row_rms_max" and "row_rms_max_row"), with numbers and texts. A number that does
    not exist is NaN. Of the channels there is the worst, and what only charts need is left out. A mapping's names give "name",
    and by the number that stands in them "layer" and "series". With flat=False the JSON's own nesting, lists and None.
    docs/cli.md says what each number is.

    Raises TypeError for other types, ValueError for an eps that is negative or not finite.
    """
    tensors, flat = _tensors(x, "x"), flag(flat, "flat")
    with progress_bar(progress, "stats", _bytes(tensors)) as update:
        text = _native.stats(tensors, _native.real(eps, "eps"), _outlier(outlier), thread_count(threads), update)
    entries = [_entry(found, isinstance(x, Mapping), flat) for found in json.loads(text)["tensors"]]
    return entries if _is_several(x) else entries[0]


@overload
def compare(
    x: Several, *, eps: float = ..., threads: Optional[int] = ..., progress: Optional[bool] = ...
) -> list[dict[str, Any]]: ...


@overload
def compare(x: Any, *, eps: float = ..., threads: Optional[int] = ..., progress: Optional[bool] = ...) -> dict[str, Any]: ...


def compare(x: Any, *, eps: float = 1e-6, threads: Optional[int] = None, progress: Optional[bool] = None) -> Any:
    """LayerNorm against RMSNorm on the same rows, both without weights.

        >>> import numpy as np, isonorm
        >>> found = isonorm.compare(np.array([[1.0, 3.0], [3.0, 1.0]]), eps=0)
        >>> found["mean"], found["std"], found["rms"], found["layer_norm_mean"], found["layer_norm_std"]
        (2.0, 1.0, 2.23606797749979, 0.0, 1.0)

    x, threads, progress: as in `stats`. eps: of both norms.

    Returns a dict for one array and a list of dicts for several (with "name" first for a mapping):

    dtype, rows, cols: of x. compared_rows: those whose values are all finite and, with eps 0, not all zero; everything below is
        about them, and NaN if there are none. constant_rows: those of them that LayerNorm turns into zeros, and RMSNorm does
        not.
    mean, std, rms: of x. rms_norm_mean, rms_norm_std, layer_norm_mean, layer_norm_std: of what each norm makes of it.
    cosine_mean, cosine_min, cosine_min_row: of the angle between both results for a row, where neither is all zero.

    Raises as `stats` does.
    """
    tensors = _tensors(x, "x")
    with progress_bar(progress, "compare", _bytes(tensors)) as update:
        entries = _native.compare(tensors, _native.real(eps, "eps"), thread_count(threads), update)
    if isinstance(x, Mapping):
        entries = [{"name": name, **entry} for name, entry in zip(x, entries)]
    return entries if _is_several(x) else entries[0]


def write_report(
    path: Union[str, os.PathLike[str]],
    arrays: Any,
    *,
    eps: float = 1e-6,
    outlier: float = 6.0,
    overwrite: bool = False,
    threads: Optional[int] = None,
    progress: Optional[bool] = None,
) -> None:
    """Writes the page of ``isonorm stats --html``, one HTML file that needs nothing else, about arrays in memory.

        >>> import os, tempfile, numpy as np, isonorm
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     isonorm.write_report(os.path.join(folder, "page.html"), {"x": np.ones((4, 8), np.float32)})
        ...     os.listdir(folder)
        ['page.html']

    path: of the page, whose name is its title. overwrite: an existing file is replaced, once the page is whole.
    arrays: one or several, as in `stats`; those of a mapping stand under their names, of a list under their places. Its charts
        follow the numbers in the names from layer to layer. The other arguments: as in `stats`.

    Raises FileExistsError, before the work, for a path that exists, and even with overwrite for one that is no regular file;
    OSError where nothing can be written; ValueError for no arrays; and as `stats` does.
    """
    tensors = _tensors(arrays, "arrays")
    if not tensors:
        raise ValueError("arrays is empty, but a report needs at least one array")
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    if os.path.exists(target) and not os.path.isfile(target):
        raise FileExistsError(f"path is {os.fspath(path)!r}, which is not a regular file and is not replaced")
    title, options = os.path.splitext(name)[0], (_native.real(eps, "eps"), _outlier(outlier))
    reserved = not overwrite
    if reserved:
        try:
            open(target, "xb").close()
        except FileExistsError:
            raise FileExistsError(f"path is {os.fspath(path)!r}, which exists already; overwrite=True replaces it") from None
    temporary = os.path.join(folder, f".{name[:200]}.{os.getpid()}-{id(tensors):x}.part")
    try:
        with open(temporary, "xb") as file:
            with progress_bar(progress, "report", _bytes(tensors)) as update:
                file.write(_native.page(tensors, utf8(title), *options, thread_count(threads), update))
        os.replace(temporary, target)
    except BaseException:
        for leftover in (temporary, target) if reserved else (temporary,):
            if os.path.exists(leftover):
                os.unlink(leftover)
        raise


def digest(x: Any) -> str:
    """The digest that ``isonorm apply --digest`` prints: FNV-1a of 64 bits over the values, row after row, as sixteen digits.

        >>> import numpy as np, isonorm
        >>> isonorm.digest(np.zeros(0, np.float32)), isonorm.digest(np.ones((2, 2), np.float32))
        ('cbf29ce484222325', 'ba01ef54a0fea6c5')

    x: an array or tensor as in `stats`, or of quantised values and scales (int8, the float8 types of ml_dtypes). Equal digests
    mean equal bits: NaN and zeros with a sign count as they are. Shape and type are not part of it.
    Raises TypeError for other types.
    """
    return str(_native.digest(_tensor("x", "x", x)[3]))
