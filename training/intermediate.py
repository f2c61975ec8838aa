"""A Keras network as OpenVINO's intermediate representation."""

import tempfile
from pathlib import Path
from typing import Any

import keras

from photoz.inference.openvino import PDF, import_converter, import_openvino
from photoz.model.bundle import KERAS_NAME
from photoz.ood import FEATURES
from training.predict import features


def with_features(model: keras.Model) -> keras.Model:
    """Return a network with outputs "pdf" and, if it has such a layer, "features"."""
    found = features(model)
    return keras.Model(model.inputs, {PDF: model.output} if found is None else {PDF: model.output, FEATURES: found})


def to_openvino(model: keras.Model) -> Any:
    """Convert a network.

    Parameters
    ----------
    model : keras.Model
        With inputs named `images` and perhaps `ebv`.

    Returns
    -------
    openvino.Model
        For any number of cutouts. Its outputs are those of `with_features`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        with_features(model).export(scratch, format="tf_saved_model", verbose=False)
        converted = import_converter()(scratch)
    # Otherwise the name of the scratch folder, so that no two exports of one network are the same file.
    converted.set_rt_info(KERAS_NAME, ["conversion_parameters", "input_model"])
    return converted


def save(network: Any, path: Path) -> None:
    """Write a network as `path` and the .bin beside it, with its weights as they are: halved ones move z_mean."""
    import_openvino().save_model(network, path, compress_to_fp16=False)
