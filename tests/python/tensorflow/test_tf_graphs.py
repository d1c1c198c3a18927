"""Graphs: what is known of sizes, SavedModels, memory that is used again, threads, and XLA, which has no kernel."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import BF16, F32, random
from face_support import same

import isonorm
import isonorm.tensorflow as itf

X, R, W = random((6, 16)), random((6, 16), seed=1), random(16, seed=2)
EPS = 1e-5


def test_what_is_known_of_sizes():
    graph = tf.Graph()
    with graph.as_default():
        for shape in (None, [None, 16], [None, None, None], [2, 3, 16]):
            x = tf.compat.v1.placeholder(tf.float32, shape)
            r = tf.compat.v1.placeholder(tf.bfloat16, shape)
            y, total, mean, rstd = itf.layer_norm(x, eps=EPS, residual=r, groups=2, return_mean=True, return_rstd=True)
            assert total.dtype == tf.bfloat16 and all(repr(t.shape) == repr(x.shape) for t in (y, total))
            expected = tf.TensorShape(None) if shape is None else x.shape[:-1].concatenate(2)
            assert repr(mean.shape) == repr(rstd.shape) == repr(expected)
            dx, dr = tf.gradients(y, (x, r))
            assert repr(dx.shape) == repr(dr.shape) == repr(x.shape)
        y = itf.rms_norm(tf.compat.v1.placeholder(tf.float32, [None, 4, 5]), eps=EPS, axis=(0, 1))
        assert y.shape.as_list() == [None, 4, 5]


def test_graphs_of_the_first_version():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 16])
        y = itf.rms_norm(x, W, eps=EPS)
        found = session.run([y, *tf.gradients(y, x, x)], {x: X})
    assert same(found[0], isonorm.rms_norm(X, W, eps=EPS))
    assert same(found[1], isonorm.rms_norm_backward(X, X, W, eps=EPS, needs=("dx",)))


class Block(tf.Module):
    def __init__(self):
        super().__init__()
        self.norm = itf.RMSNorm(16, eps=EPS, contract="llama")
        self.norm.weight.assign(W)

    @tf.function(input_signature=[tf.TensorSpec([None, 16]), tf.TensorSpec([None, 16])])
    def __call__(self, x, residual):
        y, total = itf.rms_norm(x, self.norm.weight, eps=EPS, contract="llama", residual=residual)
        return y, total

    @tf.function(input_signature=[tf.TensorSpec([None, 16]), tf.TensorSpec([None, 16])])
    def step(self, x, dy):
        with tf.GradientTape() as tape:
            y = self.norm(x)
        return tape.gradient(y, self.norm.weight, dy)


LOADED = """
import sys
import numpy as np, tensorflow as tf
if sys.argv[3] == "imported":
    import isonorm.tensorflow
arrays = np.load(sys.argv[2])
block = tf.saved_model.load(sys.argv[1])
with tf.GradientTape() as tape:
    x = tf.constant(arrays["x"])
    tape.watch(x)
    y, total = block(x, arrays["r"])
found = {"y": y, "total": total, "dx": tape.gradient(y, x, arrays["r"]), "dweight": block.step(arrays["x"], arrays["r"])}
np.savez(sys.argv[2] + ".found.npz", **{name: t.numpy() for name, t in found.items()})
"""


def test_saved_models(tmp_path):
    """Where they are loaded nothing of the program that saved them is needed, but the import: that also brings the gradients."""
    tf.saved_model.save(Block(), tmp_path / "block")
    np.savez(tmp_path / "arrays.npz", x=X, r=R)
    command = [sys.executable, "-c", LOADED, str(tmp_path / "block"), str(tmp_path / "arrays.npz")]
    subprocess.run([*command, "imported"], check=True, capture_output=True)
    found = np.load(tmp_path / "arrays.npz.found.npz")
    options = {"eps": EPS, "contract": "llama"}
    y, total = isonorm.rms_norm(X, W, residual=R, **options)
    assert same(found["y"], y) and same(found["total"], total)
    expected = isonorm.rms_norm_backward(R, X, W, residual=R, dresidual=np.zeros_like(X), **options)
    assert same(found["dx"], expected.dx)
    assert same(found["dweight"], isonorm.rms_norm_backward(R, X, W, **options).dweight)
    done = subprocess.run([*command, "not"], check=False, capture_output=True, text=True)
    assert done.returncode == 1 and "Op type not registered 'Isonorm" in done.stderr


def test_memory_is_used_again_only_where_nobody_needs_it():
    """A sum that nothing else reads is written over; what a user, a variable or another operation holds never."""
    x, weight = tf.constant(X), tf.constant(W)
    expected, doubled = isonorm.rms_norm(X, W, eps=EPS), isonorm.rms_norm(X + X, W, eps=EPS)
    variable = tf.Variable(X)

    @tf.function
    def graph(x):
        shared = x + x
        constant = tf.constant(X)
        ways = itf.rms_norm(x, weight, eps=EPS), itf.rms_norm(variable, weight, eps=EPS), itf.rms_norm(constant, weight, eps=EPS)
        twice = itf.rms_norm(shared, weight, eps=EPS), itf.rms_norm(shared, weight, eps=EPS)
        return *ways, *twice, shared, itf.rms_norm(x + x, weight, eps=EPS), *itf.rms_norm(tf.nn.relu(x), eps=EPS, residual=x * 2)

    @tf.function
    def step(x, r):
        """Whose cotangents nothing else reads."""
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, total = itf.rms_norm(x, weight, eps=EPS, residual=r)
            loss = tf.reduce_sum(y * R) + tf.reduce_sum(total * (R * 2))
        return tape.gradient(loss, x)

    added = isonorm.rms_norm(np.maximum(X, 0), eps=EPS, residual=X * 2)
    pulled = isonorm.rms_norm_backward(R, X, W, eps=EPS, residual=R, dresidual=R * 2, needs=("dx",))
    for _ in range(3):
        assert same(itf.rms_norm(x, weight, eps=EPS), expected) and same(x, X)
        found = graph(x)
        assert all(same(y, expected) for y in found[:3]) and all(same(y, doubled) for y in (*found[3:5], found[6]))
        assert same(found[5], X + X) and all(same(a, b) for a, b in zip(found[7:], added)) and same(x, X) and same(variable, X)
        assert same(step(x, tf.constant(R)), pulled)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = itf.rms_norm(x, weight, eps=EPS)
        dy = tf.constant(R)
        dx = tape.gradient(y, x, dy)
        assert same(dy, R) and same(dx, isonorm.rms_norm_backward(R, X, W, eps=EPS, needs=("dx",)))


def test_slices_as_gradients():
    """tf.gather's gradient is no tensor."""
    x, index = tf.constant(X), tf.constant([1, 4])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.gather(itf.rms_norm(x, W, eps=EPS), index)
    dy = np.zeros_like(X)
    dy[[1, 4]] = R[:2]
    assert same(tape.gradient(y, x, tf.constant(R[:2])), isonorm.rms_norm_backward(dy, X, W, eps=EPS, needs=("dx",)))


def test_loops_and_branches():
    def body(i, x):
        return i + 1, tf.cond(i % 2 == 0, lambda: itf.rms_norm(x, W, eps=EPS), lambda: x * 2)

    @tf.function
    def graph(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.while_loop(lambda i, _: i < 4, body, (0, x))[1]
        return y, tape.gradient(y, x, tf.constant(R))

    y, dx = graph(tf.constant(X))
    first = isonorm.rms_norm(X, W, eps=EPS) * np.float32(2)
    assert same(y, isonorm.rms_norm(first, W, eps=EPS) * np.float32(2))
    inner = isonorm.rms_norm_backward(R * np.float32(2), first, W, eps=EPS, needs=("dx",))
    assert same(dx, isonorm.rms_norm_backward(inner * np.float32(2), X, W, eps=EPS, needs=("dx",)))


def test_jit_compile_is_an_error():
    function = tf.function(lambda x: itf.rms_norm(x, eps=EPS), jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="No registered 'IsonormNorm' OpKernel for XLA_CPU_JIT"):
        function(X)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_many_at_once(dtype):
    """Operations of a graph that TensorFlow runs on several threads, each large enough for several of isonorm's."""
    x, weight = random((512, 1024), dtype), random(1024, dtype, 1)
    expected = isonorm.rms_norm(x, weight, eps=EPS)
    graph = tf.function(lambda x: [itf.rms_norm(x + 0, weight, eps=EPS) for _ in range(8)])
    for _ in range(4):
        assert all(same(y, expected) for y in graph(tf.constant(x)))


THREADS = """
import pathlib
import tensorflow as tf, isonorm.tensorflow
tf.config.threading.set_intra_op_parallelism_threads({threads})
x, before = tf.ones((4096, 1024)), len(list(pathlib.Path("/proc/self/task").iterdir()))
for _ in range(20):
    isonorm.tensorflow.rms_norm(x, eps=1e-6)
print(len(list(pathlib.Path("/proc/self/task").iterdir())) - before)
"""


def test_as_many_threads_as_tensorflow_has():
    """That is set after the import, as programs do it, and before the first call."""
    cpus = len(os.sched_getaffinity(0))
    for threads in (1, 2):
        done = subprocess.run([sys.executable, "-c", THREADS.format(threads=threads)], capture_output=True, text=True, check=True)
        # Those of a pool of the process, which begin with the first call that they are worth it for.
        assert int(done.stdout) == (0 if threads == 1 else cpus - 1), done.stdout
