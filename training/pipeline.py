"""From a file of cutouts to a model bundle with its scores: fit, evaluate, export, seal."""

import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from photoz.bundle import KERAS_NAME, Architecture, Card, EngineRecord, Inputs, ModelBundle, TestRecord, TrainingRecord
from photoz.datasets import TRAIN, Cutouts, open_cutouts
from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from training import architectures, provenance
from training.evaluation import Evaluation, evaluate, table, write_report
from training.export import export_openvino
from training.fit import Fitted, fit
from training.predict import network_inputs
from training.rows import with_split
from training.settings import Settings

N_EXPORT_CHECK = 256

REPORT_FOLDER = "report"


def train_bundle(
    data: Path, spec: ImageSpec | None, grid: RedshiftGrid, settings: Settings, run: Path, path: Path, *, resume: bool
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

    Returns
    -------
    ModelBundle
        The new bundle.
    """
    with open_cutouts(data) as opened:
        cutouts = with_split(opened)
        spec = spec or cutouts.spec or ImageSpec(size=cutouts.images.shape[1])
        fitted = fit(cutouts, spec, grid, settings, run, resume=resume)
        evaluation = evaluate(fitted.model, cutouts, spec, grid, fitted.ebv_assumed)
        with tempfile.TemporaryDirectory() as scratch:
            fitted.model.save(Path(scratch) / KERAS_NAME)
            engine = _export(fitted, cutouts, spec, grid, Path(scratch))
            card = _card(path.name, data, cutouts, spec, grid, settings, fitted, evaluation, engine)
            bundle = ModelBundle.write(path, card, scratch)
        write_report(evaluation, cutouts, bundle.card, run / REPORT_FOLDER)
    print(table(evaluation.scores))
    return bundle


def _export(fitted: Fitted, cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid, folder: Path) -> EngineRecord:
    rows = cutouts.rows(TRAIN)[:N_EXPORT_CHECK]
    return export_openvino(fitted.model, folder, grid, network_inputs(cutouts, rows, spec, fitted.ebv_assumed))


def _card(
    name: str,
    data: Path,
    cutouts: Cutouts,
    spec: ImageSpec,
    grid: RedshiftGrid,
    settings: Settings,
    fitted: Fitted,
    evaluation: Evaluation,
    engine: EngineRecord,
) -> Card:
    created = datetime.now(UTC).replace(microsecond=0)
    source = cutouts.provenance or data.name
    return Card(
        name=name,
        version=created.strftime("%Y.%m.%d-%H%M%S"),
        created=created,
        grid=grid,
        image=spec,
        inputs=Inputs(ebv=architectures.takes_ebv(fitted.model), ebv_assumed=fitted.ebv_assumed),
        architecture=Architecture(name=settings.architecture, parameters=fitted.model.count_params()),
        training=TrainingRecord(
            data=source,
            data_sha256=provenance.file_sha256(data),
            n_train=fitted.n_train,
            n_validation=fitted.n_validation,
            hyper_parameters=asdict(settings),
            seed=settings.seed,
            epochs=len(fitted.history),
            git_commit=provenance.git_commit(),
            library_versions=provenance.library_versions(),
        ),
        test=TestRecord(data=source, n_galaxies=len(evaluation.rows), scores=evaluation.scores),
        engines=(engine,),
        caveats=provenance.caveats(source),
    )


def evaluate_bundle(bundle: ModelBundle, data: Path, folder: Path) -> Evaluation:
    """Score a bundle's Keras model on the test galaxies of a file and write the report.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    data : Path
        File of cutouts with z_spec; without a split, all galaxies are tested on.
    folder : Path
        Where metrics.json and report.html go.

    Returns
    -------
    Evaluation
        What was written.
    """
    import keras

    card = bundle.card
    model = keras.models.load_model(bundle.keras_path, compile=False, safe_mode=True)
    with open_cutouts(data) as opened:
        cutouts = with_split(opened)
        evaluation = evaluate(model, cutouts, card.image, card.grid, card.inputs.ebv_assumed)
        write_report(evaluation, cutouts, card, folder)
    return evaluation
