"""The command `adapt` of `python -m training`."""

from pathlib import Path

import click

from photoz.cli.command import Command
from photoz.cli.printing import show
from training import options
from training.options import ANY_PATH, BUNDLE, EXISTING_FILE, RUNS


@click.command(
    cls=Command,
    examples=("python -m training adapt models/photoz mine.h5 --bundle models/mine",),
)
@click.argument("parent", type=ANY_PATH, default=BUNDLE, metavar="BUNDLE")
@click.argument("data", type=EXISTING_FILE)
@click.option("--bundle", type=ANY_PATH, required=True, help="The bundle to write; its name is the model's name.")
@click.option("--run", type=ANY_PATH, help="Folder of checkpoints and report.  [default: runs/NAME]")
@click.option("--resume", is_flag=True, help="Continue an interrupted run from its checkpoints.")
@click.option(
    "--only", type=click.Choice(["calibration"]), help="Adapt recalibration and OOD statistics, not the network."
)
@click.option("--from-nothing", is_flag=True, help="Also train from nothing, to compare: takes twice as long.")
@options.seed_option
@options.figures_option
@options.only_f32_option
def adapt(
    parent: Path,
    data: Path,
    bundle: Path,
    run: Path | None,
    resume: bool,
    only: str | None,
    from_nothing: bool,
    seed: int,
    figures: bool,
    only_f32: bool,
) -> None:
    """Adapt a model to a survey with 50 redshifts or more.

    BUNDLE is the model, and DATA has cutouts of the survey with z_spec, in the bands and pixels of the model. The
    network changes only if that improves redshifts of galaxies that it was not adapted with. See docs/training.md.
    """
    from photoz.model.bundle import ModelBundle
    from training.adapt import Adaptation
    from training.adapt_bundle import adapt_bundle

    loaded, run = ModelBundle.load(parent), run or RUNS / bundle.name
    adaptation = Adaptation.of(
        loaded.card, seed=seed, only_calibration=only is not None, from_nothing=from_nothing, resume=resume
    )
    written, reading = adapt_bundle(loaded, data, bundle, run, adaptation, figures=figures, only_f32=only_f32)
    show(*reading.lines(), err=True)
    show(f"{written.path}: {written.card.name} {written.card.version}")
