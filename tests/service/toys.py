"""Small things to test the service with: networks without training, cutouts, files."""

import io
from datetime import UTC, datetime

import numpy as np

from photoz.bundle import Architecture, Card, EngineRecord, Inputs, TrainingRecord
from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from service.engines import import_openvino

openvino = import_openvino()
opset13 = openvino.opset13

GRIZ = ImageSpec(size=23, bands="griz")
GRID_90 = RedshiftGrid(0.6, 90)


def toy_network(size, n_bands, n_bins, takes_ebv):
    """Make a softmax of weighted band means (and of E(B-V)), as any engine would see it."""
    rng = np.random.default_rng(0)
    images = opset13.parameter([-1, size, size, n_bands], np.float32, name="images")
    features = opset13.reduce_mean(images, np.array([1, 2]), keep_dims=False)
    inputs = [images]
    if takes_ebv:
        inputs.append(opset13.parameter([-1, 1], np.float32, name="ebv"))
        features = opset13.concat([features, inputs[-1]], axis=1)
    weights = rng.normal(size=(n_bands + takes_ebv, n_bins)).astype(np.float32)
    pdfs = opset13.softmax(opset13.matmul(features, opset13.constant(weights), False, False), axis=1)
    for parameter in inputs:
        parameter.output(0).get_tensor().set_names({parameter.friendly_name})
    return openvino.Model([opset13.result(pdfs)], inputs)


def toy_card(spec, grid, takes_ebv):
    record = TrainingRecord(
        data="none",
        data_sha256="",
        n_train=0,
        n_validation=0,
        hyper_parameters={},
        seed=0,
        epochs=0,
        git_commit=None,
        library_versions={},
    )
    return Card(
        name="toy",
        version="1",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        grid=grid,
        image=spec,
        inputs=Inputs(ebv=takes_ebv, ebv_assumed=0.03),
        architecture=Architecture(name="toy", parameters=0),
        training=record,
        engines=(EngineRecord(name="openvino-f32", path="openvino/model.xml", max_z_mean_difference=0, n_compared=0),),
    )


def galaxies(spec, n, seed=0):
    """Make n round galaxies of some brightness on a noisy sky, (n, size, size, n_bands) float32."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((spec.size, spec.size)) - spec.size / 2
    profile = np.exp(-np.hypot(x, y) / (spec.size / 16))
    brightness = rng.uniform(0.5, 2.0, (n, 1, 1, len(spec.bands)))
    noise = rng.normal(0.0, 0.02, (n, *spec.shape))
    return (brightness * profile[..., None] + noise).astype(np.float32)


def npy_bytes(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()
