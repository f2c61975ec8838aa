"""Compiled copies of a network: which are written, what the card says of them, what is refused."""

import signal
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from photoz import drift, pdf
from photoz.errors import InvalidBundle
from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.inference.openvino import PDF
from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Cutouts
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from training import architectures, export
from training.catalogue import read_kcorrect
from training.cli import main
from training.export import export_engines
from training.export_check import Answers, Model, ask, compare
from training.intermediate import save, to_openvino
from training.pipeline import export_bundle
from training.pixel_statistics import PixelStatistics
from training.quantise import Scope, quantise
from training.sample import make_sample
from training.trial import Refused, Trial

SMALL = ImageSpec(size=17, bands="griz")
GRID_40 = RedshiftGrid(0.5, 40)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 galaxies of 17x17 griz pixels with their own split."""
    path = tmp_path_factory.mktemp("small") / "sample.h5"
    make_sample(read_kcorrect(SMALL.bands).head(120), path, SMALL, workers=1)
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def trained(data: Path, folder: Path, *options: object) -> Path:
    grid = ("--z-max", GRID_40.z_max, "--n-bins", GRID_40.n_bins)
    run("train", "--data", data, "--bundle", folder / "toy", "--run", folder / "run", "--no-figures", *grid, *options)
    return folder / "toy"


@pytest.fixture(scope="module", params=["compact", "inception"])
def exported(request: pytest.FixtureRequest, small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return trained(small_file, folder, "--architecture", request.param, "--epochs", 2, "--batch-size", 16)


def served(bundle: ModelBundle, precision: str, path: str, cutouts: Cutouts) -> np.ndarray:
    model = Model(SMALL, GRID_40, bundle.card.inputs.ebv_assumed, bundle.calibration)
    with Trial(bundle.path / path, precision) as trial:
        return ask(trial.infer, cutouts, cutouts.rows(TEST), model).pdfs


@pytest.mark.slow
def test_training_writes_engines_that_answer_as_keras_does(exported: Path, small_file: Path) -> None:
    bundle = ModelBundle.load(exported)
    assert bundle.card.reference.n_galaxies == bundle.card.test.n_galaxies
    assert {name: found.edges for name, found in bundle.card.reference.histograms.items()} == drift.edges(GRID_40)
    engines = {engine.name: engine for engine in bundle.card.engines}
    assert set(engines) <= {"openvino-int8", "openvino-bf16", "openvino-f32"}
    assert engines["openvino-f32"].max_z_mean_difference < 1e-4
    rates = [engine.check.images_per_second for engine in bundle.card.engines if engine.check]
    assert len(rates) == len(engines)
    assert rates == sorted(rates, reverse=True)
    model = keras.models.load_model(bundle.keras_path, compile=False)
    with open_cutouts(small_file) as cutouts:
        whole = Model(SMALL, GRID_40, bundle.card.inputs.ebv_assumed, bundle.calibration)
        names = [tensor.name for tensor in model.inputs]
        network = lambda inputs: {PDF: model.predict_on_batch({name: inputs[name] for name in names})}  # noqa: E731
        truth = pdf.mean(ask(network, cutouts, cutouts.rows(TEST), whole).pdfs, GRID_40)
        for engine in engines.values():
            z_mean = pdf.mean(served(bundle, engine.precision or "f32", engine.path, cutouts), GRID_40)
            difference = np.abs(z_mean - truth).max()
            assert engine.max_z_mean_difference == pytest.approx(difference, rel=0.05, abs=1e-6)
            assert engine.n_compared == len(truth)


@pytest.mark.slow
def test_a_bundle_is_exported_anew_and_stays_the_same_model(exported: Path, small_file: Path, tmp_path: Path) -> None:
    before = ModelBundle.load(exported)
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.keras").write_bytes(before.keras_path.read_bytes())
    (source / "ood.npz").write_bytes(before.ood_path.read_bytes())
    bare = ModelBundle.write(tmp_path / "bare", before.card.model_copy(update={"engines": ()}), source)
    said = run("export", bare.path, small_file, "--only-f32")
    after = ModelBundle.load(bare.path)
    assert [engine.name for engine in after.card.engines] == ["openvino-f32"]
    assert "openvino-f32: " in said
    changing = {"engines", "files", "digest"}
    assert after.card.model_dump(exclude=changing) == before.card.model_dump(exclude=changing)
    assert after.keras_path.read_bytes() == before.keras_path.read_bytes()
    assert set(after.card.files) == {"model.keras", "ood.npz", "openvino/model.xml", "openvino/model.bin"}


@pytest.fixture(scope="module")
def untrained(small_file: Path) -> keras.Model:
    keras.utils.set_random_seed(0)
    statistics = PixelStatistics(*(np.ones(n, np.float32) for n in (4, 4, 4, 3, 3)))
    return architectures.build("compact", SMALL, GRID_40, statistics)


WHOLE = Model(SMALL, GRID_40, 0.03)


def test_validation_galaxies_stand_in_where_none_is_tested_on(
    untrained: keras.Model, small_file: Path, tmp_path: Path
) -> None:
    with open_cutouts(small_file) as opened:
        split = np.array(opened.column("split"))
        n_validation = int((split == VALIDATION).sum())
        split[split == TEST] = TRAIN
        cutouts = replace(opened, columns={**opened.columns, "split": split})
        engines = export_engines(untrained, cutouts, WHOLE, tmp_path, only_f32=True)
    assert [engine.n_compared for engine in engines] == [n_validation]


def shifted(network: keras.Model) -> keras.Model:
    """Return a network that answers, and wrongly: its bins are a quarter of the grid further on."""
    return keras.Model(network.inputs, keras.ops.roll(network.output, GRID_40.n_bins // 4, axis=1))


def test_a_fast_copy_that_answers_otherwise_is_left_out_and_so_are_its_files(
    untrained: keras.Model,
    small_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = to_openvino(shifted(untrained))
    monkeypatch.setattr(export, "quantise", lambda *_: wrong)
    with open_cutouts(small_file) as cutouts:
        engines = export_engines(untrained, cutouts, WHOLE, tmp_path)
    assert {engine.name for engine in engines} <= {"openvino-bf16", "openvino-f32"}
    assert {path.name for path in (tmp_path / "openvino").iterdir()} == {"model.xml", "model.bin"}
    said = capsys.readouterr().out
    assert said.count("of galaxies, expected 0.999") == 2
    assert "openvino-int8 of everything is left out: " in said
    assert "openvino-int8 of convolutions is left out: " in said


def test_nothing_is_written_where_not_even_float32_answers_as_keras_does(
    exported: Path, small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()}
    wrong = to_openvino(shifted(keras.models.load_model(ModelBundle.load(exported).keras_path, compile=False)))
    monkeypatch.setattr(export, "to_openvino", lambda _: wrong)
    with pytest.raises(InvalidBundle, match="copy in float32 does not answer as Keras does"):
        export_bundle(ModelBundle.load(exported), small_file, only_f32=True)
    assert {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()} == before


def test_only_convolutions_are_quantised_where_that_is_asked_for(untrained: keras.Model) -> None:
    network = to_openvino(untrained)
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
    assert {operation.get_type_name() for operation in network.get_ordered_ops()} == before  # left as it was


def test_a_copy_that_ends_its_process_is_refused_and_this_process_goes_on(
    untrained: keras.Model, tmp_path: Path
) -> None:
    save(to_openvino(untrained), tmp_path / "model.xml")
    inputs = {"images": np.ones((2, *SMALL.shape), np.float32), "ebv": np.zeros((2, 1), np.float32)}
    with Trial(tmp_path / "model.xml", "f32") as trial:
        assert trial.infer(inputs)[PDF].shape == (2, GRID_40.n_bins)
        (child,) = psutil.Process().children()[-1:]
        child.send_signal(signal.SIGFPE)
        with pytest.raises(Refused, match="it ended its process with SIGFPE"):
            trial.infer(inputs)


def test_a_copy_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("<net>")
    with Trial(tmp_path / "model.xml", "f32") as trial, pytest.raises(Refused, match="OpenVINO cannot compile it"):
        trial.infer({"images": np.ones((1, *SMALL.shape), np.float32)})


def answers_at(z: np.ndarray, flagged: np.ndarray | None = None) -> Answers:
    """PDFs of three bins around some redshifts."""
    bins = GRID_40.bin_index(z)
    pdfs = np.zeros((len(z), GRID_40.n_bins))
    for offset, mass in ((-1, 0.25), (0, 0.5), (1, 0.25)):
        pdfs[np.arange(len(z)), bins + offset] = mass
    return Answers(pdfs, np.zeros(len(z), bool) if flagged is None else flagged)


def test_what_differs_is_told() -> None:
    z_spec = np.linspace(0.05, 0.4, 1000)
    truth = answers_at(z_spec)
    assert compare(truth, truth, z_spec, GRID_40).objections() == []
    moved = z_spec.copy()
    moved[:2] += 0.05
    (objection,) = compare(answers_at(moved), truth, z_spec, GRID_40).objections()[-1:]
    assert objection == "z_mean is within 0.002 for 0.9980 of galaxies, expected 0.999"
    flagged = np.arange(1000) < 2
    assert compare(answers_at(z_spec, flagged), truth, z_spec, GRID_40).objections() == [
        "0.0020 of galaxies change their flag, at most 0.001"
    ]
    missing = answers_at(z_spec)
    missing.pdfs[7] = np.nan
    assert compare(missing, truth, z_spec, GRID_40).objections() == ["some PDFs are not finite"]
