"""Cut out a single galaxy in this process, with the options of the command ``photoz sky``."""

from collections.abc import Sequence
from typing import Any

import click

from photoz.errors import InvalidDataset, InvalidInput
from photoz.images import ImageSpec
from photoz.io.cutouts import Cutouts
from photoz_survey.sky.command import sky
from photoz_survey.sky.cut_out import SOURCE_OPTIONS, check_maps, locate, open_source
from photoz_survey.sky.cutout_file import NOT_FOUND, Source, provenance
from photoz_survey.sky.frames import OUTSIDE
from photoz_survey.sky.legacy import NOT_COVERED
from photoz_survey.sky.names import find_position
from photoz_survey.sky.session import ArchiveError
from photoz_survey.sky.source import Cut


class NoImage(InvalidDataset):
    """An archive has no image of a position."""


def open_position_source(options: Sequence[str], image: ImageSpec | None = None) -> tuple[Source, dict[str, Any]]:
    """Return the source of the options of ``photoz sky``, of the cutouts that a model takes, and these options.

    Raises `InvalidInput` if the options cannot be used, or the archive does not have such images.
    """
    try:
        with sky.make_context("sky", list(options)) as context:
            given = context.params
    except click.ClickException as error:
        raise InvalidInput(error.format_message()) from error
    except click.exceptions.Exit as error:
        raise InvalidInput("--help is no option that describes an archive") from error
    if given["position"]:
        raise InvalidInput(f"expected options of photoz sky, got {' '.join(map(str, given['position']))}")
    if given["sfd"] is not None:
        check_maps(given["sfd"])
    source = open_source(workers=1, **{name: given[name] for name in SOURCE_OPTIONS})
    return source if image is None else source.for_images(image), given


def cut_out_position(position: str, options: Sequence[str] = (), image: ImageSpec | None = None) -> Cutouts:
    """Cut out the galaxy at a position, as ``photoz sky POSITION OPTIONS`` does, and return its cutout in memory.

    Parameters
    ----------
    position : str
        RA and Dec in degrees, ICRS, or sexagesimal, or the name of an object.
    options : sequence of str
        Options of the command that say where images and E(B-V) come from, such as `["--source", "ls-dr10"]`; those for
        output and redshifts have no effect.
    image : ImageSpec, optional
        The images that a model takes; by default those of the options.

    Raises
    ------
    PhotozError
        With the reason that the command prints: `NoImage`, `ArchiveError` if the archive gives something else, and
        `Unreachable`.
    """
    source, given = open_position_source(options, image)
    try:
        targets = locate(find_position(position, given["offline"]), given["sfd"], source)
        rows = next(source.divide(targets), None)
        cut = source.cut(targets) if rows is not None else Cut.empty(1, source.image)
    except OSError as error:  # of the cache
        raise ArchiveError(str(error)) from error
    if failure := NOT_FOUND if rows is None else cut.reasons[0]:
        kind = NoImage if failure in (NOT_FOUND, OUTSIDE, NOT_COVERED) else ArchiveError
        raise kind(f"no cutout of 1 position: {failure}")
    return Cutouts(cut.images, targets.columns(), source.image, provenance(source))
