"""The command line of training. Each command imports the heavy libraries it needs, so that help is quick."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from photoz.cli.command import Group
from photoz.cli.options import SELECT
from photoz.cli.printing import show
from photoz.cli.text import reading_report
from photoz.errors import reason
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.images import ImageSpec, parse_bands
from photoz.io.cutouts import Reading
from photoz.model.card import EngineRecord
from photoz.selection import parse_conditions
from training import options
from training.adapt_command import adapt
from training.imaging_surveys import read_survey
from training.options import ANY_PATH, BUNDLE, DATA, EXISTING_FILE, POSITIVE, REPORTS, RUNS, SURVEY_HELP, checked_by
from training.recipes import BY_ARCHITECTURE, PRECISIONS, PRESETS, TrainingSettings, settings_for
from training.sample_command import sample
from training.splits import parse_shares


@click.group(cls=Group, context_settings={"show_default": True, "max_content_width": 110})
def main() -> None:
    """Simulate a sample, train a network on it, and evaluate it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # otherwise TensorFlow warns about missing GPUs


main.add_command(sample)
main.add_command(adapt)


@main.command(examples=("python -m training convert examples/cutouts.npz mine.h5 --bands ugriz",))
@click.argument("source", type=ANY_PATH)
@click.argument("target", type=ANY_PATH)
@click.option(
    "--bands", default="", help="Bands in order, such as griz: those of the file, or those to select from it."
)
@click.option("--size", type=int, help="Side of the cutouts in pixels; larger ones are cropped to their centre.")
@click.option("--pixel-scale", type=float, help="Arcsec per pixel, if neither the file nor the survey gives it.")
@click.option("--resample", is_flag=True, help="Resample pixels of another scale to that of --pixel-scale or --survey.")
@click.option("--survey", default="", help=SURVEY_HELP)
@click.option("--select", default="", callback=checked_by(parse_conditions), help=f"{SELECT} 'z_spec>=0'.")
@options.report_option
def convert(
    source: Path,
    target: Path,
    bands: str,
    size: int | None,
    pixel_scale: float | None,
    resample: bool,
    survey: str,
    select: str,
    report: Path | None,
) -> None:
    """Convert cutouts of any format to HDF5.

    SOURCE is a FITS, .h5, .npz, .npy, Zarr or Parquet file, or a folder of them, and is read in blocks. Name a survey,
    or use the other options, for what it does not say about its bands and pixels. The published cube of Pasquet et al.
    2019 (.npz) needs conversion only if it is compressed. The layouts of docs/public-sets.md are recognised.

    A pickle (.pkl, .pickle) holds a dict of plain numpy arrays with `images` and `z_spec`, or that pair. It is read
    into memory, and nothing in it is executed. Name its bands when you train: --bands griz.
    """
    from photoz.io.pasquet import is_pasquet
    from training.convert import convert_cube, convert_cutouts, convert_pickle

    reading = Reading()
    is_pickle = source.suffix.lower() in (".pkl", ".pickle")
    if is_pickle or (source.is_file() and source.suffix.lower() == ".npz" and is_pasquet(source)):
        if select:
            raise click.UsageError("--select is not for pickles and the published cube: use it in training")
        n_read = n = convert_pickle(source, target) if is_pickle else convert_cube(source, target)
    else:
        imaging_survey = read_survey(survey) if survey else None
        n_read, n, reading = convert_cutouts(
            source, target, parse_bands(bands), size, pixel_scale, imaging_survey, select, resample
        )
    options.print_report(reading_report(source, n_read, reading, f"not {select}", n_read - n), report)
    show(f"{target}: {n} cutouts")


@main.command(
    examples=(
        "python -m training train --data mine.h5 --bundle models/mine --epochs 8",
        "python -m training train --data mine.h5 --bundle models/mine --epochs 8 --resume",
    ),
)
@click.option("--data", type=EXISTING_FILE, default=DATA, help="Cutouts with z_spec: .h5, .npz, or the published cube.")
@click.option(
    "--bundle", type=ANY_PATH, default=BUNDLE, help="The model bundle to write; its name is the model's name."
)
@click.option("--run", type=ANY_PATH, help="Folder of checkpoint, logs and report.  [default: runs/NAME]")
@click.option("--resume", is_flag=True, help="Continue an interrupted run from its checkpoint, if there is one.")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="A complete recipe: inception with plain Adam, or Pasquet et al. 2019 with selection, split and six seeds.",
)
@click.option(
    "--architecture", type=click.Choice(list(BY_ARCHITECTURE)), help="The network.  [default: by preset, or compact]"
)
@click.option(
    "--objective",
    type=click.Choice(["crps", "one-hot"]),
    help="CRPS with soft labels, or one-hot.  [default: by recipe]",
)
@click.option(
    "--precision", type=click.Choice(PRECISIONS), help="mixed_bfloat16 is faster; not for compact.  [default: float32]"
)
@options.batch_size_option
@click.option("--epochs", type=POSITIVE, help="Maximum number of epochs.  [default: by recipe]")
@click.option("--learning-rate", type=float, help="Highest learning rate.  [default: by recipe]")
@click.option("--patience", type=POSITIVE, help="Epochs without progress before training stops.  [default: by recipe]")
@click.option("--z-max", default=SDSS_GRID.z_max, help="Upper end of the redshift grid.")
@click.option("--n-bins", default=SDSS_GRID.n_bins, help="Bins of the redshift grid.")
@click.option("--survey", help=f"Survey of the images: {SURVEY_HELP}  [default: from the file, or sdss]")
@click.option("--bands", help="Bands of the images in order, such as griz.  [default: from the file or the survey]")
@click.option("--pixel-scale", type=float, help="Arcsec per pixel.  [default: from the file or the survey]")
@click.option("--unit", help="Unit of the pixels.  [default: from the file, or nanomaggy]")
@options.seed_option
@click.option(
    "--seeds",
    type=POSITIVE,
    help="Number of networks to average, with seeds from --seed on.  [default: by recipe, or 1]",
)
@click.option(
    "--folds", type=click.IntRange(min=2), help="Train on validation galaxies too, and calibrate by cross-fitting."
)
@click.option(
    "--select",
    callback=checked_by(parse_conditions),
    help=f"{SELECT} 'dered_petro_r<=17.8,z_spec<=0.4'; any column.  [default: by recipe, or all]",
)
@click.option(
    "--split",
    "shares",
    callback=checked_by(parse_shares),
    help="Shares for training, validation and testing, such as 0.7,0.1,0.2.  [default: by recipe, or from the file]",
)
@options.figures_option
@options.only_f32_option
def train(
    data: Path,
    bundle: Path,
    run: Path | None,
    resume: bool,
    z_max: float,
    n_bins: int,
    survey: str | None,
    bands: str | None,
    pixel_scale: float | None,
    unit: str | None,
    figures: bool,
    only_f32: bool,
    **recipe: Any,
) -> None:
    """Train a network and write its model bundle.

    The bundle records the scores on the test galaxies. Use --resume to continue an interrupted run. Without a column
    `split`, a fifth of the galaxies are for testing and a tenth of the rest for validation. See docs/training.md.
    """
    from training.pipeline import train_bundle

    settings = _settings(recipe)
    spec = _spec(data, survey, bands, {"pixel_scale": pixel_scale, "unit": unit})
    grid = RedshiftGrid(z_max, n_bins)
    run = run or RUNS / bundle.name
    written = train_bundle(data, spec, grid, settings, run, bundle, resume=resume, figures=figures, only_f32=only_f32)
    show(f"{written.path}: {written.card.name} {written.card.version}")


@main.command(examples=("python -m training evaluate models/photoz data/sample.h5 -o reports/photoz",))
@options.bundle_argument
@options.data_argument
@click.option(
    "-o", "--output", type=ANY_PATH, help="Folder of metrics.json, report.html, figures/.  [default: reports/NAME]"
)
@click.option(
    "--calibration/--no-calibration", default=True, help="Recalibrate the PDFs with the bundle's calibration."
)
@click.option("--select", default="", help=f"{SELECT} 'z_spec<=0.2,ebv<0.1'; any column.  [default: all]")
@click.option("--all", "all_test", is_flag=True, help="Score all galaxies, if the model was trained on none of them.")
@options.figures_option
def evaluate(
    bundle: Path, data: Path, output: Path | None, calibration: bool, select: str, all_test: bool, figures: bool
) -> None:
    """Score a bundle and catalogue methods on the test galaxies of DATA.

    The catalogue methods are trained on the other galaxies of DATA, and left out if there are fewer than five.
    """
    from photoz.model.bundle import ModelBundle
    from training.evaluation import table
    from training.pipeline import evaluate_bundle

    loaded = ModelBundle.load(bundle)
    folder = output or REPORTS / loaded.card.name
    evaluation = evaluate_bundle(
        loaded, data, folder, recalibrate=calibration, figures=figures, select=select, all_test=all_test
    )
    click.echo(table(evaluation.scores))
    show(f"{folder}: metrics.json, report.html, figures ({len(evaluation.rows)} galaxies)")


@main.command(examples=("python -m training export models/mine mine.h5",))
@options.bundle_argument
@options.data_argument
@options.only_f32_option
def export(bundle: Path, data: Path, only_f32: bool) -> None:
    """Compile the network of a bundle for serving.

    The compiled copies run without TensorFlow; `train` makes them at its end. The network is quantised with training
    galaxies of DATA. Copies whose predictions for the test galaxies differ from those of Keras are left out. The bundle
    is replaced by one with the new copies, the fastest first.
    """
    from photoz.model.bundle import ModelBundle
    from training.pipeline import export_bundle

    written = export_bundle(ModelBundle.load(bundle), data, only_f32=only_f32)
    for engine in written.card.engines:
        show(_engine_line(engine))
    show(f"{written.path}: {len(written.card.engines)} engines, the first is the default of PHOTOZ_ENGINE=auto")


def _engine_line(engine: EngineRecord) -> str:
    check = engine.check
    assert check is not None  # every export measures it
    return (
        f"{engine.name}: {check.images_per_second:.0f} images/s; CRPS {check.crps_ratio:.4f} and sigma_MAD "
        f"{check.sigma_mad_ratio:.4f} of Keras's, z_mean within {engine.max_z_mean_difference:.1g}, "
        f"{check.flag_changes:.2%} of flags changed ({engine.n_compared} galaxies)"
    )


@main.command(
    "learning-curve",
    examples=("python -m training learning-curve --data data/sample.h5 --size 500 --size 1000",),
)
@click.option("--data", type=EXISTING_FILE, default=DATA, help="Cutouts with z_spec.")
@click.option("--run", type=ANY_PATH, default=RUNS / "learning-curve", help="Folder of the runs and of the result.")
@click.option("--architecture", type=click.Choice(list(BY_ARCHITECTURE)), default="compact", help="The network.")
@click.option("--size", "sizes", type=POSITIVE, multiple=True, help="Number of training galaxies; may be repeated.")
@options.batch_size_option
@click.option("--epochs", type=POSITIVE, help="Epochs for all galaxies.  [default: by recipe]")
@options.seed_option
def learning_curve(data: Path, run: Path, sizes: tuple[int, ...], **recipe: Any) -> None:
    """Train on samples of growing size.

    By default they have 500 to 8,000 galaxies. All networks are scored on the same test galaxies. Rerun the command to
    resume an interrupted curve. `evaluate` shows the curve in runs/learning-curve.
    """
    from training.learning_curve import RESULT, SIZES
    from training.learning_curve import learning_curve as run_curve

    points = run_curve(data, SDSS_GRID, _settings(recipe), run, sizes or SIZES)
    show(f"{run / RESULT}: {len(points)} networks")


def _settings(recipe: dict[str, Any]) -> TrainingSettings:
    try:
        return settings_for(**{name: value for name, value in recipe.items() if value is not None})
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _spec(data: Path, survey: str | None, bands: str | None, changes: dict[str, Any]) -> ImageSpec:
    """Return the layout of a file of cutouts, from the options, else the file, else the survey, else SDSS."""
    from photoz.io.layout import same_scale
    from photoz.io.reader import open_cutouts

    imaging_survey = read_survey(survey or "sdss")
    changes = {name: value for name, value in changes.items() if value is not None}
    with open_cutouts(data) as cutouts:
        spec, shape = cutouts.spec, cutouts.images.shape
    if len(shape) != 4 or shape[1] != shape[2]:
        raise click.UsageError(
            f"{data}: expected images of shape (n, size, size, n_bands), got {shape}; bring them into this layout with "
            "python -m training convert"
        )
    try:
        if spec is None or survey or bands:
            names = parse_bands(bands or "") or (spec.bands if spec else ())
            described: dict[str, Any] = {"pixel_scale": spec.pixel_scale, "unit": spec.unit} if spec else {}
            scale = imaging_survey.pixel_scale
            if survey and spec and not same_scale(spec.pixel_scale, scale) and "pixel_scale" not in changes:
                raise click.UsageError(
                    f"{data} has pixels of {spec.pixel_scale:g} arcsec, {imaging_survey.title} of {scale:g}: use "
                    "--pixel-scale to say which is right"
                )
            spec = replace(imaging_survey.images(names, shape[1]), **described)
        return replace(spec, **changes)
    except ValueError as error:
        raise click.UsageError(f"this does not describe the images: {reason(error)}") from error
