"""The command `photoz inspect`: what a file of cutouts is taken for, without predicting."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from photoz.cli.command import Command
from photoz.cli.options import image_options
from photoz.cli.printing import show
from photoz.errors import counted
from photoz.images import SDSS_IMAGES
from photoz.io.contents import list_contents
from photoz.io.cutouts import Cutouts
from photoz.io.fields import open_or_cut
from photoz.io.file_list import first_file
from photoz.io.layout import conform
from photoz.io.options import ReadOptions
from photoz.io.pixel_units import PixelUnit
from photoz.model.bundle import ModelBundle
from photoz_client._cli_options import bundle_option, check_path


@click.command(
    cls=Command,
    examples=(
        "photoz inspect examples/cutouts.npz",
        "photoz inspect examples/cutouts.npz --bundle models/photoz",
    ),
)
@click.argument("cutouts", type=click.Path(path_type=Path), callback=check_path)
@image_options
@bundle_option
def inspect(cutouts: Path, bundle: Path | None, **options: Any) -> None:
    """Say what a file of cutouts is taken for, without predicting.

    Each HDU, dataset or column is listed, of the first file if there are several, even if the file is refused then.
    The cutouts are compared with what the model of --bundle takes, by default with the layout of SDSS.
    """
    spec = SDSS_IMAGES if bundle is None else ModelBundle.load(bundle).card.image
    (first, n_files), given = first_file(cutouts), ReadOptions(**options)
    show(f"{first}:" if n_files == 1 else f"{first}, the first of {counted(n_files, 'file')}:")
    show(*(f"  {line}" for line in list_contents(first, given)))
    with open_or_cut(cutouts, spec, given) as opened:
        show(*_description(cutouts, opened))
        conformed, reading = conform(opened, spec, given)
        if "ebv" not in conformed.columns:
            reading.assumed.append("E(B-V) is unknown")
        show(*reading.lines())


def _description(path: Path, cutouts: Cutouts) -> Iterator[str]:
    """Yield what a file says, a line for each property."""
    described = cutouts.spec or cutouts
    n, *shape = cutouts.images.shape
    yield f"{path}: {counted(n, 'cutout')} of {'x'.join(map(str, shape))} numbers"
    yield f"bands: {','.join(described.bands) or 'not given'}"
    unit = PixelUnit(described.unit, None if cutouts.spec else cutouts.zero_point)
    yield f"pixels: {'a unit or zero point for each image' if cutouts.factors is not None else unit}"
    yield f"pixel scale: {f'{described.pixel_scale:.4g} arcsec' if described.pixel_scale else 'not given'}"
    for name, values in cutouts.columns.items():
        unit_of_column = cutouts.column_units.get(name, "")
        kind = "text" if values.dtype.kind in "US" else values.dtype.name
        yield f"column {name}: {kind}" + (f", {unit_of_column}" if unit_of_column else "")
