"""Weights of models rewritten so that they compute the same with less, as the command ``isonorm checkpoint`` does in files.

    >>> import numpy as np
    >>> from isonorm import checkpoint
    >>> tensors = {"norm.weight": np.float32([1, 2]), "up.weight": np.float32([[3, 4]])}
    >>> checkpoint.fold(tensors, norm="norm.weight", linear=["up.weight"])
    {'norm.weight': array([1., 1.], dtype=float32), 'up.weight': array([[3., 8.]], dtype=float32)}

Exact in real numbers: arithmetic is in float64, and each new value is rounded once, to the type that it had. docs/cli.md says
which models these functions know, and what they refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np

from isonorm import _native
from isonorm._arrays import flag, utf8
from isonorm._stats import _dense
from isonorm.contracts import ContractLike, resolve

__all__ = ["fold", "recenter"]

Patterns = Union[str, Sequence[str]]

_TYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}


def _is_torch(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "data_ptr")


class _Tensors:
    """Arrays of NumPy or tensors of torch by name, as the compiled part asks for them."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        if not isinstance(tensors, Mapping):
            raise TypeError(f"tensors is a {type(tensors).__name__}, but has to be a mapping from names to arrays")
        self.names, self.values = list(tensors), []
        self.made: dict[int, Any] = {}
        for name, value in tensors.items():
            if not isinstance(name, str):
                raise TypeError(f"tensors has the key {name!r}, but names have to be str")
            if not isinstance(value, np.ndarray) and not _is_torch(value):
                raise TypeError(f"tensors[{name!r}] is a {type(value).__name__}, but has to be an array of NumPy or a torch.Tensor")
            if isinstance(value, np.ma.MaskedArray):
                raise TypeError(f"tensors[{name!r}] is a masked array, and isonorm knows no masks: fill it, as with .filled(0)")
            self.values.append(_dense(value, f"tensors[{name!r}]") if _is_torch(value) else value)
        self.infos = [(utf8(name), self._type(value), tuple(value.shape)) for name, value in zip(self.names, self.values)]
        self.memory = [self._range(value) for value in self.values]

    @staticmethod
    def _type(value: Any) -> str:
        word = str(value.dtype).removeprefix("torch.")
        return _TYPES.get(word, word)

    @staticmethod
    def _range(value: Any) -> tuple[int, int]:
        """From the first byte to behind the last one."""
        if 0 in value.shape:
            return 0, 0
        if _is_torch(value):
            start, size = value.data_ptr(), value.element_size()
            reach = [(n - 1) * stride * size for n, stride in zip(value.shape, value.stride())]
        else:
            start, size = value.__array_interface__["data"][0], value.itemsize
            reach = [(n - 1) * stride for n, stride in zip(value.shape, value.strides)]
        return start + sum(min(step, 0) for step in reach), start + sum(max(step, 0) for step in reach) + size

    def source(self, i: int) -> Any:
        value = self.values[i]
        return value.contiguous() if _is_torch(value) else np.ascontiguousarray(value)

    def target(self, i: int) -> Any:
        start, end = self.memory[i]
        for j, (other_start, other_end) in enumerate(self.memory):
            if j != i and start < other_end and other_start < end:
                raise ValueError(
                    f"{self.names[i]} and {self.names[j]} share memory: they are tied, and one cannot change without the other"
                )
        value = self.values[i]
        if _is_torch(value):
            self.made[i] = value.new_empty(tuple(value.shape))
        else:
            self.made[i] = np.empty(value.shape, value.dtype)
        return self.made[i]

    def result(self, tensors: Mapping[str, Any], done: tuple[list[int], str, int]) -> dict[str, Any]:
        _, untied, untied_from = done
        result = {name: self.made.get(i, tensors[name]) for i, name in enumerate(self.names)}
        if untied:
            value = self.values[untied_from]
            result[untied] = value.clone() if _is_torch(value) else value.copy()
        return result


def _texts(patterns: Patterns, name: str) -> list[str]:
    if isinstance(patterns, str):
        patterns = [patterns]
    if not isinstance(patterns, (list, tuple)):
        raise TypeError(f"{name} is a {type(patterns).__name__}, but has to be a pattern of names, or a list of them")
    return [_text(pattern, name) for pattern in patterns]


def _text(value: Optional[str], name: str) -> str:
    if value is not None and (not isinstance(value, str) or not value):
        raise TypeError(f"{name} is {value!r}, but has to be a name or a pattern of names")
    return utf8(value or "")


def recenter(
    tensors: Mapping[str, Any],
    preset: Optional[str] = None,
    *,
    rows: Patterns = (),
    linear: Patterns = (),
    head: Optional[str] = None,
    no_head: bool = False,
    untie: Optional[str] = None,
) -> dict[str, Any]:
    """Takes the mean out of the residual stream of a pre-norm model, whose LayerNorms are then RMSNorms with the same weight,
    bias and eps.

        >>> import numpy as np
        >>> from isonorm import checkpoint
        >>> tensors = {"embed.weight": np.float32([[1, 3], [2, 8]]), "head.weight": np.float32([[1, 3]])}
        >>> checkpoint.recenter(tensors, rows=["embed.weight"], head="head.weight")["embed.weight"]
        array([[-1.,  1.],
               [-3.,  3.]], dtype=float32)

    tensors: arrays of NumPy (bfloat16 by ml_dtypes) or tensors of torch, such as a state_dict; none of them is changed.
    preset: "gpt2", "opt" or "gpt_neox", whose names are known; otherwise all that writes into the stream is named:
    rows: embeddings, biases, and Conv1D's weights [in, out]; their rows lose their mean. linear: weights of nn.Linear [out, in].
        Patterns, in which ``*`` stands for text without a dot.
    head: the weight that reads the last norm, which must not be tied to an embedding; no_head: there is none.
    untie: the embedding to which the head is tied: the result has a copy of it, as it was, under the head's name.

    Returns a dict with all tensors: new ones, and otherwise the same objects.
    Raises ValueError, and TypeError for types, with a sentence that names the tensor.
    """
    all_tensors = _Tensors(tensors)
    done = _native.recenter(
        all_tensors.infos, all_tensors.source, all_tensors.target, _text(preset, "preset"), _texts(rows, "rows"),
        _texts(linear, "linear"), _text(head, "head"), flag(no_head, "no_head"), _text(untie, "untie"),
    )  # fmt: skip
    return all_tensors.result(tensors, done)


def fold(
    tensors: Mapping[str, Any],
    preset: Optional[str] = None,
    *,
    norm: Optional[str] = None,
    linear: Patterns = (),
    conv1d: Patterns = (),
    contract: Optional[ContractLike] = None,
) -> dict[str, Any]:
    """Folds the weight and the bias of norms into the linear layers that read them: the norms keep a weight of ones and a bias
    of zeros, or need none any more.

        >>> import numpy as np
        >>> from isonorm import checkpoint
        >>> tensors = {"norm.weight": np.float32([1, 2]), "up.weight": np.float32([[3, 4]])}
        >>> checkpoint.fold(tensors, norm="norm.weight", linear=["up.weight"])["up.weight"]
        array([[3., 8.]], dtype=float32)

    tensors: as for `recenter`. preset: "gpt2", "opt", "gpt_neox", "llama" or "gemma": the norms in front of attention and MLP;
        otherwise what follows.
    norm: a pattern of norms' weights; each must end in ".weight", and a bias lies beside it. linear, conv1d: all that reads it,
        [out, in] and [in, out]; ``*`` stands for the same text as in `norm`.
    contract: of the norms: "gemma" adds 1 to the weight, which then becomes zeros; None: nothing is added.

    Returns what `recenter` does. Raises ValueError, and TypeError for types, as it does.
    """
    all_tensors = _Tensors(tensors)
    done = _native.fold(
        all_tensors.infos, all_tensors.source, all_tensors.target, _text(preset, "preset"), _text(norm, "norm"),
        _texts(linear, "linear"), _texts(conv1d, "conv1d"), None if contract is None else resolve(contract).weight_offset,
    )  # fmt: skip
    return all_tensors.result(tensors, done)
