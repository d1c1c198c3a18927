"""Derivatives of every order and mode, in float64 beside those of the plain formula, which JAX differentiates itself."""

import face_support
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import F32, F64, random
from face_support import COLS, EPS, ROWS

import isonorm.jax as ij

JAX_CONFIG = {"jax_enable_x64": True, "jax_disable_most_optimizations": True}  # the latter for short times of compilation

COS, SIN = random((5, 3), F64, 20), random((5, 3), F64, 21)


def plain(x, weight=1.0, bias=0.0, residual=0.0, *, groups=1, window=None, offset=0.0, outside=False, layer=False):
    v = x + residual
    h = v.reshape(*v.shape[:-1], groups, -1)
    h = h - h.mean(-1, keepdims=True) * layer
    square = (h[..., :window] ** 2).mean(-1, keepdims=True)
    h = h / (jnp.sqrt(square) + EPS if outside else jnp.sqrt(square + EPS))
    return h.reshape(v.shape) * (weight + offset) + bias


def gated(x, weight, gate, before):
    factor = gate / (1 + jnp.exp(-gate))
    return plain(x * factor, weight) if before else plain(x, weight) * factor


def turned(x, weight, interleaved=False):
    y = plain(x, weight)
    a, b = (y[..., 0:6:2], y[..., 1:6:2]) if interleaved else (y[..., :3], y[..., 3:6])
    cos, sin = COS[2 : 2 + ROWS], SIN[2 : 2 + ROWS]
    pair = a * cos - b * sin, b * cos + a * sin
    pair = jnp.stack(pair, -1).reshape(*a.shape[:-1], 6) if interleaved else jnp.concatenate(pair, -1)
    return jnp.concatenate((pair, y[..., 6:]), -1)


def ours(norm=ij.rms_norm, **options):
    return lambda *arrays: norm(*arrays, eps=EPS, **options)


def added(**options):
    def function(x, weight, residual):
        y, total = ij.rms_norm(x, weight, eps=EPS, residual=residual, **options)
        return jnp.concatenate((y, total))

    return function


def rotated(x, weight, **options):
    return ij.rms_norm(x, weight, eps=EPS, rope=ij.Rope(COS, SIN, **options))


WEIGHT = ("weight",)
CASES = {
    "gemma": (ours(contract="gemma"), lambda x, w: plain(x, w, offset=1.0), WEIGHT),
    "layer_norm": (ours(ij.layer_norm), lambda x, w, b: plain(x, w, b, layer=True), ("weight", "weight")),
    "groups": (ours(groups=2), lambda x, w, b: plain(x, w, b, groups=2), ("weight", "weight")),
    "paper": (ours(contract="paper", window=3), lambda x, w: plain(x, w, outside=True, window=3), WEIGHT),
    "residual": (added(), lambda x, w, r: jnp.concatenate((plain(x, w, residual=r), x + r)), ("weight", "x")),
    "positions": (lambda x, w: rotated(x, w, positions=np.arange(2, 2 + ROWS), style="interleaved"),
                  lambda x, w: turned(x, w, True), WEIGHT),
    "rope": (lambda x, w: rotated(x, w, position_offset=2), turned, WEIGHT),
    # In float32: gates have no float64.
    "mamba2": (lambda x, w, g: ij.rms_norm(x, w, eps=EPS, gate=g, contract="mamba2"),
               lambda x, w, g: gated(x, w, g, True), ("weight", "x")),
    "qwen3_next_gated": (lambda x, w, g: ij.rms_norm(x, w, eps=EPS, gate=g, contract="qwen3_next_gated"),
                         lambda x, w, g: gated(x, w, g, False), ("weight", "x")),
}  # fmt: skip


def arrays_of(case, seed=0):
    dtype = F32 if case in ("mamba2", "qwen3_next_gated") else F64
    kinds = ("x", *CASES[case][2])
    arrays = [random((ROWS, COLS) if kind == "x" else COLS, dtype, seed + i) for i, kind in enumerate(kinds)]
    return arrays, [a.astype(np.float64) for a in arrays], np.finfo(dtype).eps


def close(got, expected, eps, derivatives):
    face_support.close(jax.tree.leaves(got), jax.tree.leaves(expected), eps, derivatives)


def both(case, derivative):
    """What a derivative makes of the norm, and of the formula; it takes the arrays of the case, and others as tangents."""
    arrays, exact, eps = arrays_of(case)
    tangents, exact_tangents, _ = arrays_of(case, 10)
    function, formula, _ = CASES[case]
    return jax.jit(derivative(function))(arrays, tangents), jax.jit(derivative(formula))(exact, exact_tangents), eps


def forward_mode(f):
    return lambda arrays, tangents: jax.jvp(f, tuple(arrays), tuple(tangents))


def reverse_over_forward(f):
    return jax.grad(lambda arrays, tangents: (forward_mode(lambda *a: jnp.tanh(f(*a)))(arrays, tangents)[1] ** 2).sum())


def cubed(f):
    return lambda arrays: (f(*arrays) ** 3).sum()


def reverse_over_reverse(f):
    return jax.grad(lambda arrays, _: sum((g**2).sum() for g in jax.grad(cubed(f))(arrays)))


def forward_over_reverse(f):
    return lambda arrays, tangents: jax.jvp(jax.grad(cubed(f)), (arrays,), (tangents,))[1]


@pytest.mark.parametrize("case", CASES)
def test_modes(case):
    """That reverse mode alone has the bits of NumPy's face, test_jax_bits shows."""
    close(*both(case, forward_mode), derivatives=1)
    close(*both(case, reverse_over_forward), derivatives=2)
    close(*both(case, reverse_over_reverse), derivatives=2)
    close(*both(case, forward_over_reverse), derivatives=2)


@pytest.mark.parametrize("case", ["residual", "rope"])
def test_batches_of_derivatives(case):
    """vmap of forward mode, which jacfwd is, and of second derivatives."""
    close(*both(case, lambda f: lambda a, _: jax.jacfwd(f, (0, 1))(*a)), derivatives=1)
    close(*both(case, lambda f: lambda a, _: jax.jacrev(f, (0, 1))(*a)), derivatives=1)
    close(*both(case, lambda f: lambda a, _: jax.hessian(lambda x: cubed(f)((x, *a[1:])))(a[0])), derivatives=2)

    def items(f):
        item = jax.jacfwd(lambda x, weight, rest: f(x, weight, *rest))
        return lambda a, _: jax.vmap(item, (0, 0, None))(jnp.stack([a[0], 2 * a[0]]), jnp.stack([a[1], 3 * a[1]]), a[2:])

    close(*both(case, items), derivatives=1)


def test_third_derivatives():
    def along_twice(f):
        def second(arrays, tangents):
            return jax.jvp(jax.grad(cubed(f)), (arrays,), (tangents,))[1]

        return lambda arrays, tangents: jax.jvp(lambda a: second(a, tangents), (arrays,), (tangents,))[1]

    close(*both("gemma", along_twice), derivatives=3)


def test_statistics_are_constant():
    x = random((ROWS, COLS), F64)

    def rstd(x):
        return ij.layer_norm(x, eps=EPS, return_rstd=True, return_mean=True)[1:]

    moved = jax.jvp(rstd, (x,), (x,))[1]
    assert all(not np.asarray(m).any() for m in moved)
    assert not np.asarray(jax.grad(lambda x: rstd(x)[1].sum())(x)).any()


def test_tables_are_constant():
    gradient = jax.grad(lambda cos: ij.rms_norm(np.ones((ROWS, COLS)), eps=EPS, rope=ij.Rope(cos, SIN)).sum())(COS)
    assert not np.asarray(gradient).any()
