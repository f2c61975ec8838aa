"""Cutouts of a position on the sky, out of an archive, by `photoz sky`: where the operator allows it."""

import shlex
from collections.abc import Sequence
from http import HTTPStatus
from importlib.util import find_spec

from pebble import ProcessExpired

from photoz.errors import InvalidInput, PhotozError
from photoz.images import ImageSpec
from photoz.io.cutouts import Reading
from photoz.protocol.contract import SkyRequest
from photoz.validation import Arrays
from service.errors import RequestError
from service.files import conformed_arrays
from service.jobs import JobQueue
from service.request import Request

PACKAGES = ("astroquery", "photoz_client", "photoz_survey", "reproject")

TIMEOUT = 120  # seconds; a field has five frames of 4 MB

# Positions that are looked up or wait, in all and of one client; one at a time is looked up.
MAX_QUEUED, MAX_OF_CLIENT = 8, 4


def check_packages() -> None:
    """Raise `InvalidInput` if positions cannot be looked up here."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise InvalidInput(f"PHOTOZ_SKY needs {', '.join(missing)}: install photoz[sky]")


class SkyArchive:
    """The archive of the options of `photoz sky`, for a model that takes `spec`; without options there is none."""

    def __init__(self, options: str | None, spec: ImageSpec) -> None:
        self._options = None if options is None else shlex.split(options)
        self._spec = spec
        self._jobs = JobQueue("positions are looked up or wait", MAX_QUEUED, MAX_OF_CLIENT)

    async def cut_out(self, request: Request, position: SkyRequest) -> Arrays:
        """Return the arrays of the cutout at a position; what was used and assumed becomes `reading` of the request."""
        if self._options is None:
            message = "this service does not reach an archive: its operator may allow that, with PHOTOZ_SKY"
            raise RequestError(HTTPStatus.NOT_FOUND, message)
        job = (position.ra, position.dec, self._options, self._spec)
        try:
            arrays, request.reading = await self._jobs.run(request.client, TIMEOUT, cut_out, *job)
        except ProcessExpired as error:
            message = f"the process that asked the archive ended with {error.exitcode}"
            raise RequestError(HTTPStatus.BAD_GATEWAY, message) from error
        return arrays


def cut_out(ra: float, dec: float, options: Sequence[str], spec: ImageSpec) -> tuple[Arrays, Reading]:
    """Return the arrays of the cutout at a position, and what was used and assumed; runs in a child."""
    from photoz_survey.sky.position import cut_out_position  # takes seconds: astropy, astroquery and reproject

    try:
        cutouts = cut_out_position(ra, dec, options)
    except PhotozError as error:
        raise RequestError(HTTPStatus.BAD_GATEWAY, str(error)) from None
    return conformed_arrays(cutouts, spec)
