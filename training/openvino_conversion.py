"""Conversion of a Keras network to OpenVINO's intermediate representation."""

import tempfile
from pathlib import Path
from typing import Any

import keras

from photoz.inference.openvino import import_converter, import_openvino
from photoz.model.bundle import KERAS_NAME
from training.trained_model import network_outputs


def to_openvino(network: keras.Model) -> Any:
    """Convert a network to an `openvino.Model` for any number of cutouts, with the outputs "pdf" and "features"."""
    # The file must depend neither on how many models Keras has numbered nor on the name of the scratch folder.
    renamed = keras.Model(network.inputs, network_outputs(network), name=network.name)
    with tempfile.TemporaryDirectory() as scratch:
        renamed.export(scratch, format="tf_saved_model", verbose=False)
        converted = import_converter()(scratch)
    converted.set_rt_info(KERAS_NAME, ["conversion_parameters", "input_model"])
    return converted


def save(network: Any, path: Path) -> None:
    """Write a network as `path` and a .bin file, with float32 weights: float16 weights shift z_mean."""
    import_openvino().save_model(network, path, compress_to_fp16=False)
