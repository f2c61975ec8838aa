"""Computational cost of a network."""

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

GIGA = 1e9


def forward_gflop(model: keras.Model) -> float:
    """Count the floating-point operations of a forward pass for one image, in 1e9; a multiply-add counts as two."""
    names = [tensor.name for tensor in model.inputs]
    signature = [tf.TensorSpec((1, *tensor.shape[1:]), tf.float32) for tensor in model.inputs]
    function = tf.function(lambda *inputs: model(dict(zip(names, inputs, strict=True)))).get_concrete_function(
        *signature
    )
    # The profiler knows the sizes of constants, not those of variables.
    graph = convert_variables_to_constants_v2(function).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    counted = tf.compat.v1.profiler.profile(graph, options={**options, "output": "none"})
    return float(counted.total_float_ops / GIGA)
