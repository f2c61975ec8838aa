"""Cutouts of a position on the sky, out of an archive, by `photoz sky`: where the operator allows it."""

import importlib
import logging
import shlex
from collections.abc import Sequence
from http import HTTPStatus
from importlib.util import find_spec

from pebble import ProcessExpired

from photoz.errors import InvalidInput, reason
from photoz.images import ImageSpec
from photoz.io.cutouts import Reading
from photoz.processes import limit_process, process_pool
from photoz.protocol.contract import SkyRequest
from photoz.validation import Arrays
from service.errors import RequestError
from service.files import conformed_arrays
from service.jobs import JobQueue
from service.request import Request

logger = logging.getLogger("bentoml.photoz")

PACKAGES = ("astroquery", "photoz_client", "photoz_survey", "reproject")

TIMEOUT = 120  # seconds; a field has five frames of 4 MB

# Memory of a child beside the libraries, and processor time: 290 MB and 13 s for 1024 pixels in one field.
ALLOWED_BYTES, CPU_SECONDS = 512 * 1024 * 1024, 60

# Positions that are looked up or wait, in all and of one client; one at a time is looked up.
MAX_QUEUED, MAX_OF_CLIENT = 8, 4

# What clients read in place of what an archive said, which the log has.
UNREACHABLE = "the archive does not answer: try again later"
UNUSABLE = "the archive gave no image of it that can be used; the log of the service says why"


def check_options(options: str, spec: ImageSpec) -> None:
    """Raise `InvalidInput` if PHOTOZ_SKY cannot be used with a model that takes `spec`."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise InvalidInput(f"PHOTOZ_SKY needs {', '.join(missing)}: install photoz[sky]")
    pool = process_pool()  # the libraries take 100 MB
    try:
        pool.schedule(_parse_options, (shlex.split(options), spec)).result()
    except ValueError as error:  # of shlex too
        raise InvalidInput(f"PHOTOZ_SKY={options} cannot be used: {error}") from error
    finally:
        pool.stop()
        pool.join()


def _parse_options(options: Sequence[str], spec: ImageSpec) -> None:
    from photoz_survey.sky.position import open_position_source

    open_position_source(options, spec)


class SkyArchive:
    """The archive of the options of `photoz sky`, for a model that takes `spec`; without options there is none."""

    def __init__(self, options: str | None, spec: ImageSpec) -> None:
        self._options = None if options is None else shlex.split(options)
        self._spec = spec
        self._jobs = JobQueue("positions are looked up or wait", MAX_QUEUED, MAX_OF_CLIENT, prepare=load_libraries)

    async def cut_out(self, request: Request, position: SkyRequest) -> Arrays:
        """Return the arrays of the cutout at a position; what was used and assumed becomes `reading` of the request."""
        if self._options is None:
            message = "this service does not reach an archive: its operator may allow that, with PHOTOZ_SKY"
            raise RequestError(HTTPStatus.NOT_FOUND, message)
        job = (str(position), self._options, self._spec)
        try:
            arrays, request.reading = await self._jobs.run(request.client, TIMEOUT, cut_out, *job)
        except ProcessExpired as error:
            logger.warning("no cutout of %r: the child ended with %s", str(position), error.exitcode)
            raise RequestError(HTTPStatus.BAD_GATEWAY, UNUSABLE) from error
        except RequestError as error:
            for note in getattr(error, "__notes__", ()):
                logger.warning("no cutout of %r: %s", str(position), note)
            raise
        return arrays


def load_libraries() -> None:
    """Import astropy, astroquery and reproject, which takes seconds, before there is a position."""
    importlib.import_module("photoz_survey.sky.position")


def cut_out(position: str, options: Sequence[str], spec: ImageSpec) -> tuple[Arrays, Reading]:
    """Return the arrays of the cutout at a position, and what was used and assumed; runs in a child.

    Raises `RequestError`, whose notes are for the log: they may quote the archive.
    """
    from photoz_survey.sky.position import NoImage, cut_out_position
    from photoz_survey.sky.session import Unreachable

    limit_process(ALLOWED_BYTES, CPU_SECONDS)
    try:
        return conformed_arrays(cut_out_position(position, options, spec), spec)
    except InvalidInput:
        raise
    except NoImage as error:
        failure = RequestError(HTTPStatus.NOT_FOUND, str(error))
    except Exception as error:  # a library that fails on what the archive sent raises anything
        failure = RequestError(HTTPStatus.BAD_GATEWAY, UNREACHABLE if isinstance(error, Unreachable) else UNUSABLE)
        failure.add_note(reason(error) or type(error).__name__)
    raise failure
