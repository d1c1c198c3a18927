"""Contracts: which numbers a norm computes. Every rounding is a choice, and none is made silently.

The named ones are attributes of this module, and strings wherever a contract is asked for::

    >>> import isonorm
    >>> isonorm.contracts.llama.scaled_rounding
    'to_x'
    >>> isonorm.contracts.names()
    ['torch', 'llama', 'onnx', 't5', 'gemma', 'paper', 'mamba2', 'qwen3_next_gated', 'microgpt', 'layer_norm']

One of your own begins with a named one::

    >>> import dataclasses
    >>> mine = dataclasses.replace(isonorm.contracts.llama, weight_offset=1.0)
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from typing import Any, Union

from isonorm import _native

_WORDS: dict[str, tuple[str, ...]] = {
    "statistic": ("rms", "layer"),
    "eps_place": ("inside", "outside"),
    "scaled_rounding": ("none", "to_x", "to_weight"),
    "sum_rounding": ("stored", "kept"),
    "gate_place": ("none", "before", "after"),
    "gate_function": ("silu", "sigmoid"),
    "rotation_rounding": ("none", "to_x"),
}


@dataclasses.dataclass(frozen=True)
class Contract:
    """What a norm computes, each choice in a word; `include/isonorm/types.h` and `docs/numerics.md` define them.

    statistic: "rms", or "layer" for LayerNorm, which takes the mean away.
    eps_place: "inside" the root, as torch has it, or "outside", as the code of the RMSNorm paper.
    scaled_rounding: the type to which ``v * rstd`` is rounded before the weight multiplies it: "none", "to_x", "to_weight".
    sum_rounding: whether the row that is normalised is ``x + residual`` as "stored" or as "kept" in the compute type.
    gate_place: "none", ``norm(x * f(gate))`` "before", or ``norm(x) * f(gate)`` "after"; gate_function: f, "silu" or "sigmoid".
    rotation_rounding: whether a row is rounded "to_x"'s type before RoPE, or "none".
    weight_offset: added to the weight: 0, or 1 for Gemma.

    text: `numbers` as operators of torch take them, ``"1,1,2,1,1,1,2,0.0"``.

        >>> import isonorm
        >>> isonorm.Contract("rms", "inside", "to_x", "stored", "none", "silu", "to_x") == isonorm.contracts.llama
        True

    Raises ValueError for a word that a field does not have, TypeError for a weight_offset that is no number.
    """

    statistic: str
    eps_place: str
    scaled_rounding: str
    sum_rounding: str
    gate_place: str
    gate_function: str
    rotation_rounding: str
    weight_offset: float = 0.0
    # An attribute, and no cached_property, whose lock torch.compile cannot enter.
    text: str = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for field, words in _WORDS.items():
            word = getattr(self, field)
            if not isinstance(word, str) or word not in words:
                raise ValueError(f"{field} is {word!r}, but has to be one of {', '.join(map(repr, words))}")
        _native.real(self.weight_offset, "weight_offset")
        object.__setattr__(self, "text", ",".join(map(repr, self.numbers)))

    @functools.cached_property
    def packed(self) -> bytes:
        """The bytes of the C structure ``isonorm_contract``."""
        return _native.pack_contract(*self.numbers)

    @property
    def numbers(self) -> tuple[int, int, int, int, int, int, int, float]:
        """The fields as the enumerators of types.h, in the order of this class."""
        choices = [words.index(getattr(self, field)) + 1 for field, words in _WORDS.items()]
        return (*choices, float(self.weight_offset))  # type: ignore[return-value]


ContractLike = Union[str, Contract]


def _named(name: str) -> Contract:
    *choices, weight_offset = _native.contract(name)
    words: Any = {field: options[choice - 1] for (field, options), choice in zip(_WORDS.items(), choices)}
    return Contract(**words, weight_offset=weight_offset)


_BY_NAME: dict[str, Contract] = {name: _named(name) for name in _native.contracts()}
_PACKED: dict[str, bytes] = {name: contract.packed for name, contract in _BY_NAME.items()}

torch = _BY_NAME["torch"]
llama = _BY_NAME["llama"]
onnx = _BY_NAME["onnx"]
t5 = _BY_NAME["t5"]
gemma = _BY_NAME["gemma"]
paper = _BY_NAME["paper"]
mamba2 = _BY_NAME["mamba2"]
qwen3_next_gated = _BY_NAME["qwen3_next_gated"]
microgpt = _BY_NAME["microgpt"]
layer_norm = _BY_NAME["layer_norm"]


def names() -> list[str]:
    """The names of all named contracts.

    >>> import isonorm
    >>> "llama" in isonorm.contracts.names()
    True
    """
    return list(_BY_NAME)


def resolve(contract: ContractLike) -> Contract:
    """The contract of that name, or the contract itself.

        >>> import isonorm
        >>> isonorm.contracts.resolve("gemma").weight_offset
        1.0

    Raises ValueError for an unknown name and TypeError for anything else."""
    if isinstance(contract, Contract):
        return contract
    if not isinstance(contract, str):
        raise TypeError(f"contract is a {type(contract).__name__}, but has to be a name or an isonorm.Contract")
    found = _BY_NAME.get(contract)
    if found is None:
        near = difflib.get_close_matches(contract, _BY_NAME, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"contract {contract!r} is none of {', '.join(map(repr, _BY_NAME))}{hint}")
    return found


@functools.lru_cache(maxsize=None)
def from_text(text: str) -> Contract:
    """The contract of that name, or of what `Contract.text` gave.

        >>> import isonorm
        >>> isonorm.contracts.from_text(isonorm.contracts.t5.text) == isonorm.contracts.t5
        True

    Raises ValueError for any other text."""
    if text in _BY_NAME or "," not in text:
        return resolve(text)
    *choices, weight_offset = text.split(",")
    words: Any = {field: options[int(choice) - 1] for (field, options), choice in zip(_WORDS.items(), choices, strict=True)}
    return Contract(**words, weight_offset=float(weight_offset))


def packed(contract: ContractLike) -> bytes:
    """The bytes of the C structure ``isonorm_contract`` of a contract.

        >>> import isonorm
        >>> isonorm.contracts.packed("llama") == isonorm.contracts.llama.packed
        True

    Raises as `resolve` does."""
    return (_PACKED.get(contract) if type(contract) is str else None) or resolve(contract).packed
