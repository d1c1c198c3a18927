"""RMSNorm and LayerNorm are drop-ins for torch.nn's."""

from __future__ import annotations

import copy
import io
import itertools
import pickle

import pytest
import torch
from module_support import FLOATS, HALVES, array, power_rows, same, tensor, ulps
from torch.nn.utils import prune

import isonorm
import isonorm.torch

PAIRS = [(isonorm.torch.RMSNorm, torch.nn.RMSNorm), (isonorm.torch.LayerNorm, torch.nn.LayerNorm)]


def randomise(module):
    torch.manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.normal_()
    return module


def expected(module, x):
    """What isonorm computes from NumPy."""
    axes = tuple(range(-len(module.normalized_shape), 0))
    bias = getattr(module, "bias", None)
    function = isonorm.layer_norm if isinstance(module, torch.nn.LayerNorm) else isonorm.rms_norm
    eps = module.eps
    if eps is None:
        eps = torch.finfo(torch.float64 if x.dtype == torch.float64 else torch.float32).eps
    weight, bias = (None if p is None else array(p) for p in (module.weight, bias))
    return tensor(function(array(x), weight, bias, eps=eps, contract=module.contract, axis=axes))


@pytest.mark.parametrize("ours, theirs", PAIRS)
@pytest.mark.parametrize(
    "args, options",
    [
        ((7,), {}),
        (([3, 5],), {}),
        ((torch.Size([3, 5]), 1e-3), {}),
        ((7, 1e-4, False), {}),
        ((7,), {"elementwise_affine": False}),
        ((7,), {"dtype": torch.bfloat16, "device": "cpu"}),
        ((7,), {"eps": 0.5}),
        ((7,), {"device": "meta"}),
    ],
)
def test_same_constructor_repr_and_state(ours, theirs, args, options):
    a, b = ours(*args, **options), theirs(*args, **options)
    assert repr(a) == repr(b)
    assert (a.normalized_shape, a.eps, a.elementwise_affine) == (b.normalized_shape, b.eps, b.elementwise_affine)
    assert set(b.__constants__) <= set(a.__constants__) and isinstance(a, theirs)
    left, right = a.state_dict(), b.state_dict()
    assert list(left) == list(right)
    for key in left:
        assert left[key].dtype == right[key].dtype and left[key].device == right[key].device
        assert left[key].is_meta or same(left[key], right[key])
    if "device" not in options:
        a.load_state_dict(randomise(b).state_dict(), strict=True)
        assert all(same(a.state_dict()[key], b.state_dict()[key]) for key in left)
        b.load_state_dict(randomise(a).state_dict(), strict=True)
        a.reset_parameters()
        assert all(same(a.state_dict()[key], theirs(*args, **options).state_dict()[key]) for key in left)


def test_layer_norm_without_bias_and_positional_arguments():
    a, b = (cls(6, 1e-3, True, False, "cpu", torch.float16) for cls in PAIRS[1])
    assert repr(a) == repr(b) and list(a.state_dict()) == ["weight"] and a.bias is None
    x = torch.randn(3, 6).half()
    assert same(randomise(a)(x), expected(a, x))


@pytest.mark.parametrize("ours, theirs", PAIRS)
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("x_dtype, dtype", [*itertools.product(FLOATS, FLOATS), (torch.float64, torch.float64)])
def test_values_are_isonorms_and_types_are_torchs(ours, theirs, shape, x_dtype, dtype):
    module = randomise(ours(shape, dtype=dtype))
    x = torch.randn(2, 3, *shape).to(x_dtype)
    y = module(x)
    assert y.dtype == x_dtype and same(y, expected(module, x))
    assert same(module(x[0, 1]), y[0, 1])
    assert module(x[:0]).shape == (0, 3, *shape)
    wide = torch.randn(2, 3, *shape, 2).to(x_dtype)[..., 0]
    assert same(module(wide), module(wide.contiguous()))
    assert same(module(x[0].expand(4, 3, *shape))[3], y[0])


@pytest.mark.parametrize("dtype", [*FLOATS, torch.float64])
def test_eps_none_is_torchs(dtype):
    a, b = (cls(8, dtype=dtype) for cls in PAIRS[0])
    x = (torch.randn(4, 8, dtype=torch.float64) * 2**-12).to(dtype)
    eps = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    assert same(a(x), isonorm.torch.RMSNorm(8, eps, dtype=dtype)(x))
    if dtype in HALVES:
        assert ulps(a(x), b(x)).max() <= 1
        assert ulps(a(x), torch.nn.RMSNorm(8, torch.finfo(dtype).eps, dtype=dtype)(x)).max() > 1
    assert same(b(x), torch.nn.RMSNorm(8, eps, dtype=dtype)(x))


@pytest.mark.parametrize("dtype", HALVES)
def test_torchs_own_bits_where_all_is_exact_and_one_ulp_elsewhere(dtype):
    a, b = (randomise(cls(64, eps=0.0, dtype=dtype)) for cls in PAIRS[0])
    x = power_rows(20, 64).to(dtype)
    assert same(a(x), b(x))
    x = torch.randn(64, 64).to(dtype)
    assert ulps(a(x), b(x)).max() <= 1


def test_attributes_take_effect_when_written():
    x = torch.randn(4, 8)
    module = isonorm.torch.RMSNorm(8)
    before = module(x)
    module.eps = 1.0
    assert same(module(x), isonorm.torch.RMSNorm(8, 1.0)(x)) and not same(module(x), before)
    module.weight = torch.nn.Parameter(torch.full((8,), 2.0))
    assert same(module(x), 2 * isonorm.torch.RMSNorm(8, 1.0)(x))
    module.contract = "gemma"
    assert same(module(x), 3 * isonorm.torch.RMSNorm(8, 1.0)(x))


def test_contracts():
    module = isonorm.torch.RMSNorm(8, contract="gemma")
    assert repr(module) == "RMSNorm((8,), eps=None, elementwise_affine=True, contract='gemma')"
    assert module.weight.tolist() == [0.0] * 8
    x = torch.randn(32, 8).bfloat16()
    weight = torch.randn(8).bfloat16()
    results = []
    for contract in ("torch", "llama", "gemma", "paper"):
        module = isonorm.torch.RMSNorm(8, 1e-2, dtype=torch.bfloat16, contract=contract)
        module.weight.data.copy_(weight)
        results.append(module(x))
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(results, 2))
    assert isonorm.torch.RMSNorm(8, contract=isonorm.contracts.llama).contract is isonorm.contracts.llama
    with pytest.raises(ValueError, match="contract 'layer_norm' does not belong to RMSNorm: use LayerNorm"):
        isonorm.torch.RMSNorm(8, contract="layer_norm")
    with pytest.raises(ValueError, match="contract 'llama' does not belong to LayerNorm: use RMSNorm"):
        isonorm.torch.LayerNorm(8, contract="llama")
    with pytest.raises(ValueError, match="contract 'mamba2' has a gate: use GatedRMSNorm"):
        isonorm.torch.RMSNorm(8, contract="mamba2")
    with pytest.raises(ValueError, match="did you mean 'llama'"):
        isonorm.torch.RMSNorm(8, contract="lama")
    with pytest.raises(TypeError):
        isonorm.torch.RMSNorm(8, None, True, None, None, "llama")


@pytest.mark.parametrize("ours, theirs", PAIRS)
def test_copies_pickles_and_conversions(ours, theirs):
    module = randomise(ours(8, 1e-3))
    x = torch.randn(4, 8)
    y = module(x)
    other = copy.deepcopy(module)
    assert other.weight is not module.weight and same(other(x), y)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert same(pickle.loads(pickle.dumps(module, protocol))(x), y)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    assert same(torch.load(file, weights_only=False)(x), y)
    for dtype in (*HALVES, torch.float64):
        moved = copy.deepcopy(module).to(dtype)
        assert moved.weight.dtype == dtype and moved(x.to(dtype)).dtype == dtype
        assert same(moved(x.to(dtype)), expected(moved, x.to(dtype)))
    assert copy.deepcopy(module).half().weight.dtype == torch.float16
    shared = module.share_memory()
    assert same(shared(x), y)


@pytest.mark.parametrize("ours, theirs", PAIRS)
def test_meta_then_real(ours, theirs):
    module = ours(8, device="meta")
    y = module(torch.empty(2, 8, device="meta", dtype=torch.float32))
    assert y.is_meta and y.shape == (2, 8)
    module.to_empty(device="cpu")
    module.reset_parameters()
    x = torch.randn(2, 8)
    assert same(module(x), ours(8)(x))
    assigned = ours(8, device="meta")
    assigned.load_state_dict(randomise(theirs(8)).state_dict(), assign=True)
    assert same(assigned(x), expected(assigned, x))
    with torch.device("meta"):
        assert ours(8).weight.is_meta


def elsewhere(module, x):
    """x and the module on a device that isonorm does not compute on, and torch only creates tensors of."""
    create = torch._C._acc.create_empty_tensor
    moved = copy.deepcopy(module)
    for name, p in module.named_parameters():
        moved.register_parameter(name, torch.nn.Parameter(create(p.shape, p.dtype), requires_grad=False))
    return moved, create(x.shape, x.dtype)


@pytest.mark.parametrize("name", ["RMSNorm", "LayerNorm", "LlamaRMSNorm", "T5RMSNorm", "GemmaRMSNorm", "PartialRMSNorm"])
def test_other_devices_are_named(name):
    module, x = getattr(isonorm.torch, name)(16), torch.randn(2, 16)
    moved, far = elsewhere(module, x)
    with pytest.raises(RuntimeError, match="x is on privateuseone:0, but isonorm computes on the CPU"):
        moved(far)
    with pytest.raises(RuntimeError, match="weight is on privateuseone:0"):
        moved(x)
    with pytest.raises(RuntimeError, match="weight is on meta"):
        copy.deepcopy(module).to("meta")(x)


@pytest.mark.parametrize("ours, theirs", PAIRS)
@pytest.mark.parametrize("x", [3, [[1.0] * 8], "x"])
def test_what_is_no_tensor_is_a_type_error(ours, theirs, x):
    with pytest.raises(TypeError, match="x is a "):
        ours(8)(x)


def test_a_float64_beside_other_types():
    x = torch.randn(3, 8)
    module = randomise(isonorm.torch.RMSNorm(8, 1e-6))
    y = module(x.double())
    assert y.dtype == torch.float64 and same(y, copy.deepcopy(module).double()(x.double()))
    for dtype in FLOATS:
        y = copy.deepcopy(module).double()(x.to(dtype))
        assert y.dtype == dtype and same(y, module(x.to(dtype)))


def test_weights_that_are_no_parameters():
    x = torch.randn(3, 8)
    module = randomise(isonorm.torch.RMSNorm(8))
    weight = module.weight.detach().clone()
    changed = torch.func.functional_call(module, {"weight": weight * 2}, (x,))
    assert same(changed, module(x) * 2)
    torch.nn.utils.parametrize.register_parametrization(module, "weight", torch.nn.Softplus())
    plain = isonorm.torch.RMSNorm(8)
    plain.weight.data.copy_(torch.nn.functional.softplus(weight))
    assert same(module(x), plain(x))
    pruned = randomise(isonorm.torch.LayerNorm(8))
    prune.l1_unstructured(pruned, "weight", 3)
    assert (pruned(x) - pruned.bias == 0).sum() >= 3 * 3
    del plain._parameters["weight"]
    plain.weight = weight  # as FSDP puts a view in the parameter's place
    assert same(plain(x), isonorm.torch.rms_norm(x, weight, eps=torch.finfo(torch.float32).eps))


@pytest.mark.parametrize("ours, theirs", PAIRS)
def test_script_is_refused_by_name(ours, theirs):
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), ours(8))
    with pytest.raises(
        RuntimeError, match=f"torch.jit.script does not compile isonorm.torch.{ours.__name__}: use torch.compile"
    ):
        torch.jit.script(model)


@pytest.mark.parametrize("ours, theirs", PAIRS)
def test_wrong_shapes(ours, theirs):
    for module, shape in ((ours(8), (2, 7)), (ours((3, 5)), (2, 5, 3)), (ours((3, 5)), (5,)), (ours(8), ())):
        with pytest.raises((ValueError, RuntimeError)):
            module(torch.randn(shape))
