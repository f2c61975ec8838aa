"""Cut out a single galaxy in this process, with the options of the command ``photoz sky``."""

from collections.abc import Sequence

import click

from photoz.errors import InvalidDataset, InvalidInput
from photoz.io.cutouts import Cutouts
from photoz_survey.sky.archive import ArchiveError
from photoz_survey.sky.command import sky
from photoz_survey.sky.cut_out import SOURCE_OPTIONS, locate, open_source
from photoz_survey.sky.cutout_file import NOT_FOUND, provenance
from photoz_survey.sky.targets import Targets


def cut_out_position(ra: float, dec: float, options: Sequence[str] = ()) -> Cutouts:
    """Cut out the galaxy at a position, as ``photoz sky RA DEC OPTIONS`` does, and return its cutout in memory.

    Parameters
    ----------
    ra, dec : float
        Degrees, ICRS.
    options : sequence of str
        Options of the command that say where images and E(B-V) come from, such as `["--source", "ls-dr10"]`; those for
        output and redshifts have no effect.

    Raises
    ------
    PhotozError
        With the reason that the command prints.
    """
    try:
        with sky.make_context("sky", list(options)) as context:
            given = context.params
        source = open_source(workers=1, **{name: given[name] for name in SOURCE_OPTIONS})
        targets = locate(Targets.of(ra, dec), given["sfd"], source)
        rows = next(source.divide(targets), None)
        cut = None if rows is None else source.cut(targets)
    except click.ClickException as error:
        raise InvalidInput(error.format_message()) from error
    except OSError as error:  # of the cache
        raise ArchiveError(str(error)) from error
    if cut is None or cut.reasons[0]:
        raise InvalidDataset(f"no cutout of 1 position: {cut.reasons[0] if cut else NOT_FOUND}")
    return Cutouts(cut.images, targets.columns(), source.image, provenance(source))
