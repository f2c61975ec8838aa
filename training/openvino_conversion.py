"""Conversion of a Keras network to OpenVINO's intermediate representation."""

import tempfile
from pathlib import Path
from typing import Any

import keras

from photoz.inference.openvino import import_converter, import_openvino
from photoz.model.bundle import KERAS_NAME
from training.predict import network_outputs


def to_openvino(network: keras.Model) -> Any:
    """Convert a network to an `openvino.Model` for any number of cutouts, with the outputs "pdf" and "features"."""
    with tempfile.TemporaryDirectory() as scratch:
        keras.Model(network.inputs, network_outputs(network)).export(scratch, format="tf_saved_model", verbose=False)
        converted = import_converter()(scratch)
    # By default the name of the scratch folder, with which no two exports of a network would be the same file.
    converted.set_rt_info(KERAS_NAME, ["conversion_parameters", "input_model"])
    return converted


def save(network: Any, path: Path) -> None:
    """Write a network as `path` and a .bin file, with float32 weights: float16 weights shift z_mean."""
    import_openvino().save_model(network, path, compress_to_fp16=False)
