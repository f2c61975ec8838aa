"""What several commands of `photoz` take, and what becomes of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from photoz.io.cutouts import Cutouts
from photoz_client._client import IN_FLIGHT, PhotozClient
from photoz_client._galaxies import Galaxies
from photoz_client._keys import ENVIRONMENT_VARIABLE, read_key
from photoz_client._splits import opened

DEFAULT_URL = "http://127.0.0.1:3000"

# The service takes up to a minute for a report; who waits at a shell can interrupt.
TIMEOUT = 120.0

Command = Callable[..., None]

url_option = click.option(
    "--url", envvar="PHOTOZ_URL", default=DEFAULT_URL, show_default=True, show_envvar=True, help="Where the service is."
)


def key_file_option(name: str, parameter: str, help: str) -> Callable[[Command], Command]:
    """Make an option that reads a key from a file.

    The key itself is no option: everyone on a machine can read the command lines of everyone else.

    Parameters
    ----------
    name : str
        Of the option.
    parameter : str
        Of the command, to get the key or None.
    help : str
        What the option is for.

    Returns
    -------
    callable
        Decorator of a command.
    """
    return click.option(
        name,
        parameter,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        callback=lambda context, parameter, path: None if path is None else read_key(path),
        help=help,
    )


key_option = key_file_option(
    "--api-key-file",
    "api_key",
    f"File that holds the service's API key, in place of the environment variable {ENVIRONMENT_VARIABLE}.",
)


@dataclass(frozen=True)
class Job:
    """Which cutouts to send, and how.

    Parameters
    ----------
    cutouts : Path
        A .npy, .npz or .h5 file.
    ebv : float or None
        E(B-V) in mag for all, in place of the file's column.
    split : str or None
        Only the rows whose column 'split' says so.
    in_flight : int
        Requests on their way at once.
    """

    cutouts: Path
    ebv: float | None
    split: str | None
    in_flight: int

    def opened(self) -> AbstractContextManager[Cutouts]:
        """Open the file for as long as a block."""
        return opened(self.cutouts, self.split)

    def client(self, url: str, api_key: str | None) -> PhotozClient:
        """Make a client that sends them to a service."""
        return PhotozClient(url, api_key=api_key, timeout=TIMEOUT, in_flight=self.in_flight)

    def predict_options(self, galaxies: Cutouts, pdf: bool) -> dict[str, Any]:
        """Options of `PhotozClient.predict` for the galaxies of the opened file."""
        return {
            "ebv": galaxies.columns.get("ebv") if self.ebv is None else self.ebv,
            "object_id": galaxies.columns.get("object_id"),
            "pdf": pdf,
            "progress": Galaxies.of(galaxies.images).takes_parts(),
        }


def takes_cutouts(command: Command) -> Command:
    """Give a command the argument CUTOUTS and the options that go with it; it is called with a `Job` of them first."""

    @click.argument("cutouts", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @click.option("--ebv", type=float, help="E(B-V) in mag for all cutouts, instead of the file's column.")
    @click.option("--split", help="Only the rows whose column 'split' says so, such as test.")
    @click.option(
        "--in-flight",
        type=click.IntRange(min=1),
        default=IN_FLIGHT,
        show_default=True,
        help="Requests of 256 cutouts or less that are on their way at once.",
    )
    @wraps(command)
    def run(cutouts: Path, ebv: float | None, split: str | None, in_flight: int, **others: Any) -> None:
        command(Job(cutouts, ebv, split, in_flight), **others)

    return run


def output_path(*suffixes: str) -> Any:
    """Make a click callback that refuses, before any work is done, a path that could not be written after it."""

    def check(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
        if path is not None and path.suffix.lower() not in suffixes:
            raise click.BadParameter(f"{path} should end in {', '.join(suffixes)}")
        if path is not None and not path.absolute().parent.is_dir():
            raise click.BadParameter(f"there is no folder {path.parent}")
        return path

    return check
