"""RMSNorm and LayerNorm for TensorFlow: functions, and a module that needs no Keras. `isonorm.keras` has layers.

    >>> import tensorflow as tf, isonorm.tensorflow
    >>> isonorm.tensorflow.rms_norm(tf.constant([[3.0, 4.0]]), eps=1e-6).numpy()
    array([[0.8485281, 1.1313708]], dtype=float32)

They compute on the CPU, eagerly and in tf.function, have gradients of every order, and may be part of a SavedModel: where that is
loaded, this module has to be imported.
"""

from isonorm.tensorflow import _library  # noqa: F401  before all else: it says so where there is no TensorFlow that will do
from isonorm.tensorflow.functional import Rope, layer_norm, qk_norm, rms_norm
from isonorm.tensorflow.modules import RMSNorm

__all__ = ["RMSNorm", "Rope", "layer_norm", "qk_norm", "rms_norm"]
