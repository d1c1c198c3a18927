"""What is public: documented with an example, shapes and errors; without a default for eps; with types; with one logger."""

import ast
import inspect
import json
import logging
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import isonorm
import isonorm.jax
import isonorm.jax.linen
import isonorm.jax.nnx
import isonorm.keras
import isonorm.tensorflow
import isonorm.torch
import isonorm.torch.parallel
import isonorm.transformers
from isonorm import _native, checkpoint, parallel

torch = pytest.importorskip("torch")
MODULES = (
    *(isonorm, checkpoint, isonorm.contracts, parallel, isonorm.torch, isonorm.torch.parallel),
    *(isonorm.jax, isonorm.jax.nnx, isonorm.jax.linen, isonorm.tensorflow, isonorm.keras, isonorm.transformers),
)
# Those that take no array, and those that take no argument.
NO_SHAPES = {"compare", "digest", "stats", "write_report"}  # of any array: what they take is named in words
NO_ERRORS = {"get_num_threads", "kernels", "last_kernel", "max_ranks", "names", "target", "targets", "Report", "Row"}


def public(module):
    for name in getattr(module, "__all__", None) or vars(module):
        value = getattr(module, name)
        own = getattr(value, "__module__", "").startswith("isonorm")
        if callable(value) and own and (hasattr(module, "__all__") or value.__module__ == module.__name__):
            if not name.startswith("_"):
                yield name, value


ALL = {f"{module.__name__}.{name}": value for module in MODULES for name, value in public(module)}


def takes_arrays(value):
    texts = [str(p.annotation) for p in inspect.signature(value).parameters.values()]
    if inspect.isclass(value) and issubclass(value, torch.nn.Module):
        return True
    return any("ndarray" in text or "Tensor" in text or "Array" in text for text in texts)


def test_there_is_something_to_look_at():
    assert len(ALL) > 50 and {"isonorm.rms_norm", "isonorm.torch.QKNormRope", "isonorm.parallel.Forward"} <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_docstrings(name):
    text, short = ALL[name].__doc__, name.rpartition(".")[2]
    assert text and ">>> " in text  # which the test python.doctests runs
    if takes_arrays(ALL[name]) and short not in NO_SHAPES:
        assert re.search(r"\[(\.\.\.|\w+)[\w ,./]*\]|normalized_shape\]", text), "no shape"
    if short not in NO_ERRORS:
        assert re.search(r"[Rr]aises|Error|[Ee]rrors|rest as in RMSNorm", text), "no word of errors"


@pytest.mark.parametrize("module", [isonorm, isonorm.torch, isonorm.jax, isonorm.tensorflow], ids=lambda module: module.__name__)
def test_sources(module):
    """Of formulas: papers, the code that they are from, or the document that derives them."""
    for name, source in {
        "rms_norm": "Zhang and Sennrich 2019",
        "layer_norm": "Ba, Kiros and Hinton 2016",
        "layer_norm_backward": "Ba, Kiros and|torch",
        "double_backward": "docs/numerics.md",
        "Rope": "Su et al. 2021",
        "qk_norm": "Qwen3",
    }.items():
        if module in (isonorm.jax, isonorm.tensorflow) and "backward" in name:
            continue  # jax.grad and tf.GradientTape have them
        assert re.search(source, re.sub(r"\s+", " ", getattr(module, name).__doc__)), name


def test_only_reports_have_a_default_for_eps():
    """Of functions. Modules are drop-ins, with the defaults of what they stand for."""
    given = {name: inspect.signature(value).parameters.get("eps") for name, value in ALL.items()}
    there = {name: p for name, p in given.items() if p is not None and not inspect.isclass(ALL[name])}
    reports = {"isonorm.stats", "isonorm.compare", "isonorm.write_report", "isonorm.torch.watch"}
    assert {name for name, p in there.items() if p.default is not inspect.Parameter.empty} == reports
    assert all(there[name].default == 1e-6 for name in reports - {"isonorm.torch.watch"})
    assert len(there) > 15 and all(p.kind == p.KEYWORD_ONLY for p in there.values())


@pytest.mark.parametrize("name", ALL)
def test_every_argument_has_a_type(name):
    function = ALL[name].__init__ if inspect.isclass(ALL[name]) else ALL[name]
    if function.__module__.startswith("keras."):
        return  # a constructor that is Keras' own
    signature = inspect.signature(function)
    for p in list(signature.parameters.values())[inspect.isclass(ALL[name]) :]:
        assert p.annotation is not p.empty, p
    assert inspect.isclass(ALL[name]) or signature.return_annotation is not signature.empty


def test_types_of_what_is_compiled():
    folder = pathlib.Path(isonorm.__file__).parent
    assert (folder / "py.typed").exists()
    tree = ast.parse((folder / "_native.pyi").read_text(encoding="utf-8"))
    typed = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    there = {name for name, value in vars(_native).items() if callable(value) and not name.startswith("_")}
    assert set(typed) == there and len(there) > 15
    for function in typed.values():
        assert function.returns is not None and all(a.annotation is not None for a in function.args.args), function.name


def loggers():
    return [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "isonorm"]


def test_one_logger(caplog):
    assert loggers() == ["isonorm"]
    (handler,) = logging.getLogger("isonorm").handlers
    assert isinstance(handler, logging.NullHandler) and logging.getLogger("isonorm").level == logging.NOTSET
    with caplog.at_level(logging.INFO, logger="isonorm"):
        with isonorm.torch.enabled():
            pass
        model = torch.nn.Sequential(torch.nn.RMSNorm(4))
        isonorm.transformers.patch(model)
        isonorm.transformers.unpatch(model)
    assert {record.name for record in caplog.records} == {"isonorm"}
    text = "\n".join(record.getMessage() for record in caplog.records)
    for words in (
        "aten::_fused_rms_norm of CPU tensors is isonorm's now",
        "aten::_fused_rms_norm of CPU tensors is torch's now",
        "1 swapped, 0 skipped",
        "unpatch: 1 modules",
    ):
        assert words in text
    assert loggers() == ["isonorm"]


def test_nothing_is_said_without_a_handler():
    script = """
import torch, isonorm.torch, isonorm.transformers
with isonorm.torch.enabled():
    isonorm.transformers.patch(torch.nn.Sequential(torch.nn.RMSNorm(4)))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_faces_are_loaded_when_they_are_imported():
    script = """
import json, sys
import isonorm
faces = [f"isonorm.{name}" for name in ("torch", "jax", "tensorflow", "keras", "transformers")]
faces += ["torch", "jax", "tensorflow", "keras", "ml_dtypes"]
print(json.dumps(sorted(name for name in sys.modules if name in faces)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_version_is_the_headers():
    source = pathlib.Path(__file__).parents[3] / "include/isonorm/isonorm.h"
    numbers = re.findall(r"#define ISONORM_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", source.read_text(encoding="utf-8"))
    assert isonorm.__version__ == ".".join(numbers) and len(numbers) == 3


def test_where_float64_meets_other_types():
    """The rule: a weight or bias is rounded to float32, and so are its gradients; into, where nothing is cast, names both."""
    x, dy, weight = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32), np.ones(3)
    assert [g.dtype for g in isonorm.rms_norm_backward(dy, x, weight, weight, eps=1e-6)] == [np.float32] * 3
    with pytest.raises(TypeError, match="weight is f64, but where x is f32 every tensor must be f32"):
        isonorm.into(np.empty_like(x), x, weight, eps=1e-6)
    x, weight = torch.randn(2, 3), torch.randn(3, dtype=torch.float64)
    assert torch.equal(isonorm.torch.rms_norm(x, weight, eps=1e-6), isonorm.torch.rms_norm(x, weight.float(), eps=1e-6))
    x, weight = x.double(), weight.float()
    assert torch.equal(isonorm.torch.rms_norm(x, weight, eps=1e-6), isonorm.torch.rms_norm(x, weight.double(), eps=1e-6))
