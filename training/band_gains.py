"""Band gains: one factor for each band, which corrects the zero points of a survey for a network of another one.

A few factors can be learned from far fewer galaxies than the weights of a network.
"""

import math
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from photoz.grid import FloatArray, RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.cutouts import TRAIN, Cutouts
from training.fit import train_network
from training.recipes import TrainingSettings
from training.splits import usable_rows

STEPS = 150
LEARNING_RATE = 0.02

# Standard deviation of the prior on the logarithm of a gain.
PRIOR_WIDTH = 0.1


def fit_gains(
    network: keras.Model,
    cutouts: Cutouts,
    spec: ImageSpec,
    grid: RedshiftGrid,
    settings: TrainingSettings,
    run: Path,
    *,
    ebv_default: float,
    resume: bool,
) -> FloatArray:
    """Fit the factors (n_bands,) of the pixels with which a network predicts the training galaxies best.

    The parameters are those of `training.fit.train_network`; of the settings, the objective, the size of a batch and
    the seed are used.
    """
    n = len(usable_rows(cutouts, grid, TRAIN))
    frozen = keras.models.clone_model(network)
    frozen.set_weights(network.get_weights())
    frozen.trainable = False

    def prior(kernel: keras.KerasTensor) -> keras.KerasTensor:
        return ops.sum(ops.square(ops.log(kernel))) / (2.0 * n * PRIOR_WIDTH**2)

    gains = layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="ones", depthwise_regularizer=prior)
    inputs = _inputs_of(network)
    model = keras.Model(inputs, frozen({**inputs, "images": gains(inputs["images"])}))
    epochs = math.ceil(STEPS * settings.batch_size / n)
    plain = replace(settings, learning_rate=LEARNING_RATE, epochs=epochs, patience=epochs, weight_decay=0.0)
    plain = replace(plain, clip_norm=0.0, ema_momentum=0.0, defects=0.0, unknown_ebv=0.0)
    checkpoint = train_network(
        model, cutouts, spec, grid, plain, run, noise=np.ones(len(spec.bands)), ebv_default=ebv_default, resume=resume
    )
    model.set_weights(checkpoint.best_weights)
    return np.asarray(gains.kernel, dtype=np.float64).ravel()


def apply_gains(network: keras.Model, gains: FloatArray) -> keras.Model:
    """Return a copy of a network that first multiplies the pixels of each band by its gain, (n_bands,)."""
    inputs = _inputs_of(network)
    images = layers.Rescaling(gains.tolist())(inputs["images"])
    # Unlike a call of the model, this does not nest it: its layers keep their names, such as "features".
    outputs = network.call({**inputs, "images": images})
    scaled = keras.Model(inputs, outputs, name=network.name)
    copy = keras.Model.from_config(scaled.get_config())
    copy.set_weights(network.get_weights())
    return copy


def _inputs_of(network: keras.Model) -> dict[str, keras.KerasTensor]:
    return {tensor.name: keras.Input(tensor.shape[1:], name=tensor.name) for tensor in network.inputs}
