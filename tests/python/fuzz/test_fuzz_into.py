"""isonorm.into with tensors of torch, as in test_fuzz_torch.py."""

import inspect

import torch
from fuzz_support import examples
from hypothesis import given
from hypothesis import strategies as st
from fuzz_tensors import FLOATS, bools, judge, same, spoil, tensors

import isonorm


@examples(60)
@given(st.data())
def test_into(data):
    """A view with the other sign, a gradient, no memory, other devices."""
    draw = data.draw
    x, out = draw(tensors((3, 8), draw(st.sampled_from(FLOATS)))), torch.zeros(3, 8)
    call = {"out": out, "x": x, "weight": draw(tensors((8,), torch.float32)), "eps": 1e-6}
    if draw(bools):
        spoil(draw, call, inspect.signature(isonorm.into).parameters)
    watched, given_out = call["out"] is out, call.pop("out")
    results = judge(isonorm.into, call, ("out",), (given_out,))
    if results is None and watched:
        assert not out.any()
    elif (
        watched
        and isinstance(call["x"], torch.Tensor)
        and call["x"].dtype == torch.float32
        and set(call) == {"x", "weight", "eps"}
    ):
        if type(call["weight"]) is torch.Tensor and call["weight"].dtype == torch.float32:
            expected = isonorm.rms_norm(
                call["x"].detach().resolve_neg().numpy(), call["weight"].detach().resolve_neg().numpy(), eps=call["eps"]
            )
            assert same(out, torch.from_numpy(expected))
