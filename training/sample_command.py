"""The command `sample` of `python -m training`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from photoz.cli.command import Command
from photoz.cli.options import SELECT, WORKERS
from photoz.cli.printing import show
from photoz.images import SDSS_IMAGES, ImageSpec, parse_bands
from photoz.selection import parse_conditions
from training import options
from training.imaging_surveys import Survey, read_survey
from training.options import ANY_PATH, DATA, EXISTING_FILE, EXISTING_FOLDER, POSITIVE, SURVEY_HELP

if TYPE_CHECKING:
    from training.catalogue import Catalogue


@click.command(
    cls=Command,
    examples=(
        "python -m training sample data/sample.h5 --limit 100",
        "python -m training sample mine.h5 --catalogue galaxies.csv --columns g=mag_g,r=mag_r,i=mag_i --bands gri",
    ),
)
@click.argument("out", type=ANY_PATH, default=DATA)
@click.option(
    "--catalogue",
    type=EXISTING_FILE,
    help="Your own galaxies (.csv, .csv.gz, .ecsv, .fits, .parquet, .vot, .xml) instead of kcorrect's.",
)
@click.option(
    "--columns", default="", help="Names in your file, such as u=mag_u,g=mag_g,u_err=sigma_u,z_spec=specz,ebv=EBV."
)
@click.option(
    "--quantity",
    type=click.Choice(["magnitude", "flux"]),
    default="magnitude",
    help="Quantity in the bands and their errors: AB magnitudes, or fluxes, in nanomaggies where they have no unit.",
)
@click.option("--dereddened", is_flag=True, help="They are corrected for reddening, which is added again; needs ebv.")
@click.option(
    "--select",
    default="",
    callback=options.checked_by(parse_conditions),
    help=f"{SELECT} 'r<=17.8,z_spec<=0.4'; observed magnitudes, z_spec, ebv, ra, dec.",
)
@click.option("--survey", default="sdss", help=SURVEY_HELP)
@click.option("--bands", default="", help="Bands to draw, such as griz.  [default: all of the survey]")
@click.option("--size", default=SDSS_IMAGES.size, help="Side of a cutout in pixels.")
@click.option("--limit", type=POSITIVE, help="Draw only the first galaxies.")
@click.option("--renderer", type=click.Choice(["fft", "galsim"]), default="fft", help="GalSim takes ten times as long.")
@click.option("--renders", type=POSITIVE, default=1, help="Cutouts of each galaxy that is not for testing.")
@click.option(
    "--frames",
    type=EXISTING_FOLDER,
    help="Draw into the frames in this folder, with their sky, noise, PSF and neighbours, instead of rendering these.",
)
@click.option("--workers", type=POSITIVE, help=WORKERS)
@options.seed_option
@options.report_option
def sample(
    out: Path,
    catalogue: Path | None,
    columns: str,
    quantity: str,
    dereddened: bool,
    select: str,
    survey: str,
    bands: str,
    size: int,
    limit: int | None,
    renderer: str,
    renders: int,
    frames: Path | None,
    workers: int | None,
    seed: int,
    report: Path | None,
) -> None:
    """Simulate cutouts of galaxies with known redshifts.

    The cutouts are written to OUT as HDF5. By default they show the 9,986 galaxies of the SDSS table in the package
    kcorrect, with real photometry and redshifts. They are drawn with GalSim's profiles and with the pixels, seeing and
    noise of the survey; fluxes are not converted to the bands of another survey.
    """
    from training.sample import make_sample

    imaging_survey = read_survey(survey)
    spec = _spec(imaging_survey, bands, size)
    if not catalogue and (columns or dereddened):
        raise click.UsageError("--columns and --dereddened describe a file: expected --catalogue FILE")
    galaxies = _read(catalogue, columns, spec, quantity, dereddened)
    galaxies = galaxies.select(select, spec.bands) if select else galaxies
    galaxies = galaxies.head(limit) if limit else galaxies
    options.print_report(galaxies.describe(spec.bands), report)
    make_sample(
        galaxies,
        out,
        spec,
        imaging_survey,
        seed=seed,
        renderer=renderer,
        renders=renders,
        workers=workers,
        fields=_fields(frames, spec),
    )
    show(f"{out}: {len(galaxies)} galaxies of {size}x{size} pixels in {','.join(spec.bands)}")


def _spec(survey: Survey, bands: str, size: int) -> ImageSpec:
    try:
        return survey.images(parse_bands(bands), size)
    except ValueError as error:
        names = bands or ",".join(survey.bands)
        message = f"cannot draw {size} pixels in the bands {names!r}: expected 8 to 1024 pixels and distinct bands"
        raise click.UsageError(message) from error


def _read(path: Path | None, columns: str, spec: ImageSpec, quantity: str, dereddened: bool) -> "Catalogue":
    from training.catalogue import read_kcorrect
    from training.catalogue_reader import read_catalogue

    if path is None:
        return read_kcorrect(spec.bands)
    are_magnitudes = quantity == "magnitude"
    return read_catalogue(path, _pairs(columns), spec, are_magnitudes=are_magnitudes, dereddened=dereddened)


def _fields(folder: Path | None, spec: ImageSpec) -> tuple[tuple[Path, ...], ...]:
    """Return the frames of each field in a folder, and say what is left out."""
    if folder is None:
        return ()
    try:
        from training.observed import find_fields
    except ModuleNotFoundError as error:
        raise click.UsageError(f"--frames needs {error.name}: pip install 'photoz[frames]'") from error
    fields, incomplete = find_fields(folder, spec.bands)
    show(f"{folder}: {len(fields)} fields in {','.join(spec.bands)}")
    if incomplete:
        show(f"  left out: {', '.join(incomplete)}, without all of these bands")
    return tuple(fields.values())


def _pairs(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    names = [name.strip() for name, _, _ in pairs]
    if any(not separator for _, separator, _ in pairs) or len(set(names)) < len(names):
        raise click.BadParameter(f"expected name=column,... with distinct names, got {text!r}", param_hint="--columns")
    return {name.strip(): column.strip() for name, _, column in pairs}
