"""A small transformer trained in Keras on TensorFlow with isonorm's layers, saved and loaded.

You learn how `isonorm.keras.RMSNormalization` stands in a functional model where Keras' own layer would, that `fit`, `save` and
`load_model` know it, and what is equal bit by bit afterwards: the outputs of the loaded model, and those of a norm inside of the
model and of isonorm for NumPy.

The task: whether the brackets of a string close each other, as in "(()())", which "())(()" does not have. Half of all strings of
14 brackets that do, and as many that do not, are learned, the others are asked.

pip install '.[keras,tensorflow]'   # in a checkout
python train_keras.py
"""

from __future__ import annotations

import itertools
import os
import pathlib
import tempfile
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import isonorm
import isonorm.keras

LENGTH, WIDTH, HEADS, BLOCKS, EPOCHS = 14, 32, 4, 2, 40
OPEN, CLOSE = 0, 1


def closes(string: tuple[int, ...]) -> bool:
    """Whether no bracket closes before one opens; the strings here have as many of both."""
    depth = np.cumsum([1 if bracket == OPEN else -1 for bracket in string])
    return bool(depth.min() >= 0)


def strings() -> tuple[np.ndarray, np.ndarray]:
    """As many that close as do not, mixed, and which is which."""
    halves = (
        tuple(OPEN if i in opening else CLOSE for i in range(LENGTH))
        for opening in itertools.combinations(range(LENGTH), LENGTH // 2)
    )
    right, wrong = [], []
    for string in halves:
        (right if closes(string) else wrong).append(string)
    rng = np.random.default_rng(0)
    wrong = [wrong[i] for i in rng.permutation(len(wrong))[: len(right)]]
    order = rng.permutation(2 * len(right))
    return np.array(right + wrong)[order], np.repeat([1.0, 0.0], len(right))[order]


class Positions(keras.layers.Layer):
    """Adds a vector that is learned for each place in the string."""

    def build(self, shape: Any) -> None:
        self.places = self.add_weight(name="places", shape=shape[1:], initializer="random_normal")

    def call(self, x: Any) -> Any:
        return x + self.places


def transformer() -> keras.Model:
    """Pre-norm blocks: what a block adds to the stream is computed from its norm."""
    string = keras.Input((LENGTH,), dtype="int32")
    stream = Positions()(keras.layers.Embedding(2, WIDTH)(string))
    for block in range(BLOCKS):
        x = isonorm.keras.RMSNormalization(name=f"attention_norm_{block}")(stream)
        stream = stream + keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(x, x)
        x = isonorm.keras.RMSNormalization(name=f"norm_{block}")(stream)
        stream = stream + keras.layers.Dense(WIDTH)(keras.layers.Dense(4 * WIDTH, "silu")(x))
    stream = isonorm.keras.RMSNormalization(name="last_norm")(keras.layers.GlobalAveragePooling1D()(stream))
    return keras.Model(string, keras.layers.Dense(1)(stream))


def same(a: Any, b: Any) -> bool:
    """Bit by bit: -0 is not 0, and NaN is itself."""
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def main() -> None:
    keras.utils.set_random_seed(1)
    brackets, answers = strings()
    half = len(brackets) // 2
    learned, asked = (brackets[:half], answers[:half]), (brackets[half:], answers[half:])
    model = transformer()
    model.compile(
        keras.optimizers.AdamW(3e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)],
    )
    print("epoch      loss   right of those learned   of those asked")
    for epoch in range(0, EPOCHS + 1, 10):
        if epoch > 0:
            model.fit(*learned, batch_size=64, initial_epoch=epoch - 10, epochs=epoch, verbose=0)
        (loss, share), (_, of_asked) = (model.evaluate(*rows, verbose=0) for rows in (learned, asked))
        print(f"{epoch:>5} {loss:>9.4f} {share:>16.0%} {of_asked:>22.0%}")

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "brackets.keras"
        model.save(path)
        loaded = keras.models.load_model(path, custom_objects={"Positions": Positions})
    norms = sum(isinstance(layer, isonorm.keras.RMSNormalization) for layer in loaded.layers)
    outputs = [one.predict(asked[0], verbose=0) for one in (model, loaded)]
    print(f"the loaded model has {norms} norms of isonorm; its outputs have the bits of the one that was saved: {same(*outputs)}")

    norm = model.get_layer("last_norm")
    inside = keras.Model(model.inputs, [norm.input, norm.output])
    x, y = inside.predict(asked[0], verbose=0)
    plain = isonorm.rms_norm(x, keras.ops.convert_to_numpy(norm.scale), eps=norm.epsilon)
    print(f"a norm within the model has the bits of NumPy's face: {same(y, plain)}")


if __name__ == "__main__":
    main()
