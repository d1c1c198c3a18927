"""Under enable(): what torch offers beside plain calls works as before, and what is torch's own stays so to the bit."""

import pytest

torch = pytest.importorskip("torch")
import isonorm.torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from test_override_numbers import assert_same, torch_alone  # noqa: E402, I001
from torch_support import OLD_TORCH, roundings  # noqa: E402


@pytest.fixture(autouse=True)
def _enabled():
    torch.manual_seed(1)
    with isonorm.torch.enabled():
        yield


def both(function):
    """What function returns with isonorm's kernels and with torch's, as lists of tensors."""

    def tensors():
        result = function()
        return [v for v in (result if isinstance(result, (tuple, list)) else [result]) if v is not None]

    ours = tensors()
    with torch_alone():
        return ours, tensors()


def assert_torchs(function):
    for got, own in zip(*both(function), strict=True):
        assert_same(torch.view_as_real(got) if got.is_complex() else got, torch.view_as_real(own) if own.is_complex() else own)


def assert_close(function, derivatives=1):
    """f64 of both, of rows of 5."""
    for got, own in zip(*both(function), strict=True):
        assert got.dtype == own.dtype == torch.float64 and got.shape == own.shape
        assert (got - own).abs().max() <= roundings(5, derivatives) * own.abs().max()
        assert own.isfinite().all()


@pytest.mark.parametrize("affine", [True, False])
def test_gradcheck_and_gradgradcheck(affine):
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    weight, bias = (torch.randn(3, 5, dtype=torch.float64, requires_grad=True) if affine else None for _ in range(2))
    for shape in ((3, 5), (5,)):
        w, b = (None if v is None else v if len(shape) == 2 else v[0] for v in (weight, bias))
        for function in (lambda x: F.rms_norm(x, shape, w, 1e-2), lambda x: F.layer_norm(x, shape, w, b, 1e-2)):
            assert torch.autograd.gradcheck(function, (x,), check_forward_ad=True)
            assert torch.autograd.gradgradcheck(function, (x,))
    if affine:
        for function in (
            lambda x, w, b: F.rms_norm(x, (3, 5), w, 1e-2) + b,
            lambda x, w, b: F.layer_norm(x, (3, 5), w, b, 1e-2),
        ):
            assert torch.autograd.gradcheck(function, (x, weight, bias))
            assert torch.autograd.gradgradcheck(function, (x, weight, bias))


NORMS = {
    "rms_norm": lambda x, w: F.rms_norm(x, (5,), w, 1e-6),
    "layer_norm": lambda x, w: F.layer_norm(x, (5,), w, w, 1e-6),
}


@pytest.mark.parametrize("name", NORMS)
def test_double_backward(name):
    x, w = (torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((4, 5), (5,)))

    def penalty():
        (dx,) = torch.autograd.grad(NORMS[name](x, w).tanh().sum(), x, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), (x, w))

    assert_close(penalty, derivatives=2)


@pytest.mark.parametrize("name", NORMS)
def test_functional_transforms(name):
    norm = NORMS[name]
    x, w, t = (torch.randn(size, dtype=torch.float64) for size in ((4, 3, 5), (5,), (4, 3, 5)))
    loss = lambda x, w: norm(x, w).tanh().sum()  # noqa: E731
    assert_close(lambda: torch.func.grad(loss, (0, 1))(x, w))
    assert_close(lambda: torch.func.vmap(torch.func.grad(loss, (0, 1)), (0, None))(x, w))
    assert_close(lambda: torch.func.vmap(norm, (1, None))(x, w))
    assert_close(lambda: torch.func.vmap(norm, (None, 0))(x, torch.stack([w, 2 * w])))
    assert_close(lambda: torch.func.jvp(lambda x: norm(x, w), (x,), (t,)))
    assert_close(lambda: torch.func.vjp(lambda x: norm(x, w), x)[1](t))
    assert_close(lambda: torch.func.hessian(loss)(x[0], w), derivatives=2)
    assert_close(lambda: torch.func.jacrev(lambda x: norm(x, w))(x[0]))
    if name == "rms_norm":  # torch takes it apart
        assert_torchs(lambda: torch.func.vmap(norm, (0, None))(x.float(), w.float()))


def test_what_is_torchs_own_stays_so():
    x, w = torch.randn(2, 4, 3, 5), torch.randn(5)
    last = x.to(memory_format=torch.channels_last)
    assert_torchs(lambda: F.rms_norm(last, (5,), w, 1e-6))
    assert_torchs(lambda: torch.ops.aten._fused_rms_norm(last, (5,), w, 1e-6))
    y = torch.ops.aten._fused_rms_norm(last, (5,), w, 1e-6)[0]
    assert y.is_contiguous(memory_format=torch.channels_last)
    deep = torch.randn(2, 4, 3, 2, 5).to(memory_format=torch.channels_last_3d)
    assert_torchs(lambda: torch.ops.aten._fused_rms_norm(deep, (2, 5), None, 1e-6))
    assert_torchs(lambda: F.rms_norm(x.bfloat16(), (5,), w, 1e-6))
    assert_torchs(lambda: torch.ops.aten._fused_rms_norm(x.bfloat16(), (5,), w, 1e-6))
    assert_torchs(lambda: F.rms_norm(torch.randn(3, 5, dtype=torch.complex64).requires_grad_(False) * 0 + x[0, 0], (5,)))
    assert_torchs(lambda: torch.ops.aten._fused_rms_norm(torch.complex(x, x + 1), (5,), None, None))
    assert_torchs(lambda: F.rms_norm(x, (5,), w, -1e-6))
    assert_torchs(lambda: F.layer_norm(x, (5,), w, w, -1e-6))
    assert_torchs(lambda: F.rms_norm(torch.empty(3, 0), (0,)))
    assert_torchs(lambda: F.layer_norm(torch.empty(3, 0), (0,)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_torchs(lambda: F.rms_norm(x.bfloat16(), (5,), w, 1e-6))


def test_views_of_bits_are_resolved():
    z = torch.randn(3, 8, dtype=torch.complex64)
    negative = z.conj().imag  # the sign is a flag of the tensor
    assert negative.is_neg()
    assert_same(F.rms_norm(negative, (8,), eps=1e-6), F.rms_norm(negative.resolve_neg(), (8,), eps=1e-6))
    assert_same(F.layer_norm(negative, (8,)), F.layer_norm(negative.resolve_neg(), (8,)))


def test_gradients_of_what_is_torchs_own():
    """The private operator takes what F.rms_norm keeps from it: then forward and backward are torch's operators."""
    for dtype, parameter in ((torch.float64, torch.float32), (torch.float32, torch.float64)):
        for shape in ((3, 4), (4,)):
            for size in ((2, 3, 4), shape):
                leaves = [torch.randn(size, dtype=dtype).requires_grad_(), torch.randn(shape, dtype=parameter).requires_grad_()]

                def gradients():
                    y = torch.ops.aten._fused_rms_norm(leaves[0], shape, leaves[1], 1e-2)[0]
                    return torch.autograd.grad(y, leaves, torch.ones_like(y) * torch.arange(4).to(y.dtype))

                for got, own in zip(*both(gradients), strict=True):
                    assert got.dtype == own.dtype and got.shape == own.shape and own.isfinite().all()
                    assert (got - own).abs().max() <= roundings(leaves[1].numel(), 1, 2.0**-23) * own.abs().max()


def test_mixed_types_of_layer_norm():
    x = torch.randn(6, 40, dtype=torch.float32).bfloat16()
    w, b = torch.randn(40), torch.randn(40)
    leaves = [v.clone().requires_grad_() for v in (x, w, b)]
    y = F.layer_norm(leaves[0], (40,), leaves[1], leaves[2])
    gradients = torch.autograd.grad(y.float().sum(), leaves)
    assert [v.dtype for v in (y, *gradients)] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert F.layer_norm(x, (40,), w, b).dtype == torch.bfloat16


def errors(function):
    found = []

    def attempt():
        with pytest.raises((RuntimeError, ValueError)) as caught:
            function()
        found.append(str(caught.value))

    attempt()
    with torch_alone():
        attempt()
    return found


@pytest.mark.parametrize("name", ["rms_norm", "layer_norm"])
def test_errors_are_torchs(name):
    x = torch.randn(3, 8)
    norm = getattr(F, name)
    for attempt in (
        lambda: norm(torch.arange(24).view(3, 8), (8,)),
        lambda: norm(x, (7,)),
        lambda: norm(x, (8,), torch.ones(7)),
        lambda: norm(x, ()),
        lambda: norm(torch.tensor(1.0), (1,)),
        lambda: torch.ops.aten.native_layer_norm(x, (7,), None, None, 1e-5),
        lambda: torch.ops.aten.native_layer_norm(x.double(), (8,), torch.ones(8), None, 1e-5),
    ):
        ours, own = errors(attempt)
        assert ours == own or (OLD_TORCH and ours == "a function of torch failed; its message stands above")


def test_saved_tensors_are_guarded_and_recomputed():
    x, w = torch.randn(4, 8, requires_grad=True), torch.randn(8, requires_grad=True)
    for norm in (lambda x: F.rms_norm(x, (8,), w), lambda x: F.layer_norm(x, (8,), w)):
        leaf = x * 1
        y = norm(leaf)
        leaf.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()
        y = norm(x)
        expected = torch.autograd.grad(y.tanh().sum(), (x, w))
        again = checkpoint(norm, x, use_reentrant=False)
        for got, own in zip(torch.autograd.grad(again.tanh().sum(), (x, w)), expected, strict=True):
            assert_same(got, own)


def test_only_some_gradients():
    x, w, b = torch.randn(4, 8), torch.randn(8), torch.randn(8)
    dy = torch.randn(4, 8)
    for norm, vectors in (
        (lambda v: F.rms_norm(v[0], (8,), v[1]), (x, w)),
        (lambda v: F.layer_norm(v[0], (8,), v[1], v[2]), (x, w, b)),
    ):
        leaves = [v.clone().requires_grad_() for v in vectors]
        every = torch.autograd.grad(norm(leaves), leaves, dy)
        for i in range(len(vectors)):
            leaves = [v.clone().requires_grad_(k == i) for k, v in enumerate(vectors)]
            (one,) = torch.autograd.grad(norm(leaves), leaves[i], dy)
            assert_same(one, every[i])


def test_meta_and_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    meta = F.rms_norm(torch.empty(2, 8, device="meta"), (8,))
    assert meta.device.type == "meta" and meta.shape == (2, 8)
    with FakeTensorMode():
        x = torch.empty(2, 8, requires_grad=True)
        for norm in (F.rms_norm, F.layer_norm):
            y = norm(x, (8,))
            assert type(y).__name__ == "FakeTensor" and y.shape == (2, 8) and y.device.type == "cpu"
            (dx,) = torch.autograd.grad(y.sum(), x)
            assert dx.shape == (2, 8)


def test_inference_mode():
    x, w = torch.randn(4, 8), torch.randn(8)
    with torch.inference_mode():
        y, z = F.rms_norm(x, (8,), w, 1e-6), F.layer_norm(x, (8,), w)
        odd = F.rms_norm(x, (8,), w, -1e-6)
    assert y.is_inference() and z.is_inference() and odd.is_inference()
    assert_same(y.clone(), F.rms_norm(x, (8,), w, 1e-6))
    assert_same(z.clone(), F.layer_norm(x, (8,), w))
