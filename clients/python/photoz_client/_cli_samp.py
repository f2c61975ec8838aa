"""Sends tables to TOPCAT, Aladin and others on this computer: SAMP, https://www.ivoa.net/documents/SAMP/."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from photoz.io.formats import FITS, VOTABLE, written_format
from photoz_client._prediction import require

MTYPES = {FITS: "table.load.fits", VOTABLE: "table.load.votable"}


@contextmanager
def samp_sender(output: Path | None) -> Iterator[Callable[[Path], int]]:
    """Connect to the SAMP hub; yields what sends the output, and returns the number of programs that are told."""
    if output is None or written_format(output) not in MTYPES:
        suffixes = [suffix for format in MTYPES for suffix in format.suffixes]
        raise click.UsageError(f"--samp needs --output with a name that ends in {', '.join(suffixes)}")
    require("--samp", "pyvo", "samp")
    from pyvo.samp import SAMPHubError, SAMPIntegratedClient

    client = SAMPIntegratedClient("photoz", "redshifts of galaxies from their images", addr="127.0.0.1", callable=False)
    try:
        client.connect()
    except SAMPHubError as error:
        raise click.ClickException("no SAMP hub answers on this computer: start TOPCAT or Aladin first") from error

    def send(path: Path) -> int:
        format = written_format(path)
        url, mtype = path.resolve().as_uri(), MTYPES[format]
        n = len(client.get_subscribed_clients(mtype))
        if not n:
            raise click.ClickException(f"no program that takes {format.name} tables is connected to the SAMP hub")
        parameters = {"url": url, "table-id": url, "name": path.stem}
        client.notify_all({"samp.mtype": mtype, "samp.params": parameters})
        return n

    try:
        yield send
    finally:
        client.disconnect()
