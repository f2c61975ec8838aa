"""Compiled copies of a network: what is written, what the card says, what is rejected."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from photoz import drift, pdf
from photoz.errors import InvalidBundle
from photoz.flags import Flag
from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.cutouts import TEST, TRAIN, VALIDATION
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from training import architectures, export
from training.catalogue import read_kcorrect
from training.child_engine import EngineRejected, child_engine
from training.export import export_engines, save, to_openvino
from training.export_check import compare
from training.pipeline import export_bundle
from training.pixel_statistics import PixelStatistics
from training.quantise import Scope, quantise
from training.sample import make_sample
from training.trained_model import Predictions, TrainedModel, network_signature

SMALL = ImageSpec(size=17, bands="griz")
GRID_40 = RedshiftGrid(0.5, 40)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 galaxies of 17x17 griz pixels with their split."""
    path = tmp_path_factory.mktemp("small") / "sample.h5"
    make_sample(read_kcorrect(SMALL.bands).head(120), path, SMALL, workers=1)
    return path


@pytest.fixture(scope="module", params=["compact", "inception"])
def exported(
    request: pytest.FixtureRequest,
    small_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
    run_cli: Callable[..., str],
) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    options = ("--architecture", request.param, "--epochs", 2, "--batch-size", 16, "--no-figures")
    grid = ("--z-max", GRID_40.z_max, "--n-bins", GRID_40.n_bins)
    places = ("--data", small_file, "--bundle", folder / "toy", "--run", folder / "run")
    run_cli("train", *places, *grid, *options)
    return folder / "toy"


@pytest.mark.slow
def test_train_writes_engines_that_agree_with_keras(exported: Path, small_file: Path) -> None:
    bundle = ModelBundle.load(exported)
    assert bundle.card.reference.n_galaxies == bundle.card.test.n_galaxies
    assert {name: histogram.edges for name, histogram in bundle.card.reference.histograms.items()} == drift.edges(
        GRID_40
    )
    engines = {engine.name: engine for engine in bundle.card.engines}
    assert set(engines) <= {"openvino-int8", "openvino-bf16", "openvino-f32"}
    assert engines["openvino-f32"].max_z_mean_difference < 1e-4
    rates = [engine.check.images_per_second for engine in bundle.card.engines if engine.check]
    assert len(rates) == len(engines)
    assert rates == sorted(rates, reverse=True)
    model = TrainedModel.load(bundle)
    with open_cutouts(small_file) as cutouts:
        rows = cutouts.rows(TEST)
        expected = pdf.mean(model.predict(cutouts, rows).pdfs, GRID_40)
        for engine in engines.values():
            path, precision = bundle.path / engine.path, engine.precision
            with child_engine(path, precision, network_signature(model.network)) as compiled:
                z_mean = pdf.mean(model.predict(cutouts, rows, compiled).pdfs, GRID_40)
            difference = np.abs(z_mean - expected).max()
            assert engine.max_z_mean_difference == pytest.approx(difference, rel=0.05, abs=1e-6)
            assert engine.n_compared == len(expected)


@pytest.mark.slow
def test_export_replaces_engines_and_nothing_else(
    exported: Path, small_file: Path, tmp_path: Path, run_cli: Callable[..., str]
) -> None:
    before = ModelBundle.load(exported)
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.keras").write_bytes(before.keras_path.read_bytes())
    (source / "ood.npz").write_bytes(before.ood_path.read_bytes())
    bare = ModelBundle.write(tmp_path / "bare", before.card.model_copy(update={"engines": ()}), source)
    output = run_cli("export", bare.path, small_file, "--only-f32")
    after = ModelBundle.load(bare.path)
    assert [engine.name for engine in after.card.engines] == ["openvino-f32"]
    assert "openvino-f32: " in output
    changing = {"engines", "files", "digest"}
    assert after.card.model_dump(exclude=changing) == before.card.model_dump(exclude=changing)
    assert after.keras_path.read_bytes() == before.keras_path.read_bytes()
    assert set(after.card.files) == {"model.keras", "ood.npz", "openvino/model.xml", "openvino/model.bin"}


@pytest.fixture(scope="module")
def untrained() -> TrainedModel:
    keras.utils.set_random_seed(0)
    statistics = PixelStatistics(*(np.ones(n, np.float32) for n in (4, 4, 4, 3, 3)))
    return TrainedModel(architectures.build("compact", SMALL, GRID_40, statistics), SMALL, GRID_40, 0.03)


def test_validation_galaxies_are_compared_if_there_are_no_test_galaxies(
    untrained: TrainedModel, small_file: Path, tmp_path: Path
) -> None:
    with open_cutouts(small_file) as opened:
        split = np.array(opened.column("split"))
        n_validation = int((split == VALIDATION).sum())
        split[split == TEST] = TRAIN
        cutouts = replace(opened, columns={**opened.columns, "split": split})
        engines = export_engines(untrained, cutouts, tmp_path, only_f32=True)
    assert [engine.n_compared for engine in engines] == [n_validation]


def shifted(network: keras.Model) -> keras.Model:
    """Return a network whose PDFs are shifted by a quarter of the grid."""
    return keras.Model(network.inputs, keras.ops.roll(network.output, GRID_40.n_bins // 4, axis=1))


def test_rejected_fast_copy_is_left_out_with_its_files(
    untrained: TrainedModel,
    small_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = to_openvino(shifted(untrained.network))
    monkeypatch.setattr(export, "quantise", lambda *_: wrong)
    with open_cutouts(small_file) as cutouts:
        engines = export_engines(untrained, cutouts, tmp_path)
    assert {engine.name for engine in engines} <= {"openvino-bf16", "openvino-f32"}
    assert {path.name for path in (tmp_path / "openvino").iterdir()} == {"model.xml", "model.bin"}
    output = capsys.readouterr().out
    assert output.count("of galaxies, expected 0.999") == 2
    assert "openvino-int8 of everything is left out: " in output
    assert "openvino-int8 of convolutions is left out: " in output


def test_bundle_is_unchanged_if_float32_copy_is_rejected(
    exported: Path, small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()}
    wrong = to_openvino(shifted(keras.models.load_model(ModelBundle.load(exported).keras_path, compile=False)))
    monkeypatch.setattr(export, "to_openvino", lambda _: wrong)
    with pytest.raises(InvalidBundle, match="copy in float32 does not agree with Keras"):
        export_bundle(ModelBundle.load(exported), small_file, only_f32=True)
    assert {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()} == before


def test_scope_convolutions_quantises_only_convolutions(untrained: TrainedModel) -> None:
    network = to_openvino(untrained.network)
    rng = np.random.default_rng(0)
    samples = [
        {"images": rng.normal(size=(1, *SMALL.shape)).astype(np.float32), "ebv": np.full((1, 1), 0.03, np.float32)}
        for _ in range(8)
    ]
    before = {operation.get_type_name() for operation in network.get_ordered_ops()}
    quantised = quantise(network, samples, Scope.CONVOLUTIONS)
    fed = {
        target.get_node().get_type_name()
        for operation in quantised.get_ordered_ops()
        if operation.get_type_name() == "FakeQuantize"
        for target in operation.output(0).get_target_inputs()
    }
    assert fed
    assert fed <= {"Convolution", "GroupConvolution"}
    assert {operation.get_type_name() for operation in network.get_ordered_ops()} == before  # unchanged


@pytest.mark.parametrize("name", ["SIGFPE", "SIGILL", "SIGSEGV"])
def test_crash_of_an_engine_does_not_end_this_process(untrained: TrainedModel, tmp_path: Path, name: str) -> None:
    save(to_openvino(untrained.network), tmp_path / "model.xml")
    images, ebv = np.ones((2, *SMALL.shape), np.float32), np.zeros(2, np.float32)
    with child_engine(tmp_path / "model.xml", "f32", network_signature(untrained.network)) as engine:
        assert engine.predict(images, ebv).pdfs.shape == (2, GRID_40.n_bins)
        with pytest.raises(EngineRejected, match=f"its process ended with {name}"):
            engine._run(signal.raise_signal, signal.Signals[name])


def test_unreadable_engine_is_rejected(untrained: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("<net>")
    loaded = child_engine(tmp_path / "model.xml", "f32", network_signature(untrained.network))
    with loaded as engine, pytest.raises(EngineRejected, match="OpenVINO cannot read"):
        engine.predict(np.ones((1, *SMALL.shape), np.float32), np.zeros(1, np.float32))


def predictions_at(z: np.ndarray, flagged: np.ndarray | bool = False) -> Predictions:
    """PDFs of three bins around some redshifts."""
    bins = GRID_40.bin_index(z)
    pdfs = np.zeros((len(z), GRID_40.n_bins))
    for offset, mass in ((-1, 0.25), (0, 0.5), (1, 0.25)):
        pdfs[np.arange(len(z)), bins + offset] = mass
    flags = Flag.BROAD_PDF | np.where(flagged, Flag.OUT_OF_DISTRIBUTION, 0) * np.ones(len(z), int)
    return Predictions(pdfs, pdfs, np.ones(len(z)), flags)


def test_differences_are_objected_to() -> None:
    z_spec = np.linspace(0.05, 0.4, 1000)
    keras_predictions = predictions_at(z_spec)
    assert compare(keras_predictions, keras_predictions, z_spec, GRID_40).objections() == []
    moved = z_spec.copy()
    moved[:2] += 0.05
    (objection,) = compare(predictions_at(moved), keras_predictions, z_spec, GRID_40).objections()[-1:]
    assert objection == "z_mean is within 0.002 for 0.9980 of galaxies, expected 0.999"
    flagged = predictions_at(z_spec, np.arange(1000) < 2)
    assert compare(flagged, keras_predictions, z_spec, GRID_40).objections() == [
        "0.0020 of galaxies change their flag, at most 0.001"
    ]
    missing = predictions_at(z_spec)
    missing.pdfs[7] = np.nan
    assert compare(missing, keras_predictions, z_spec, GRID_40).objections() == ["some PDFs are not finite"]
