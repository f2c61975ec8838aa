"""From a file of cutouts to a model bundle with its scores: fit, calibrate, evaluate, export, seal."""

import shutil
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from photoz import ood as ood
from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.cutouts import Cutouts
from photoz.io.reader import open_cutouts
from photoz.model.bundle import KERAS_NAME, OOD_NAME, ModelBundle
from photoz.model.card import Architecture, Card, Inputs, TestRecord, TrainingRecord
from training import architectures, provenance
from training.baselines import check_band_columns
from training.calibrate import calibrate
from training.cost import forward_gflop
from training.evaluation import Evaluation, evaluate, table, write_report
from training.export import export_engines
from training.export_check import Model
from training.fit import Fitted
from training.held_out import fit_and_hold_out
from training.ood import choose_threshold
from training.reference import reference_record
from training.rows import with_split
from training.settings import Settings

REPORT_FOLDER = "report"


def train_bundle(
    data: Path,
    spec: ImageSpec | None,
    grid: RedshiftGrid,
    settings: Settings,
    run: Path,
    path: Path,
    *,
    resume: bool,
    figures: bool = True,
    only_f32: bool = False,
) -> ModelBundle:
    """Train a network on a file of cutouts and write its bundle, and its report beside the run.

    Parameters
    ----------
    data : Path
        File of cutouts with z_spec.
    spec : ImageSpec, or None
        What the images are; None if the file says it.
    grid : RedshiftGrid
        The bins to be predicted.
    settings : Settings
        The recipe.
    run : Path
        Folder of the run: checkpoint, logs, report.
    path : Path
        Where the bundle shall be; its last part is the model's name.
    resume : bool
        Go on from the run's checkpoint.
    figures : bool
        Write the figures of the report alone too.
    only_f32 : bool
        Leave the fast engines out.

    Returns
    -------
    ModelBundle
        The new bundle.
    """
    with open_cutouts(data) as opened:
        cutouts = with_split(opened, settings.select, settings.shares)
        spec = spec or cutouts.spec or ImageSpec(size=cutouts.images.shape[1])
        check_band_columns(cutouts, spec)
        fitted, feature_groups, held_out = fit_and_hold_out(cutouts, spec, grid, settings, run, resume=resume)
        model, ebv_assumed = fitted.model, fitted.ebv_assumed
        calibration = calibrate(held_out.pdfs, held_out.z_spec, grid)
        record = choose_threshold(feature_groups, held_out.ood_scores)
        learned = {
            "calibration": calibration.parameters,
            "feature_groups": feature_groups,
            "ood_threshold": record.threshold,
        }
        evaluation = evaluate(model, cutouts, spec, grid, ebv_assumed, **learned)
        whole = Model(spec, grid, ebv_assumed, **learned)
        with tempfile.TemporaryDirectory() as scratch:
            model.save(Path(scratch) / KERAS_NAME)
            ood.save(feature_groups, Path(scratch) / OOD_NAME)
            card = Card(
                name=path.name,
                **_version(),
                grid=grid,
                image=spec,
                inputs=Inputs(ebv=architectures.takes_ebv(model), ebv_assumed=ebv_assumed),
                architecture=Architecture(name=settings.architecture, parameters=model.count_params()),
                training=_training_record(data, cutouts, settings, fitted),
                test=_test_record(data, cutouts, evaluation),
                calibration=calibration,
                ood=record,
                reference=reference_record(evaluation.pdfs, evaluation.ood_scores, grid, _source(data, cutouts)),
                gflop=forward_gflop(model),
                engines=export_engines(model, cutouts, whole, Path(scratch), only_f32=only_f32),
                caveats=provenance.caveats(_source(data, cutouts)),
            )
            bundle = ModelBundle.write(path, card, scratch)
        write_report(evaluation, cutouts, bundle.card, run / REPORT_FOLDER, figures=figures)
    print(table(evaluation.scores))
    return bundle


def _version() -> dict[str, Any]:
    created = datetime.now(UTC).replace(microsecond=0)
    return {"version": created.strftime("%Y.%m.%d-%H%M%S"), "created": created}


def _source(data: Path, cutouts: Cutouts) -> str:
    return cutouts.provenance or data.name


def _training_record(data: Path, cutouts: Cutouts, settings: Settings, fitted: Fitted) -> TrainingRecord:
    return TrainingRecord(
        data=_source(data, cutouts),
        data_sha256=provenance.file_sha256(data),
        n_train=fitted.n_train,
        n_validation=fitted.n_validation,
        hyper_parameters=asdict(settings),
        seed=settings.seed,
        epochs=len(fitted.history),
        git_commit=provenance.git_commit(),
        library_versions=provenance.library_versions(),
    )


def _test_record(data: Path, cutouts: Cutouts, evaluation: Evaluation) -> TestRecord:
    return TestRecord(data=_source(data, cutouts), n_galaxies=len(evaluation.rows), scores=evaluation.scores)


def evaluate_bundle(
    bundle: ModelBundle, data: Path, folder: Path, *, recalibrate: bool = True, figures: bool = True
) -> Evaluation:
    """Score a bundle's Keras model on the test galaxies of a file and write the report.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    data : Path
        File of cutouts with z_spec; without a split of its own it is split as it was for training.
    folder : Path
        Where metrics.json and report.html go.
    recalibrate : bool
        Apply the calibration of the bundle.
    figures : bool
        Write the figures of the report alone too.

    Returns
    -------
    Evaluation
        What was written.
    """
    card = bundle.card
    with open_cutouts(data) as opened:
        cutouts = _split_as_trained(opened, card)
        evaluation = evaluate(
            _load_keras(bundle),
            cutouts,
            card.image,
            card.grid,
            card.inputs.ebv_assumed,
            calibration=bundle.calibration if recalibrate else None,
            feature_groups=ood.load(bundle.ood_path) if card.ood else None,
            ood_threshold=card.ood.threshold if card.ood else np.inf,
        )
        write_report(evaluation, cutouts, card, folder, figures=figures)
    return evaluation


def export_bundle(bundle: ModelBundle, data: Path, *, only_f32: bool = False) -> ModelBundle:
    """Compile a bundle's Keras model anew and write the bundle in the place of the old one.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    data : Path
        File of cutouts with z_spec; without a split of its own it is split as it was for training.
    only_f32 : bool
        Leave the fast engines out.

    Returns
    -------
    ModelBundle
        The same model with other engines.

    Raises
    ------
    InvalidBundle
        If not even the engine in float32 gives the answers of Keras; the bundle is then left as it was.
    """
    card = bundle.card
    whole = Model(
        card.image,
        card.grid,
        card.inputs.ebv_assumed,
        bundle.calibration,
        feature_groups=ood.load(bundle.ood_path) if card.ood else None,
        ood_threshold=card.ood.threshold if card.ood else np.inf,
    )
    with open_cutouts(data) as opened, tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(bundle.path, scratch, ignore=shutil.ignore_patterns("openvino"), dirs_exist_ok=True)
        cutouts = _split_as_trained(opened, card)
        engines = export_engines(_load_keras(bundle), cutouts, whole, Path(scratch), only_f32=only_f32)
        return ModelBundle.write(bundle.path, card.model_copy(update={"engines": engines}), scratch)


def _load_keras(bundle: ModelBundle) -> Any:
    import keras

    return keras.models.load_model(bundle.keras_path, compile=False, safe_mode=True)


def _split_as_trained(opened: Cutouts, card: Card) -> Cutouts:
    """Split a file that has no split of its own as for training, or the model would be tested on what it knows."""
    recipe = {} if "split" in opened.columns else card.training.hyper_parameters
    return with_split(opened, recipe.get("select", ""), recipe.get("shares", ""))
