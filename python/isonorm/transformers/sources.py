"""Identifies what a class computes by its source: a digest of `forward` and of every method and function that it calls.

A name is no safe key. Hugging Face's library has classes named RMSNorm with some twenty different bodies, two of which return
only the scale; a subclass may override a helper; and other packages replace `forward` of a class as a whole.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
import types
from collections.abc import Iterator
from typing import Any

import torch

# What the modules of known bodies import under these names; in another module they may be something else.
_GLOBALS: dict[str, Any] = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
# No influence on what is computed, or not there in every version of Python.
_IGNORED = frozenset({"annotation", "ctx", "kind", "returns", "type_comment", "type_params"})


class UnknownSource(Exception):
    """The source of a class cannot be told; the text says why."""


def digest(cls: type) -> str:
    """16 hexadecimal digits for the body of `cls`: equal for equal code, whatever its comments, annotations and docstrings.

    It does not depend on the version of Python. Raises UnknownSource where there is no source, or where it is not what runs.
    """
    return _hash("\n".join(_texts(cls, "forward", cls, set())))


def canonical(node: Any) -> str:
    """The syntax tree as text that is the same in every version of Python, without annotations and docstrings."""
    if isinstance(node, list):
        return "[" + ",".join(canonical(item) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            value = value[1:]
        if name not in _IGNORED and value is not None and value != []:
            fields.append(f"{name}={canonical(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _texts(cls: type, name: str, start: type, seen: set[tuple[type, str]]) -> list[str]:
    """The text of method `name`, looked for from class `start` of cls's bases on, then those of the methods it calls."""
    owner, function = _find(cls, name, start)
    if (owner, name) in seen:
        return []
    seen.add((owner, name))
    if _is_of_torch(function):
        return [f"{owner.__module__}.{owner.__qualname__}.{name}"]
    node = _parse(function, f"{owner.__qualname__}.{name}")
    texts = [canonical(node)]
    for key in sorted({found.id for found in ast.walk(node) if isinstance(found, ast.Name)}):
        found = function.__globals__.get(key)
        if key in _GLOBALS and found is not _GLOBALS[key]:
            raise UnknownSource(f"{key} in {owner.__qualname__}.{name} is not PyTorch's")
        if isinstance(found, types.FunctionType) and not _is_of_torch(found):
            texts.append(canonical(_parse(found, key)))
    for attribute in _own_names(node):
        found = inspect.getattr_static(cls, attribute, None)
        if isinstance(found, types.FunctionType):
            texts += _texts(cls, attribute, cls, seen)
        elif found is not None and not isinstance(found, (bool, int, float, str)):
            raise UnknownSource(f"{attribute} is a {type(found).__name__} of {cls.__qualname__}")
    for attribute in _super_names(node):
        after = cls.__mro__[cls.__mro__.index(owner) + 1]
        texts += _texts(cls, attribute, after, seen)
    return texts


def _is_of_torch(function: types.FunctionType) -> bool:
    return (function.__module__ or "").startswith("torch.")


def _find(cls: type, name: str, start: type) -> tuple[type, types.FunctionType]:
    for base in cls.__mro__[cls.__mro__.index(start) :]:
        found = base.__dict__.get(name)
        if found is None:
            continue
        # A wrapper runs in place of the source that inspect would find.
        if not isinstance(found, types.FunctionType) or hasattr(found, "__wrapped__"):
            raise UnknownSource(f"{base.__qualname__}.{name} is wrapped")
        return base, found
    raise UnknownSource(f"{cls.__qualname__} has no {name}")


def _parse(function: types.FunctionType, name: str) -> ast.FunctionDef:
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError):
        raise UnknownSource(f"the source of {name} cannot be read") from None
    if not isinstance(node, ast.FunctionDef):
        raise UnknownSource(f"{name} is no plain function")
    return node


def _own_names(node: ast.FunctionDef) -> Iterator[str]:
    """Attributes of self, in the order of their first use."""
    me = node.args.args[0].arg if node.args.args else ""
    names = (found.attr for found in ast.walk(node) if isinstance(found, ast.Attribute) and _is_name(found.value, me))
    return iter(dict.fromkeys(names))


def _super_names(node: ast.FunctionDef) -> Iterator[str]:
    for found in ast.walk(node):
        if isinstance(found, ast.Attribute) and isinstance(found.value, ast.Call) and _is_name(found.value.func, "super"):
            yield found.attr


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
