"""RMSNorm as a tf.Module, without Keras."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf

from isonorm._arrays import check_eps, size_of
from isonorm.contracts import ContractLike, resolve
from isonorm.tensorflow.functional import TensorLike, number, rms_norm, type_of


class RMSNorm(tf.Module):  # type: ignore[misc]
    """A norm and its weight: ``rms_norm(x, weight, eps=eps, contract=contract)``.

        >>> import tensorflow as tf, isonorm.tensorflow
        >>> norm = isonorm.tensorflow.RMSNorm(4, eps=1e-6)
        >>> norm(tf.ones((2, 4))).shape, norm.trainable_variables[0].shape
        (TensorShape([2, 4]), TensorShape([4]))

    cols: how many values a row has. eps: there is no default. contract: of an RMS statistic without a gate.
    dtype: of the weight, whose first values change nothing: ones, or zeros where the contract adds 1 to them.

    module(x): [..., cols] → the same shape and type. Raises ValueError for other contracts and fewer columns than one, TypeError
    for a dtype that is none of floats, and what rms_norm does.
    """

    def __init__(
        self, cols: int, *, eps: float, contract: ContractLike = "torch", dtype: Any = tf.float32, name: Optional[str] = None
    ) -> None:
        super().__init__(name)
        found = resolve(contract)
        if found.statistic != "rms" or found.gate_place != "none":
            raise ValueError(f"contract {contract!r} does not belong to RMSNorm: it has a mean or a gate")
        count, kind = size_of(cols, "cols"), type_of(dtype, "a weight is of")
        self.eps, self.contract = number(eps, "eps"), found
        check_eps(eps)
        self.weight = tf.Variable(tf.fill([count], tf.cast(1.0 - found.weight_offset, kind)), name="weight")

    def __call__(self, x: TensorLike) -> tf.Tensor:
        return rms_norm(x, self.weight, eps=self.eps, contract=self.contract)
