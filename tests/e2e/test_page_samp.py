"""The page sends tables to other programs by SAMP: a real hub with its Web Profile, and a client that loads tables."""

import io
import threading
import time

import httpx
import numpy as np
import pytest
from astropy.table import Table
from pyvo.samp import SAMPHubServer, SAMPIntegratedClient, WebProfileDialog

from tests.e2e.test_page import expect, open_sample

pytestmark = pytest.mark.acceptance

PATIENCE = 60.0  # seconds


@pytest.fixture
def hub(tmp_path):
    """Run a hub whose user consents to each registration."""

    class Consent(WebProfileDialog):
        asked = ()

        def show_dialog(self, name, details, client, origin):
            self.asked += (name,)
            self.consent()

    dialog = Consent()
    hub = SAMPHubServer(lockfile=str(tmp_path / "samp"), addr="127.0.0.1", web_profile_dialog=dialog)
    hub.start()
    ended = threading.Event()

    def consent():
        while not ended.wait(0.05):
            dialog.handle_queue()

    thread = threading.Thread(target=consent)
    thread.start()
    hub.asked = lambda: dialog.asked
    yield hub
    ended.set()
    thread.join()
    hub.stop()


def test_tables_are_sent_to_programs_that_load_them(open_page, service_url, sample, hub):
    page = open_page(service_url, "^http://127.0.0.1:21012/$", "No program that takes tables")
    open_sample(page)
    button = page.get_by_role("button", name="Send to TOPCAT / Aladin")
    button.click()
    expect(page.locator("#error")).to_have_text("No program that takes tables is connected to the SAMP hub.")
    received = []
    client = SAMPIntegratedClient(name="topcat")
    client.connect(hub=hub)
    client.bind_receive_notification(
        "table.load.votable", lambda key, sender, mtype, params, extra: received.append(params)
    )
    page.select_option("#filter-flag", "none")
    page.select_option("#download-rows", "these")
    button.click()
    expect(page.locator("#status")).to_have_text("Sent 7 rows by SAMP.")
    deadline = time.monotonic() + PATIENCE
    while not received and time.monotonic() < deadline:
        time.sleep(0.05)
    client.disconnect()
    (table,) = received
    assert table["name"] == "photoz: sample.npz"
    assert set(hub.asked()) == {"photoz"}
    fetched = Table.read(io.BytesIO(httpx.get(table["url"]).content), format="votable")
    assert fetched["object_id"].tolist() == np.delete(sample["object_id"], 0).tolist()
    assert "pdf" not in fetched.colnames


def test_without_a_hub_the_page_says_so(open_page, service_url):
    page = open_page(service_url, "^http://127.0.0.1:21012/$", "ERR_CONNECTION_REFUSED", "No SAMP hub")
    open_sample(page)
    page.get_by_role("button", name="Send to TOPCAT / Aladin").click()
    expect(page.locator("#error")).to_have_text("No SAMP hub answers on this computer. Start TOPCAT or Aladin first.")
