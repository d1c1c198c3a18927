"""Subclasses of the classes that are patched, made when they are needed.

A patched module is the same object with another class: its parameters, hooks and attributes stay where they are, it is still an
instance of its class, and `forward` is the only method that differs. It is pickled and copied as its class and how to patch it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Optional

import torch
from torch import Tensor, nn

from isonorm.torch import layer_norm, rms_norm
from isonorm.transformers.bodies import Body, body_of
from isonorm.transformers.plans import Arguments

_made: dict[tuple[type, str], type] = {}


def patched_class(cls: type, body: Body) -> type:
    """The subclass of `cls` that computes `body` by isonorm; the same one each time."""
    key = (cls, body.example)
    made = _made.get(key)
    if made is None or made._isonorm_original is not cls.forward:  # type: ignore[attr-defined]
        members = {
            "__module__": __name__,
            "__doc__": cls.__doc__,
            "__reduce_ex__": _reduce,
            "_isonorm_patches": cls,
            "_isonorm_original": cls.forward,  # type: ignore[attr-defined]
            "_isonorm_contract": body.contract,
            "_isonorm_body": body,
            "forward": _forward(cls, body, rms_norm, layer_norm, cls.forward, _permuted),  # type: ignore[attr-defined]
        }
        made = _made[key] = type("Isonorm" + cls.__name__, (cls,), members)
    return made


def original_class(cls: type) -> Optional[type]:
    """The class that `cls` patches, None if it is no patched class."""
    return cls.__dict__.get("_isonorm_patches")


def shares(cls: type) -> bool:
    """Whether `cls` is a `shared_class`."""
    return "_isonorm_shares" in cls.__dict__


def shared_class(cls: type, norm: Callable[..., Any]) -> type:
    """A subclass of a patched class whose norm is another function, which takes what `rms_norm` and `layer_norm` take. A call that
    is left to the module's own forward is refused where autograd would see it."""
    original: Any = original_class(cls)

    def leave(self: nn.Module, *inputs: Any, **named: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                f"isonorm does not compute this call of {original.__name__}, so that its weight cannot have the gradient of all "
                "replicas: inputs have to be tensors of float32, bfloat16 or float16 in CPU memory, as wide as the weight"
            )
        return original.forward(self, *inputs, **named)

    members = {
        "__module__": __name__,
        "__doc__": cls.__doc__,
        "__reduce_ex__": object.__reduce_ex__,  # a copy shares too
        "_isonorm_shares": True,
        "forward": _forward(original, cls._isonorm_body, norm, norm, leave, _permuted_in_items),  # type: ignore[attr-defined]
    }
    return type(cls.__name__, (cls,), members)


def _forward(
    cls: Any,
    body: Body,
    rms: Callable[..., Any],
    layer: Callable[..., Any],
    leave: Callable[..., Any],
    permuted: Callable[..., Any],
) -> Callable[..., Any]:
    """leave: what computes a call that is left to the module's own forward; permuted: one of an x that is not contiguous."""
    plan, names, keeps_order = body.plan, body.parameters, body.keeps_order
    assert plan is not None

    def arguments(self: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Arguments:
        given = _in_order(inputs, named, names) if named else inputs
        return plan(self, *given) if 0 < len(given) <= len(names) else None

    def rms_forward(self: nn.Module, *inputs: Any, **named: Any) -> Any:
        call = plan(self, *inputs) if len(inputs) == 1 and not named else arguments(self, inputs, named)
        if call is None:
            return leave(self, *inputs, **named)
        return rms(**call) if not keeps_order or call["x"].is_contiguous() else permuted(rms, **call)

    def layer_forward(self: nn.Module, *inputs: Any, **named: Any) -> Any:
        call = arguments(self, inputs, named)
        if call is None:
            return leave(self, *inputs, **named)
        channels_first = call.pop("channels_first", False)
        y = layer(**call)
        return y.permute(0, 3, 1, 2) if channels_first else y

    return functools.wraps(cls.forward)(layer_forward if body.layer_norm else rms_forward)


def _in_order(inputs: tuple[Any, ...], named: dict[str, Any], names: tuple[str, ...]) -> tuple[Any, ...]:
    """All of them by position, or nothing if their names are others."""
    rest = names[len(inputs) : len(inputs) + len(named)]
    return (*inputs, *(named[name] for name in rest)) if set(rest) == set(named) else ()


def _permuted(rms: Callable[..., Any], x: Tensor, **call: Any) -> Any:
    """The result lies in memory as x does, as that of an operation on each element."""
    return _in_axes(_memory_order(x), rms, x, **call)


def _permuted_in_items(rms: Callable[..., Any], x: Tensor, **call: Any) -> Any:
    """The same where replicas share the gradient, and divide the first axis: its items are added up one after the other, wherever
    they lie. Else the order of rows would depend on how many of them a replica has."""
    memory = _memory_order(x)
    y = _in_axes(sorted(memory, key=bool), rms, x, **call)
    return y.permute(memory).contiguous().permute(_inverse(memory))


def _memory_order(x: Tensor) -> list[int]:
    """The axes of rows from the outermost one in memory on, and then that of columns."""
    strides = x.stride()
    return sorted(range(x.dim() - 1), key=lambda axis: -strides[axis]) + [x.dim() - 1]


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _in_axes(order: list[int], rms: Callable[..., Any], x: Tensor, gate: Optional[Tensor] = None, **call: Any) -> Any:
    gate = None if gate is None else gate.permute(order)
    return rms(x.permute(order), gate=gate, **call).permute(_inverse(order))


def _reduce(self: nn.Module, protocol: Any) -> Any:
    cls = original_class(type(self))
    if cls is None:  # a subclass that something else made of a patched class
        return object.__reduce_ex__(self, protocol)
    return restore, (cls,), self.__dict__


def restore(cls: type) -> nn.Module:
    """An empty module of the patched class of `cls`; of `cls` itself where its body is not known any more."""
    body = body_of(cls)
    usable = isinstance(body, Body) and body.plan is not None
    return object.__new__(patched_class(cls, body) if usable else cls)  # type: ignore[arg-type]
