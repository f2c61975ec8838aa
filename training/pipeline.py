"""The training pipeline: fit, calibrate, evaluate and export a model, and write its bundle."""

import shutil
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from photoz import ood
from photoz.cli.printing import show
from photoz.grid import RedshiftGrid
from photoz.images import UNKNOWN_EBV, ImageSpec
from photoz.io.cutouts import TEST, Cutouts
from photoz.io.reader import open_cutouts
from photoz.model.bundle import KERAS_NAME, OOD_NAME, ModelBundle, check_target
from photoz.model.card import Architecture, Card, Inputs, TestRecord, TrainingRecord
from training import architectures, provenance
from training.baselines import check_columns
from training.calibration_fit import fit_calibration
from training.cost import forward_gflop
from training.cross_fitting import fit_and_predict_held_out
from training.evaluation import Evaluation, evaluate, table, write_report
from training.export import export_engines
from training.feature_groups import choose_threshold
from training.fit import Fitted
from training.imaging_surveys import extinction_caveats
from training.recipes import TrainingSettings
from training.reference import reference_record
from training.splits import with_labels, with_split
from training.trained_model import TrainedModel

REPORT_FOLDER = "report"


def train_bundle(
    data: Path,
    spec: ImageSpec,
    grid: RedshiftGrid,
    settings: TrainingSettings,
    run: Path,
    path: Path,
    *,
    resume: bool,
    figures: bool = True,
    only_f32: bool = False,
) -> ModelBundle:
    """Train a network on a file of cutouts with z_spec, and write its bundle to `path` and its report to `run`.

    `spec` describes the images. The model is named after the folder of the bundle. With `resume`, the run continues
    from its checkpoint; `only_f32` leaves out the fast engines.
    """
    check_target(path)
    with open_cutouts(data) as opened:
        cutouts = with_split(opened, settings.select, settings.shares)
        check_columns(cutouts, spec)
        show(*extinction_caveats(spec))
        fitted, model, held_out = fit_and_predict_held_out(cutouts, spec, grid, settings, run, resume=resume)
        calibration = fit_calibration(held_out.pdfs, held_out.z_spec, grid)
        ood_record = choose_threshold(model.feature_groups, held_out.ood_scores)
        model = replace(model, calibration=calibration.parameters, ood_threshold=ood_record.threshold)
        evaluation = evaluate(model, cutouts)
        source = cutouts.provenance or data.name
        bundle = write_bundle(
            path,
            model,
            cutouts,
            only_f32,
            architecture=Architecture(name=settings.architecture, parameters=model.network.count_params()),
            training=_training_record(data, source, settings, fitted),
            test=TestRecord(data=source, n_galaxies=len(evaluation.rows), scores=evaluation.scores),
            calibration=calibration,
            ood=ood_record,
            reference=reference_record(evaluation.pdfs, evaluation.ood_scores, grid, source),
            caveats=(*provenance.caveats(source), *extinction_caveats(spec)),
        )
        write_report(evaluation, cutouts, bundle.card, run / REPORT_FOLDER, figures=figures)
    print(table(evaluation.scores))
    return bundle


def write_bundle(path: Path, model: TrainedModel, cutouts: Cutouts, only_f32: bool, **records: Any) -> ModelBundle:
    """Write a model and its engines as a bundle; `records` are further fields of its card."""
    created = datetime.now(UTC).replace(microsecond=0)
    with tempfile.TemporaryDirectory() as scratch:
        model.network.save(Path(scratch) / KERAS_NAME)
        ood.save(model.feature_groups, Path(scratch) / OOD_NAME)
        card = Card(
            name=path.name,
            version=created.strftime("%Y.%m.%d-%H%M%S"),
            created=created,
            grid=model.grid,
            image=model.spec,
            inputs=Inputs(
                ebv=architectures.takes_ebv(model.network),
                ebv_assumed=None if model.ebv_default == UNKNOWN_EBV else model.ebv_default,
            ),
            gflop=forward_gflop(model.network),
            engines=export_engines(model, cutouts, Path(scratch), only_f32=only_f32),
            **records,
        )
        return ModelBundle.write(path, card, scratch)


def _training_record(data: Path, source: str, settings: TrainingSettings, fitted: Fitted) -> TrainingRecord:
    return TrainingRecord(
        data=source,
        data_sha256=provenance.file_sha256(data),
        n_train=fitted.n_train,
        n_validation=fitted.n_validation,
        z_range=fitted.z_range,
        hyper_parameters=asdict(settings),
        seed=settings.seed,
        epochs=len(fitted.history),
        git_commit=provenance.git_commit(),
        library_versions=provenance.library_versions(),
    )


def evaluate_bundle(
    bundle: ModelBundle,
    data: Path,
    folder: Path,
    *,
    recalibrate: bool = True,
    figures: bool = True,
    select: str = "",
    all_test: bool = False,
) -> Evaluation:
    """Score the Keras model of a bundle on the test galaxies of a file, or on all, and write the report to a folder."""
    with open_cutouts(data) as opened:
        labelled = (
            with_labels(opened, np.full(len(opened), TEST)) if all_test else _split_as_trained(opened, bundle.card)
        )
        cutouts = with_split(labelled, select)
        evaluation = evaluate(TrainedModel.load(bundle, recalibrate=recalibrate), cutouts)
        write_report(evaluation, cutouts, bundle.card, folder, figures=figures)
    return evaluation


def export_bundle(bundle: ModelBundle, data: Path, *, only_f32: bool = False) -> ModelBundle:
    """Compile the Keras model of a bundle again and replace the bundle by one with the new engines.

    Raises `InvalidBundle`, and leaves the bundle unchanged, if not even the float32 engine agrees with Keras.
    """
    card = bundle.card
    with open_cutouts(data) as opened, tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(bundle.path, scratch, ignore=shutil.ignore_patterns("openvino"), dirs_exist_ok=True)
        cutouts = _split_as_trained(opened, card)
        engines = export_engines(TrainedModel.load(bundle), cutouts, Path(scratch), only_f32=only_f32)
        return ModelBundle.write(bundle.path, card.model_copy(update={"engines": engines}), scratch)


def _split_as_trained(opened: Cutouts, card: Card) -> Cutouts:
    """Split a file without a split as for training, so that the model is not tested on its training galaxies."""
    recipe = {} if "split" in opened.columns else card.training.hyper_parameters
    return with_split(opened, recipe.get("select", ""), recipe.get("shares", ""))
