"""Under enable(): the bits of isonorm's own functions, gradients and statistics that both libraries can use."""

import math

import pytest

torch = pytest.importorskip("torch")
ml_dtypes = pytest.importorskip("ml_dtypes")
import isonorm  # noqa: E402
import isonorm.torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from torch_support import roundings  # noqa: E402, I001

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
INTS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def to_numpy(tensor):
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def to_torch(array):
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(array)


def assert_same(got, expected):
    """Equal to the bit, in shape and in type; NaN is not let through by chance."""
    assert got.dtype == expected.dtype and got.shape == expected.shape
    size = INTS[got.element_size()]
    assert torch.equal(got.detach().contiguous().view(size), expected.detach().contiguous().view(size))


@pytest.fixture(autouse=True)
def _enabled():
    with isonorm.torch.enabled():
        yield


def own_norm(function, x, weight, bias, eps, ndim):
    """forward and backward by NumPy's face, on [rows, cols]."""
    lead = x.shape[: x.dim() - ndim]
    cols = math.prod(x.shape[x.dim() - ndim :])
    flat = [to_numpy(x.reshape(-1, cols)), *(None if v is None else to_numpy(v.reshape(-1)) for v in (weight, bias))]
    y, rstd = function(*flat, eps=eps, return_rstd=True)
    return to_torch(y).reshape(x.shape), to_torch(rstd).reshape(lead + (1,) * ndim), flat


def own_backward(function, dy, flat, eps, shapes):
    gradients = function(to_numpy(dy.reshape(flat[0].shape)), *flat, eps=eps)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    return [to_torch(g).reshape(shape) for g, shape in zip((g for g in gradients if g is not None), shapes)]


LAYOUTS = {
    "compact": lambda n: torch.randn(5, 7, n),
    "one row": lambda n: torch.randn(n),
    "one row of a batch": lambda n: torch.randn(1, n),
    "strided rows": lambda n: torch.randn(6, 2 * n)[::2, :n],
    "heads": lambda n: torch.randn(2, 5, 3, n).transpose(1, 2),
    "columns": lambda n: torch.randn(n, 9).t(),
    "every other value": lambda n: torch.randn(4, 2 * n)[:, ::2],
    "expanded rows": lambda n: torch.randn(1, n).expand(4, n),
    "expanded values": lambda n: torch.randn(4, 1).expand(4, n),
    "offset": lambda n: torch.randn(3 * n + 1)[1:].view(3, n),
    "nine dimensions": lambda n: torch.randn(1, 2, 1, 2, 1, 1, 2, 1, n),
    "nine dimensions, strided": lambda n: torch.randn(2, 1, 2, 1, 2, 1, 1, 3, n).transpose(0, 4),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cols", [1, 8, 77])
def test_rms_norm(dtype, layout, cols):
    torch.manual_seed(cols)
    x = LAYOUTS[layout](cols).to(dtype)
    for weight in (None, torch.randn(cols).to(dtype), torch.randn(2 * cols).to(dtype)[::2]):
        leaf, vector = x.detach().requires_grad_(), None if weight is None else weight.detach().requires_grad_()
        y = F.rms_norm(leaf, (cols,), vector, 1e-5)
        assert y.is_contiguous()
        expected, rstd, flat = own_norm(isonorm.rms_norm, x, weight, None, 1e-5, 1)
        assert_same(y, expected)
        assert_same(y, isonorm.torch.rms_norm(x, weight, eps=1e-5))
        assert_same(torch.ops.aten._fused_rms_norm(x, (cols,), weight, 1e-5)[1], rstd)
        dy = torch.randn(x.shape).to(dtype)
        leaves = [leaf] if vector is None else [leaf, vector]
        for got, own in zip(
            torch.autograd.grad(y, leaves, dy),
            own_backward(isonorm.rms_norm_backward, dy, flat[:2], 1e-5, [v.shape for v in leaves]),
            strict=True,
        ):
            assert_same(got, own)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layer_norm(dtype, layout, cols=19):
    torch.manual_seed(cols)
    x = LAYOUTS[layout](cols).to(dtype)
    types = [dtype, torch.float32] if x.element_size() == 2 else [dtype]
    for parameter in types:
        for weight, bias in ((True, True), (True, False), (False, True), (False, False)):
            vectors = [torch.randn(cols).to(parameter) if there else None for there in (weight, bias)]
            y, mean, rstd = torch.native_layer_norm(x, (cols,), *vectors, 1e-5)
            expected, own_rstd, flat = own_norm(isonorm.layer_norm, x, *vectors, 1e-5, 1)
            assert_same(y, expected)
            statistics = parameter if weight or bias else dtype
            assert rstd.dtype == mean.dtype == statistics
            assert_same(rstd, own_rstd.to(statistics))
            if statistics in (torch.float32, torch.float64):  # saved as they were computed: the bits of our own backward
                leaves = [v.detach().requires_grad_() for v in (x, *vectors) if v is not None]
                y = F.layer_norm(leaves[0], (cols,), leaves[1] if weight else None, leaves[-1] if bias else None, 1e-5)
                dy = torch.randn(x.shape).to(dtype)
                own = own_backward(isonorm.layer_norm_backward, dy, flat, 1e-5, [v.shape for v in leaves])
                for got, wanted in zip(torch.autograd.grad(y, leaves, dy), own, strict=True):
                    assert_same(got, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_several_axes(dtype):
    x = torch.randn(4, 3, 5, 2).to(dtype)
    for view in (x, x.transpose(0, 1), x[:, :, 1:3], x.transpose(2, 3)):
        shape = tuple(view.shape[1:])
        weight, bias = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
        leaf, vector = view.detach().requires_grad_(), weight.detach().requires_grad_()
        y = F.rms_norm(leaf, shape, vector, 1e-3)
        expected, rstd, flat = own_norm(isonorm.rms_norm, view, weight, None, 1e-3, 3)
        assert_same(y, expected)
        assert_same(torch.ops.aten._fused_rms_norm(view, shape, weight, 1e-3)[1], rstd)
        dy = torch.randn(view.shape).to(dtype)
        own = own_backward(isonorm.rms_norm_backward, dy, flat[:2], 1e-3, [view.shape, shape])
        for got, wanted in zip(torch.autograd.grad(y, [leaf, vector], dy), own, strict=True):
            assert_same(got, wanted)
        assert_same(F.layer_norm(view, shape, weight, bias, 1e-3), own_norm(isonorm.layer_norm, view, weight, bias, 1e-3, 3)[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_eps_is_the_machine_epsilon_of_the_compute_type(dtype):
    x = (1e-4 * torch.randn(3, 16)).to(dtype)
    eps = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    assert_same(F.rms_norm(x, (16,)), own_norm(isonorm.rms_norm, x, None, None, eps, 1)[0])
    assert_same(torch.nn.RMSNorm(16, dtype=dtype)(x), own_norm(isonorm.rms_norm, x, None, None, eps, 1)[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(0, 8), (3, 0, 8), (0,), (3, 0)])
def test_nothing_to_compute(dtype, shape):
    cols = shape[-1]

    def both():
        out = []
        for norm in (lambda *v: F.rms_norm(v[0], (cols,), v[1]), lambda *v: F.layer_norm(v[0], (cols,), v[1], v[2])):
            leaves = [torch.empty(size, dtype=dtype).fill_(1).requires_grad_() for size in (shape, (cols,), (cols,))]
            y = norm(*leaves)
            out += [y, *(g for g in torch.autograd.grad(y.sum(), leaves, allow_unused=True) if g is not None)]
        return out

    ours = both()
    with torch_alone():
        torchs = both()
    for got, own in zip(ours, torchs, strict=True):
        assert_same(got, own)


class torch_alone:
    """Torch's kernels within a block of enabled()."""

    def __enter__(self):
        self.before = dict(isonorm.torch.override._blocks)
        isonorm.torch.override._blocks.update(rms_norm=0, layer_norm=0)
        isonorm.torch.disable()

    def __exit__(self, *error):
        isonorm.torch.override._blocks.update(self.before)
        isonorm.torch.override._apply()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_statistics_are_torchs(dtype):
    x, weight, bias = (torch.randn(size).to(dtype) for size in ((2, 3, 5, 4), (5, 4), (5, 4)))
    ours = torch.ops.aten._fused_rms_norm(x, (5, 4), weight, 1e-6), torch.native_layer_norm(x, (5, 4), weight, bias, 1e-6)
    with torch_alone():
        own = torch.ops.aten._fused_rms_norm(x, (5, 4), weight, 1e-6), torch.native_layer_norm(x, (5, 4), weight, bias, 1e-6)
    for got, wanted in zip((*ours[0], *ours[1]), (*own[0], *own[1]), strict=True):
        assert got.dtype == wanted.dtype and got.shape == wanted.shape and got.stride() == wanted.stride()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_graphs_outlive_the_switch(dtype):
    # Rows of +2 and -2: mean 0 and deviation 2, so that with eps 0 both libraries have the same statistics to the bit.
    signs = torch.randint(0, 2, (6, 16)).to(torch.float64)
    signs[:, 8:] = 1 - signs[:, :8]
    x = (4 * signs - 2).to(dtype).requires_grad_()
    weight, bias = (torch.randn(16).to(dtype).requires_grad_() for _ in range(2))
    dy = torch.randn(6, 16).to(dtype)

    def layer():
        return F.layer_norm(x, (16,), weight, bias, 0.0)

    def gradients(y):
        return torch.autograd.grad(y, [x, weight, bias], dy)

    y = layer()
    rms = F.rms_norm(x, (16,), weight, 0.0)
    expected_rms = torch.autograd.grad(rms, [x, weight], dy, retain_graph=True)
    ours = gradients(layer())
    with torch_alone():
        from_ours = gradients(y)  # torch's backward of our statistics
        torchs = gradients(layer())
        y = layer()
        for got, wanted in zip(torch.autograd.grad(rms, [x, weight], dy), expected_rms, strict=True):
            assert_same(got, wanted)
    from_torchs = gradients(y)  # our backward of torch's statistics
    for pair in (*zip(from_ours, torchs, strict=True), *zip(from_torchs, ours, strict=True)):
        assert_same(*pair)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gradients_of_rounded_statistics_are_as_accurate_as_torchs(dtype):
    torch.manual_seed(0)
    x, weight, bias, dy = (torch.randn(size).to(dtype) for size in ((64, 256), (256,), (256,), (64, 256)))
    x = x + 3  # whose rounding our backward takes away again

    def gradients(*leaves):
        leaves = [v.requires_grad_() for v in leaves]
        return torch.autograd.grad(F.layer_norm(leaves[0], (256,), leaves[1], leaves[2], 1e-5), leaves, dy.to(leaves[0].dtype))

    exact = gradients(*(v.double() for v in (x, weight, bias)))
    ours = gradients(*(v.clone() for v in (x, weight, bias)))
    with torch_alone():
        torchs = gradients(*(v.clone() for v in (x, weight, bias)))
    for got, own, truth in zip(ours, torchs, exact, strict=True):
        assert (got.double() - truth).square().sum() <= (own.double() - truth).square().sum()


def test_gradients_of_tiny_rows_with_a_tiny_eps():
    # 1 / sqrt(mean + eps) is above 2**47, so that the C ABI would want eps again, which backward does not have.
    eps = 1e-32
    x = (1e-17 * torch.randn(4, 8)).requires_grad_()
    dy = torch.randn(4, 8)
    (got,) = torch.autograd.grad(F.rms_norm(x, (8,), eps=eps), x, dy)
    double = x.detach().double().requires_grad_()
    with torch_alone():
        (truth,) = torch.autograd.grad(F.rms_norm(double, (8,), eps=eps), double, dy.double())
    wrong = isonorm.rms_norm_backward(dy.numpy(), x.detach().numpy(), eps=0.0)
    error = lambda value: (torch.as_tensor(value).double() - truth).abs().max() / truth.abs().max()  # noqa: E731
    assert error(got) <= roundings(8, 1, 2.0**-23)
    assert error(wrong) > 0.01


def test_gradients_of_a_constant_row_with_an_extreme_mean():
    # The C ABI would compute the statistics again, for which it lacks eps: without it the deviation of this row is 0.
    x = torch.full((3, 8), 2.0**100).requires_grad_()
    dy = torch.randn(3, 8)

    double = x.detach().double().requires_grad_()
    (got,) = torch.autograd.grad(F.layer_norm(x, (8,), eps=0.25), x, dy)
    with torch_alone():
        (truth,) = torch.autograd.grad(F.layer_norm(double, (8,), eps=0.25), double, dy.double())
    assert (got.double() - truth).abs().max() <= 2 * torch.finfo(torch.float32).eps * truth.abs().max()


def test_any_number_of_threads_gives_the_same_bits():
    x, weight = torch.randn(300, 1025, requires_grad=True), torch.randn(1025, requires_grad=True)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = F.rms_norm(x, (1025,), weight)
            results.append((y, *torch.autograd.grad(y.square().sum(), (x, weight))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for got, wanted in zip(other, results[0], strict=True):
            assert_same(got, wanted)
