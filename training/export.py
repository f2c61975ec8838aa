"""Compile a network for serving without TensorFlow, and check the copy against the original."""

import tempfile
from pathlib import Path

import keras
import numpy as np

from photoz import pdf
from photoz.bundle import KERAS_NAME
from photoz.card import EngineRecord
from photoz.errors import InvalidBundle
from photoz.grid import RedshiftGrid
from photoz.novelty import FEATURES
from photoz.openvino import import_openvino
from training.predict import features

# Largest difference of z_mean that a compiled network of the same precision may show.
TOLERANCE = 1e-3

OPENVINO_PATH = "openvino/model.xml"


def export_openvino(
    model: keras.Model, folder: Path, grid: RedshiftGrid, inputs: dict[str, np.ndarray]
) -> EngineRecord:
    """Write a network as OpenVINO's intermediate representation in float32.

    Parameters
    ----------
    model : keras.Model
        With inputs named `images` and perhaps `ebv`. If it has a layer "features", the copy gives those too: its
        outputs are then named "pdf" and "features".
    folder : Path
        The bundle to be; the files go to `openvino/` inside.
    grid : RedshiftGrid
        The bins.
    inputs : dict of str to (n, ...) float32
        Real cutouts to compare the two on.

    Returns
    -------
    EngineRecord
        With the largest difference found.

    Raises
    ------
    InvalidBundle
        If the compiled network does not give the answers of the original.
    """
    path = folder / OPENVINO_PATH
    with tempfile.TemporaryDirectory() as scratch:
        _with_features(model).export(scratch, format="tf_saved_model", verbose=False)
        compiled = import_openvino().convert_model(scratch)
    # Otherwise the name of the scratch folder, so that no two exports of one network are the same file.
    compiled.set_rt_info(KERAS_NAME, ["conversion_parameters", "input_model"])
    # Weights stay float32: halved ones were seen to move z_mean.
    import_openvino().save_model(compiled, path, compress_to_fp16=False)
    difference = _compare(model, path, grid, inputs)
    if not difference < TOLERANCE:
        raise InvalidBundle(
            f"the OpenVINO copy differs from Keras by {difference:.2g} in z_mean; at most {TOLERANCE:g}"
        )
    return EngineRecord(
        name="openvino-f32",
        path=OPENVINO_PATH,
        max_z_mean_difference=difference,
        n_compared=len(next(iter(inputs.values()))),
    )


def _with_features(model: keras.Model) -> keras.Model:
    found = features(model)
    return model if found is None else keras.Model(model.inputs, {"pdf": model.output, FEATURES: found})


def _compare(model: keras.Model, path: Path, grid: RedshiftGrid, inputs: dict[str, np.ndarray]) -> float:
    named = {tensor.name: inputs[tensor.name] for tensor in model.inputs}
    # The default precision is bfloat16 where the processor has it, which is neither the same answers nor safe.
    network = import_openvino().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = network(named)
    ours = np.asarray(answer["pdf"] if len(network.outputs) > 1 else answer[0], dtype=np.float64)
    theirs = model.predict_on_batch(named).astype(np.float64)
    return float(np.max(np.abs(pdf.mean(ours, grid) - pdf.mean(theirs, grid))))
