"""`photoz predict --samp` tells the programs at a real hub, that of pyvo, where the table is."""

import time
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from astropy.table import Table
from pyvo.samp import SAMPHubServer, SAMPIntegratedClient

from tests.client.server import TIMEOUT


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """Where a hub says how it is reached."""
    lock = tmp_path / "samp"
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{lock.as_uri()}")
    return lock


@pytest.fixture
def hub(lock):
    hub = SAMPHubServer(lockfile=str(lock), addr="127.0.0.1", web_profile=False)
    hub.start()
    yield hub
    hub.stop()


@pytest.mark.parametrize(("suffix", "mtype"), [("fits", "table.load.fits"), ("vot", "table.load.votable")])
def test_the_table_is_loaded_by_the_programs_that_take_it(run, hub, suffix, mtype):
    received, program = [], SAMPIntegratedClient("topcat", addr="127.0.0.1")
    program.connect(hub=hub)
    program.bind_receive_notification(mtype, lambda key, sender, mtype, params, extra: received.append(params))
    status, _, err = run("predict", "cutouts.npz", "-o", f"my redshifts.{suffix}", "--samp")
    assert (status, err.splitlines()[-1]) == (0, "sent it to 1 program")
    deadline = time.monotonic() + TIMEOUT
    while not received and time.monotonic() < deadline:
        time.sleep(0.05)
    program.disconnect()
    assert received[0]["name"] == "my redshifts"
    assert len(Table.read(unquote(urlparse(received[0]["url"]).path))) == 12


def test_a_hub_without_such_programs_is_an_error_and_the_file_is_kept(run, hub):
    status, _, err = run("predict", "cutouts.npz", "-o", "z.fits", "--samp")
    assert (status, err.splitlines()[-1]) == (
        1, "Error: no program that takes FITS tables is connected to the SAMP hub"
    )  # fmt: skip
    assert len(Table.read("z.fits")) == 12


def test_without_a_hub_nothing_is_predicted(run, server, lock):
    message = "Error: no SAMP hub answers on this computer: start TOPCAT or Aladin first\n"
    assert run("predict", "cutouts.npz", "-o", "z.fits", "--samp") == (1, "", message)
    assert not server.requests
    assert not Path("z.fits").exists()


@pytest.mark.parametrize("output", [(), ("-o", "z.csv")])
def test_only_tables_that_others_load_are_sent(run, output):
    status, _, err = run("predict", "cutouts.npz", *output, "--samp")
    assert (status, err.splitlines()[-1]) == (
        2, "Error: --samp needs --output with a name that ends in .fits, .fit, .vot"
    )  # fmt: skip
