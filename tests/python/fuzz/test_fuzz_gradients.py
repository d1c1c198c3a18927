"""Gradients, vectors, ranks and a look into arrays in NumPy, called well and badly, as in test_fuzz_numpy.py."""

import numpy as np
from fuzz_arrays import agree, bools, calls, entries, judge, plain, same_bytes, spoil, wrong_array
from fuzz_support import F16, F32, F64, FLOATS, GATED, LAYER, NONSENSE, examples, laid_out, shapes, values
from hypothesis import given
from hypothesis import strategies as st

import isonorm
from isonorm import checkpoint


def again(call, *left_out):
    """The same call on plain arrays, by one thread."""
    return {**{name: plain(v) for name, v in call.items() if name not in left_out}, "threads": 1}


@examples(100)
@given(st.data())
def test_backward(data):
    draw = data.draw
    call = draw(calls())
    x = call["x"]
    call["dy"] = draw(laid_out(draw(values(x.shape, F64 if x.dtype == F64 else draw(st.sampled_from([F32, F16]))))))
    way = draw(st.integers(0, 5))
    if way == 0:
        call["out"] = np.zeros(x.shape, x.dtype)
    elif way == 1:
        call["needs"] = draw(st.sampled_from(["dx", ["dx", "dbias"], ("dweight",), {"dgate", "dx"}]))
    elif way == 2 and "weight" in call and "bias" in call:
        compute = F64 if x.dtype == F64 else F32
        call["accumulate"] = {f"d{name}": np.ones(call[name].shape, compute) for name in ("weight", "bias")}
        for name in ("weight", "bias"):
            call[name] = call[name].astype(compute)
    elif way == 3:
        forward = {name: call[name] for name in call.keys() - {"dy"}}
        wanted = {"return_rstd": True, "return_mean": call["contract"] in LAYER}
        made = judge(isonorm.rms_norm, {**forward, **wanted})
        if made is not None:
            call.update({name: value for name, value in entries(made).items() if name in ("rstd", "mean")})
    outputs = ("out", "accumulate")
    if draw(bools):
        spoil(draw, call, isonorm.rms_norm_backward)
        judge(isonorm.rms_norm_backward, call, outputs)
        return
    expected = again(call, "out", "rstd", "mean")
    if "accumulate" in call:
        expected["accumulate"] = {name: value.copy() for name, value in call["accumulate"].items()}
    results = judge(isonorm.rms_norm_backward, call, outputs)
    if results is not None:
        agree(results, isonorm.rms_norm_backward(**expected))


@examples(60)
@given(st.data())
def test_double_backward(data):
    draw = data.draw
    call = draw(calls())
    x = call["x"]
    call = {
        name: value for name, value in call.items() if name in ("x", "weight", "eps", "contract", "groups", "axis", "threads")
    }
    for name in ("dy", "ddx"):
        call[name] = draw(laid_out(draw(values(x.shape, x.dtype))))
    if "weight" in call and draw(bools):
        call["ddweight"] = draw(values(call["weight"].shape, F64 if x.dtype == F64 else F32))
    if draw(bools):
        spoil(draw, call, isonorm.double_backward)
        judge(isonorm.double_backward, call)
        return
    results = judge(isonorm.double_backward, call)
    if results is not None:
        agree(results, isonorm.double_backward(**again(call)))


@examples(100)
@given(st.data())
def test_vectors(data):
    """rms, its gradient and the penalty; rms also by NumPy, in float64 of numbers that cannot overflow there."""
    draw = data.draw
    shape, dtype = draw(shapes()), draw(st.sampled_from(FLOATS))
    axis = draw(st.sampled_from([-1, -1, 0, (-1,), (-2, -1)])) if len(shape) > 1 else -1
    numbers = {a % len(shape) for a in np.atleast_1d(axis)}
    lead, compute = tuple(n for i, n in enumerate(shape) if i not in numbers), F64 if dtype == F64 else F32
    x = draw(laid_out(draw(values(shape, dtype))))
    call = {"x": x, "axis": axis, "threads": draw(st.sampled_from([None, 1]))}
    function = draw(st.sampled_from([isonorm.rms, isonorm.rms_backward, isonorm.rms_penalty]))
    outputs = ("out", "accumulate")
    if function is isonorm.rms_backward:
        call["drms"] = draw(values(lead, compute))
    elif function is isonorm.rms_penalty:
        call["lambda_"] = draw(st.sampled_from([0.5, 1, 0, 1e-30]))
    if draw(bools):
        if function is isonorm.rms_penalty:
            call["accumulate"] = np.ones(shape, draw(st.sampled_from([compute, dtype])))
        else:
            room = np.zeros((*lead[:-1], lead[-1] * 2), compute)[..., ::2] if lead and draw(bools) else np.zeros(lead, compute)
            call["out"] = room if function is isonorm.rms else np.zeros(shape, dtype)
    if draw(bools):
        spoil(draw, call, function)
        judge(function, call, outputs)
        return
    expected = again(call, "out")
    results = judge(function, call, outputs)
    if results is None:
        return
    agree(results, function(**expected))
    if function is isonorm.rms:
        assert "out" not in call or results is call["out"]
        assert results.shape == lead
        with np.errstate(all="ignore"):
            exact = np.sqrt(np.mean(expected["x"].astype(F64) ** 2, tuple(numbers)))
            fair = np.isfinite(exact) & (exact > 1e-140) & (exact < (3e38 if compute == F32 else 1e150))
            # A sum of n squares is n + 1 roundings away, its root half of that, and one more; float64 as an oracle, too.
            terms = int(np.prod([shape[i] for i in numbers]))
            bound = ((terms + 1) / 2 + 2) * (2.0**-52 if compute == F64 else 2.0**-24) * exact + 2.0**-149
            assert not (fair & ~(np.abs(results - exact) <= bound)).any()


@examples(60)
@given(st.data())
def test_ranks(data):
    """What ranks compute together is what one call computes."""
    draw = data.draw
    rows, ranks, cols = draw(st.integers(0, 4)), draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([4, 8, 32, 128]))
    dtype = draw(st.sampled_from([F32, F16, F64]))
    x, contract = draw(values((rows, cols), dtype)), draw(st.sampled_from(["torch", "llama", "layer_norm"]))
    weight = draw(values((cols,), dtype))
    own = cols // ranks
    parts = [(x[:, i : i + own], weight[i : i + own]) for i in range(0, cols, own)]
    call = {"x": parts[0][0], "weight": parts[0][1], "eps": 1e-5, "ranks": ranks, "contract": contract, "threads": 1}
    if draw(bools):
        spoil(draw, call, isonorm.parallel.Forward)
        made = judge(isonorm.parallel.Forward, call)
        if made is not None and judge(made.partial, {}, names=call) is not None:
            judge(made.finish, {"gathered": draw(st.one_of(NONSENSE, st.just(np.zeros((ranks, rows, 1), F32))))}, names=call)
        return
    own = [judge(isonorm.parallel.Forward, {**call, "x": a, "weight": w}) for a, w in parts]
    while own[0].round is not None:
        sent = [judge(rank.partial, {}, names=call) for rank in own]
        if sent[0] is None:  # more ranks than such rows allow
            assert ranks > isonorm.parallel.max_ranks(cols)
            return
        gathered = np.stack([s.copy() for s in sent])
        for rank in own:
            rank.finish(gathered)
    y = np.concatenate([rank.y for rank in own], -1)
    agree(y, isonorm.rms_norm(x, weight, eps=1e-5, contract=contract))


@examples(60)
@given(st.data())
def test_numbers(data):
    """What takes numbers and little else."""
    draw = data.draw
    parts = np.ones((3, 8), F32)
    for function, call in (
        (isonorm.parallel.combine_gradients, {"parts": parts, "rows": 70, "part_rows": 32}),
        (isonorm.parallel.max_ranks, {"cols": 64}),
        (isonorm.set_target, {"name": None}),
    ):
        spoil(draw, call, function)
        judge(function, call, ("out",))
    isonorm.set_target(None)
    assert judge(isonorm.set_num_threads, {"threads": draw(NONSENSE)}) is None
    isonorm.set_num_threads(None)


@examples(100)
@given(st.data())
def test_looks(data):
    """stats, compare and digest, of one array and of several."""
    draw = data.draw
    function = draw(st.sampled_from([isonorm.stats, isonorm.compare, isonorm.digest]))
    x = draw(laid_out(draw(values(draw(shapes()), draw(st.sampled_from(FLOATS))))))
    call = {"x": x}
    if function is not isonorm.digest:
        call.update(eps=1e-6, threads=draw(st.sampled_from([None, 1])), progress=False)
        call["x"] = draw(st.sampled_from([x, [x], (x, x), {"a": x}]))
    if draw(bools):
        spoil(draw, call, function)
        call["progress"] = False
        if function is isonorm.digest:
            call.pop("progress")
        if call.get("x") is not None and getattr(call["x"], "size", 0) < 1 << 32:
            judge(function, call)
        return
    found = judge(function, call)
    expected = function(**{**call, "x": plain(x)})
    for one in [found] if call["x"] is x else found:
        if isinstance(one, dict):
            one = {key: one[key] for key in expected if key != "name"}  # a mapping's names are in it, too
        assert repr(one) == repr(expected)


@examples(100)
@given(st.data())
def test_checkpoints(data):
    """Weights of every type and layout, and what is no model."""
    draw = data.draw
    width, others = draw(st.sampled_from([1, 2, 7, 33])), draw(st.sampled_from([1, 3, 8]))
    shapes = {"a.weight": (others, width), "a.bias": (others,), "c.weight": (width, others), "c.bias": (others,),
              "n.weight": (width,), "n.bias": (width,), "e": (5, width), "b": (width,), "h": (4, width)}  # fmt: skip
    tensors = {name: draw(laid_out(draw(values(shape, draw(st.sampled_from(FLOATS)))))) for name, shape in shapes.items()}
    if draw(bools):
        function, call = checkpoint.recenter, {"rows": ["e", "b", "a.weight"], "linear": "c.weight", "head": "h"}
    else:
        function, call = checkpoint.fold, {"norm": "*.weight", "linear": ["a.weight"], "conv1d": "c.weight", "contract": "gemma"}
        call["norm"] = draw(st.sampled_from(["n.weight", "n.weight", "*.weight"]))
    call["tensors"] = tensors
    if draw(bools):
        spoil(draw, call, function)
    elif draw(bools):
        name = draw(st.sampled_from(sorted(shapes)))
        try:
            tensors[name] = draw(NONSENSE) if draw(st.integers(0, 3)) == 0 else wrong_array(draw, tensors[name])
        except (TypeError, ValueError):
            tensors[name] = None
    found = judge(function, call, names=shapes)
    if found is not None and call["tensors"] is tensors and all(value.size < 1 << 32 for value in tensors.values()):
        expected = function(**{**call, "tensors": {name: plain(value) for name, value in tensors.items()}})
        assert list(found) == list(expected)
        for name, value in found.items():
            assert same_bytes(plain(value), expected[name]), name
