"""Toy networks, model bundles and cutouts, to test without training."""

import io
from datetime import UTC, datetime

import numpy as np

from photoz import ood
from photoz.calibration import Calibration
from photoz.grid import RedshiftGrid
from photoz.images import Batch, ImageSpec
from photoz.inference.openvino import import_openvino
from photoz.model.bundle import OOD_NAME, ModelBundle
from photoz.model.card import Architecture, CalibrationRecord, Card, EngineRecord, Inputs, OodRecord, TrainingRecord
from photoz.ood import FeatureGroup, extract_features

openvino = import_openvino()
opset13 = openvino.opset13

GRIZ = ImageSpec(size=23, bands="griz")
GRID_90 = RedshiftGrid(0.6, 90)


def toy_network(size, n_bands, n_bins, takes_ebv, gives_features=False):
    """Return a softmax of weighted band means (and of E(B-V)); the means are its features."""
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
    if not gives_features:
        return openvino.Model([opset13.result(pdfs)], inputs)
    features.output(0).get_tensor().set_names({"features"})
    pdfs.output(0).get_tensor().set_names({"pdf"})
    return openvino.Model([opset13.result(features), opset13.result(pdfs)], inputs)


def toy_feature_groups(images, with_features=True):
    """Return feature groups that treat each feature on its own."""

    def group(values):
        mean, std = values.mean(axis=0), values.std(axis=0)
        return FeatureGroup(mean, std, np.zeros_like(mean), np.eye(len(mean)) / np.sqrt(len(mean)), 4.0)

    features = extract_features(images, images.mean((1, 2)) if with_features else None)
    return {name: group(values) for name, values in features.items()}


def toy_calibration(**parameters):
    return CalibrationRecord(parameters=Calibration(**parameters), n_galaxies=0, scores={})


def toy_ood_record(n_features=0):
    return OodRecord(threshold=1.0, false_alarms=0.01, n_features=n_features)


def toy_engine(name="openvino-f32", path="openvino/model.xml", **fields):
    return EngineRecord(name=name, path=path, max_z_mean_difference=0, n_compared=0, **fields)


def toy_card(spec, grid, takes_ebv, engines=None, **fields):
    record = TrainingRecord(
        data="none", data_sha256="", n_train=0, n_validation=0, z_range=(0.0, 0.7), hyper_parameters={}, seed=0,
        epochs=0, git_commit=None, library_versions={},
    )  # fmt: skip
    return Card(
        name="toy",
        version="1",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        grid=grid,
        image=spec,
        inputs=Inputs(ebv=takes_ebv, ebv_assumed=0.03),
        architecture=Architecture(name="toy", parameters=0),
        training=record,
        engines=(toy_engine(),) if engines is None else engines,
        **fields,
    )


def write_toy_bundle(
    folder, *, spec=GRIZ, grid=GRID_90, takes_ebv=False, network=None, feature_groups=None, record=None, **fields
):
    """Write a bundle around a toy network; by default for 23x23 griz cutouts and 90 bins, without E(B-V)."""
    source = folder / "source"
    source.mkdir()
    (source / "model.keras").write_bytes(b"not a Keras model")
    network = network or toy_network(spec.size, len(spec.bands), grid.n_bins, takes_ebv)
    openvino.save_model(network, source / "openvino" / "model.xml", compress_to_fp16=False)
    if feature_groups:
        ood.save(feature_groups, source / OOD_NAME)
    return ModelBundle.write(folder / "bundle", toy_card(spec, grid, takes_ebv, ood=record, **fields), source)


def toy_batch(images, card, ebv=None):
    return Batch.of(images, card.image, ebv, card.inputs.ebv_default)


def galaxies(spec, n, seed=0):
    """Return n round galaxies of different brightness on a noisy sky, (n, size, size, n_bands) float32."""
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
