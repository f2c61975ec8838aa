"""Options of several subcommands of `photoz`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
from click.core import ParameterSource

from photoz.cli.options import image_options, overwrite_option, refuse_existing
from photoz.cli.text import reading_report
from photoz.errors import InvalidDataset
from photoz.io.cutouts import Cutouts, LazyImages
from photoz.io.fields import open_or_cut
from photoz.io.file_list import is_pattern
from photoz.io.layout import conform
from photoz.io.options import ReadOptions
from photoz.io.provenance import Provenance, now
from photoz.model.card import Card
from photoz_client._auth import ENVIRONMENT_VARIABLE, read_api_key
from photoz_client._client import IN_FLIGHT, LocalClient, PhotozClient
from photoz_client._inputs import PredictInputs, WireDtype

DEFAULT_URL = "http://127.0.0.1:3000"

# Seconds. A report may take the service a minute, and a user at a terminal can interrupt.
TIMEOUT = 120.0

Function = Callable[..., None]

INPUT_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

url_option = click.option(
    "--url", envvar="PHOTOZ_URL", default=DEFAULT_URL, show_default=True, show_envvar=True, help="URL of the service."
)

# There is no option for the key itself, because every user of a machine can read the command lines of all others.
key_option = click.option(
    "--api-key-file",
    "key_file",
    type=INPUT_FILE,
    help=f"File that holds the service's API key; by default the key is taken from ${ENVIRONMENT_VARIABLE}.",
)

bundle_option = click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Predict in this process with this model bundle, without a service.",
)

# Options that have no meaning without a service.
OF_SERVICES = ("url", "key_file", "in_flight", "wire_dtype")


def output_option(*names: str, suffixes: tuple[str, ...], help: str) -> Callable[[Function], Function]:
    """Make an option for an output file, which refuses a path that cannot be written before any work is done.

    The command also needs `overwrite_option`.
    """

    def check(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
        if path is not None and path.suffix.lower() not in suffixes:
            raise click.BadParameter(f"{path} should end in {', '.join(suffixes)}")
        if path is not None and not path.absolute().parent.is_dir():
            raise click.BadParameter(f"there is no folder {path.parent}")
        refuse_existing(path)
        return path

    return click.option(
        *names, type=click.Path(dir_okay=False, writable=True, path_type=Path), callback=check, help=help
    )


def make_client(url: str, key_file: Path | None, **options: Any) -> PhotozClient:
    """Make the client for one subcommand."""
    api_key = None if key_file is None else read_api_key(key_file)
    return PhotozClient(url, api_key=api_key, timeout=TIMEOUT, **options)


@dataclass(frozen=True, kw_only=True)
class CutoutOptions(ReadOptions):
    """Which cutouts to predict, how they are read, and how they are sent."""

    path: Path
    split: str | None
    in_flight: int
    wire_dtype: WireDtype
    reading_report: Path | None

    @contextmanager
    def open(self, card: Card) -> Iterator[Cutouts]:
        """Open the cutouts in the layout of a model, and report what was done."""
        with open_or_cut(self.path, card.image, self) as opened:
            cutouts, reading = conform(opened, card.image, self)
            if card.inputs.ebv and "ebv" not in cutouts.columns:
                reading.assumed.append("E(B-V) is unknown")
            used = cutouts if self.split is None else _select_split(cutouts, self.split)
            n_left_out = len(cutouts) - len(used)
            report = reading_report(self.path, len(cutouts), reading, f"not of the split {self.split}", n_left_out)
            click.echo(report, err=True)
            if self.reading_report is not None:
                self.reading_report.write_text(report + "\n", encoding="utf-8")
            yield replace(used, reading=reading)

    def provenance(self, cutouts: Cutouts) -> Provenance:
        """Return where estimates of the opened cutouts come from, but for the model."""
        left_out = [] if self.split is None else [f"cutouts that are not of the split {self.split}"]
        notes = vars(cutouts.reading) | {"left_out": [*cutouts.reading.left_out, *left_out]}
        return Provenance("", self.path.name, now(), notes=notes)

    def client(self, url: str, key_file: Path | None, bundle: Path | None = None) -> PhotozClient:
        """Make a client that sends the cutouts, or predicts them with a bundle."""
        if bundle is None:
            return make_client(url, key_file, in_flight=self.in_flight, wire_dtype=self.wire_dtype)
        context = click.get_current_context()
        for option in context.command.params:
            name = str(option.name)
            if name in OF_SERVICES and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"{option.opts[0]} is for a service: leave it out, or --bundle")
        return LocalClient(bundle)

    def predict_options(self, cutouts: Cutouts, pdf: bool) -> dict[str, Any]:
        """Return the keyword arguments of `PhotozClient.predict` for the opened file."""
        return {
            "ebv": cutouts.columns.get("ebv"),
            "object_id": cutouts.columns.get("object_id"),
            "pdf": pdf,
            "progress": PredictInputs.of(cutouts.images).needs_several_requests(),
        }


def _select_split(cutouts: Cutouts, split: str) -> Cutouts:
    """Return the cutouts of one split; images stay on disk."""
    rows = cutouts.rows(split)
    if not len(rows):
        splits = ", ".join(np.unique(cutouts.column("split").astype(str)).tolist())
        raise InvalidDataset(f"no cutout belongs to the split {split!r}; the file has {splits}")
    columns = {name: values[rows] if values.ndim else values for name, values in cutouts.columns.items()}
    stops, shape = np.array([len(rows)]), cutouts.images.shape[1:]
    images = LazyImages(lambda _, part: cutouts.read_images(rows[part]), stops, shape)
    return replace(cutouts, images=images, columns=columns)


def check_path(context: click.Context, parameter: click.Parameter, path: Path) -> Path:
    if not path.exists() and not is_pattern(path):
        raise click.BadParameter(f"{path} does not exist")
    return path


def cutout_options(command: Function) -> Function:
    """Add the argument CUTOUTS and its options to a subcommand, whose first argument is `CutoutOptions`."""

    @click.argument("cutouts", type=click.Path(path_type=Path), callback=check_path)
    @image_options
    @click.option("--split", help="Use only the rows whose column 'split' has this value, such as test.")
    @click.option(
        "--in-flight",
        type=click.IntRange(min=1),
        default=IN_FLIGHT,
        show_default=True,
        help="How many requests, of at most 256 cutouts each, are sent concurrently.",
    )
    @click.option(
        "--wire-dtype",
        type=click.Choice(get_args(WireDtype)),
        default="float32",
        show_default=True,
        help="Number type in which pixels are sent; float16 halves the bytes.",
    )
    @output_option(
        "--reading-report",
        suffixes=(".txt",),
        help="Also write what was read, left out and assumed to this .txt file.",
    )
    @overwrite_option
    @wraps(command)
    def run(cutouts: Path, **values: Any) -> None:
        names = [field.name for field in fields(CutoutOptions) if field.name != "path"]
        command(CutoutOptions(path=cutouts, **{name: values.pop(name) for name in names}), **values)

    return run
