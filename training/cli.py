"""The command line of training. Heavy libraries are imported by the command that needs them, so that help is quick."""

import os
from pathlib import Path

import click

from photoz.errors import PhotozError
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.images import SDSS_IMAGES, ImageSpec

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
ANY_PATH = click.Path(path_type=Path)

# One home for the defaults that commands share.
DATA, BUNDLE, RUNS, REPORTS = Path("data/sample.h5"), Path("models/photoz"), Path("runs"), Path("reports")


class _Commands(click.Group):
    """Shows errors that are the user's to mend as one line; any other is a bug and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PhotozError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"show_default": True, "max_content_width": 110})
def main() -> None:
    r"""Make a sample, train a network on it, and see how good it is.

    \b
      python -m training sample       draw cutouts of galaxies with known redshifts
      python -m training train        train a network and write its model bundle
      python -m training evaluate     score a bundle beside catalogue methods

    Each command explains itself with --help.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets every user with warnings about GPUs


@main.command()
@click.argument("out", type=ANY_PATH, default=DATA)
@click.option("--catalogue", type=EXISTING_FILE, help="Your own galaxies (.fits, .csv, .parquet); without, kcorrect's.")
@click.option("--columns", default="", help="Names in your file, such as u=mag_u,g=mag_g,z_spec=specz,ebv=EBV.")
@click.option(
    "--quantity",
    type=click.Choice(["magnitude", "flux"]),
    default="magnitude",
    help="What the bands hold: AB magnitudes, or fluxes in nanomaggies; as observed, not dereddened.",
)
@click.option("--bands", default="".join(SDSS_IMAGES.bands), help="Bands to draw, of ugriz.")
@click.option("--size", default=SDSS_IMAGES.size, help="Side of a cutout in pixels.")
@click.option("--limit", type=click.IntRange(min=1), help="Draw the first galaxies only.")
@click.option(
    "--renderer",
    type=click.Choice(["fft", "galsim"]),
    default="fft",
    help="Fourier sums, or GalSim drawing each stamp (ten times slower).",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; all cores without.")
@click.option("--seed", default=0)
def sample(
    out: Path,
    catalogue: Path | None,
    columns: str,
    quantity: str,
    bands: str,
    size: int,
    limit: int | None,
    renderer: str,
    workers: int | None,
    seed: int,
) -> None:
    """Draw cutouts of galaxies whose fluxes and redshifts are known, and write them to OUT as HDF5.

    Without a catalogue, the galaxies are the 9,986 of the SDSS table that the package kcorrect ships: real photometry
    and real redshifts, drawn with GalSim's profiles, SDSS's seeing and SDSS's noise.
    """
    from training.catalogue import read_catalogue, read_kcorrect
    from training.sample import make_sample

    spec = ImageSpec(size=size, bands=_bands(bands))
    if catalogue:
        galaxies = read_catalogue(catalogue, _pairs(columns), spec.bands, are_magnitudes=quantity == "magnitude")
    else:
        galaxies = read_kcorrect(spec.bands)
    galaxies = galaxies.head(limit) if limit else galaxies
    make_sample(galaxies, out, spec, seed=seed, renderer=renderer, workers=workers)
    click.echo(f"{out}: {len(galaxies)} cutouts of {size}x{size} pixels in {','.join(spec.bands)}")


@main.command()
@click.option("--data", type=EXISTING_FILE, default=DATA, help="Cutouts with z_spec: .h5, .npz.")
@click.option(
    "--bundle", type=ANY_PATH, default=BUNDLE, help="Where the model bundle goes; its last part is the model's name."
)
@click.option("--run", type=ANY_PATH, help="Folder of checkpoint, logs and report.  [default: runs/NAME]")
@click.option("--resume", is_flag=True, help="Go on from the run's checkpoint, if there is one.")
@click.option(
    "--architecture", type=click.Choice(["compact", "inception"]), default="compact", help="Ours, or the document's."
)
@click.option(
    "--objective",
    type=click.Choice(["crps", "one-hot"]),
    help="CRPS with soft labels, or one-hot cross-entropy.  [default: by architecture]",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a step.  [default: by architecture]")
@click.option("--epochs", type=click.IntRange(min=1), help="At most so many passes.  [default: by architecture]")
@click.option("--learning-rate", type=float, help="At its highest.  [default: by architecture]")
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    help="Epochs without progress before it stops.  [default: by architecture]",
)
@click.option("--z-max", default=SDSS_GRID.z_max, help="Upper end of the redshift grid.")
@click.option("--n-bins", default=SDSS_GRID.n_bins, help="Bins of the redshift grid.")
@click.option("--bands", help="Bands of the images in order, such as griz.  [default: what the file says, or ugriz]")
@click.option("--pixel-scale", default=SDSS_IMAGES.pixel_scale, help="Arcsec per pixel, if --bands is given.")
@click.option("--unit", default=SDSS_IMAGES.unit, help="Unit of the pixels, if --bands is given.")
@click.option("--seed", default=0)
def train(
    data: Path,
    bundle: Path,
    run: Path | None,
    resume: bool,
    z_max: float,
    n_bins: int,
    bands: str | None,
    pixel_scale: float,
    unit: str,
    architecture: str,
    **recipe: object,
) -> None:
    """Train a network on cutouts and write its model bundle, with its scores on galaxies that it has not seen.

    A run that was killed goes on with --resume. A file without a column `split` is split here: a fifth to test on, a
    tenth of the rest to validate.
    """
    from training.pipeline import train_bundle
    from training.settings import settings_for

    settings = settings_for(architecture, **{name: value for name, value in recipe.items() if value is not None})
    spec = _spec(data, bands, pixel_scale, unit) if bands else None
    grid = RedshiftGrid(z_max, n_bins)
    made = train_bundle(data, spec, grid, settings, run or RUNS / bundle.name, bundle, resume=resume)
    click.echo(f"{made.path}: {made.card.name} {made.card.version}")


@main.command()
@click.argument("bundle", type=ANY_PATH, default=BUNDLE)
@click.argument("data", type=EXISTING_FILE, default=DATA)
@click.option("--out", type=ANY_PATH, help="Folder of metrics.json and report.html.  [default: reports/NAME]")
def evaluate(bundle: Path, data: Path, out: Path | None) -> None:
    """Score BUNDLE on the test galaxies of DATA, beside catalogue methods on the very same galaxies."""
    from photoz.bundle import ModelBundle
    from training.evaluation import table
    from training.pipeline import evaluate_bundle

    loaded = ModelBundle.load(bundle)
    folder = out or REPORTS / loaded.card.name
    evaluation = evaluate_bundle(loaded, data, folder)
    click.echo(table(evaluation.scores))
    click.echo(f"{folder}: metrics.json, report.html ({len(evaluation.rows)} galaxies)")


def _bands(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if "," in text else tuple(text)


def _pairs(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    if any(not separator for _, separator, _ in pairs):
        raise click.BadParameter(f"expected name=column,..., got {text!r}", param_hint="--columns")
    return {name.strip(): column.strip() for name, _, column in pairs}


def _spec(data: Path, bands: str, pixel_scale: float, unit: str) -> ImageSpec:
    from photoz.datasets import open_cutouts

    with open_cutouts(data) as cutouts:
        return ImageSpec(size=cutouts.images.shape[1], bands=_bands(bands), pixel_scale=pixel_scale, unit=unit)
