"""The page in a browser, against the real service."""

import hashlib
import json
import re
import shutil
import socket
import threading
import xml.etree.ElementTree as ElementTree
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import httpx
import numpy as np
import pandas as pd
import pytest
import qp
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.table import Table
from PIL import Image

pytest.importorskip("playwright", reason="needs playwright")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from photoz.flags import FLAG_MEANINGS, Flag
from tests.running import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SAMPLE = ROOT / "examples" / "cutouts.npz"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs the browser chromium"),
]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        yield (found := playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]))
        found.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens the page at an address; none of them may complain, or ask another host."""
    contexts, complaints = [], []

    def open_page(url, allowed=(), **options):
        context = browser.new_context(accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda sent: complaints.append(sent.url) if not sent.url.startswith((url, "blob:", "data:")) else None,
        )
        page.goto(url)
        page.allowed = allowed
        return page

    yield open_page
    allowed = [pattern for context in contexts for page in context.pages for pattern in page.allowed]
    for context in contexts:
        context.close()
    assert [text for text in complaints if not any(re.search(pattern, text) for pattern in allowed)] == []


@pytest.fixture
def page(open_page, service_url):
    return open_page(service_url)


@pytest.fixture(scope="module")
def sample():
    with np.load(SAMPLE) as arrays:
        return dict(arrays)


def wait_for_redshifts(page, n, timeout=30_000):
    expect(page.locator("#status")).to_contain_text(f"{n:,} redshifts of", timeout=timeout)


def give(page, path):
    page.set_input_files("#file", path)


def cells(page, column):
    return page.locator(f"#table tbody td.{column}").all_inner_texts()


def write_npy(path, sample):
    np.save(path, sample["images"])


def write_npz(path, sample):
    np.savez(path, **sample)


def write_packed(path, sample):
    np.savez_compressed(path, **sample)


def write_bands_first(path, sample):
    np.save(path, np.moveaxis(sample["images"], -1, 1))


def write_half(path, sample):
    np.savez(path, **sample | {"images": sample["images"].astype(np.float16)})


def write_hdf5(path, sample):
    with h5py.File(path, "w") as file:
        for name, values in sample.items():
            file[name] = values.astype(object) if values.dtype.kind == "U" else values


def write_fits(path, sample):
    cube = fits.PrimaryHDU(np.moveaxis(sample["images"], -1, 1))
    cube.header.update({"BANDS": "ugriz", "BUNIT": "nanomaggy"})
    cube.writeto(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.npy", write_npy),
        ("a.npz", write_npz),
        ("packed.npz", write_packed),
        ("half.npz", write_half),
        ("a.h5", write_hdf5),
        ("a.fits", write_fits),
    ],
)
def test_a_file_of_each_format(page, service_url, sample, tmp_path, name, write):
    write(tmp_path / name, sample)
    give(page, tmp_path / name)
    wait_for_redshifts(page, 8)
    known = {"ebv": ""} if name in ("a.npy", "a.fits") else {}
    expected = httpx.post(f"{service_url}/predict_file", content=(tmp_path / name).read_bytes()).json()
    assert [float(z) for z in cells(page, "z_mean")] == pytest.approx(expected["z_mean"], abs=6e-5)
    names = [str(row) for row in range(8)] if known else sample["object_id"].tolist()
    assert cells(page, "object_id") == names
    assert page.locator("#table tbody canvas").count() == 8
    assert ("EBV_ASSUMED" in cells(page, "flags")[0]) == bool(known)


def test_a_dropped_file(page, sample, tmp_path):
    write_npz(tmp_path / "a.npz", sample)
    content = list((tmp_path / "a.npz").read_bytes())
    transfer = page.evaluate_handle(
        """bytes => {
            const all = new DataTransfer();
            all.items.add(new File([new Uint8Array(bytes)], "a.npz"));
            return all;
        }""",
        content,
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    wait_for_redshifts(page, 8)


def test_flags_in_words(page):
    page.click("#sample")
    wait_for_redshifts(page, 8)
    assert cells(page, "flags")[0] == "BEYOND_TRAINING"
    words = f"BEYOND_TRAINING: {FLAG_MEANINGS[Flag.BEYOND_TRAINING]}"
    assert page.locator("#flags li").all_inner_texts() == [words]
    assert page.locator("#filter-flag option").all_inner_texts() == ["any", "none", *(flag.name for flag in Flag)]


def test_sort_filter_and_choose(page, sample):
    page.click("#sample")
    wait_for_redshifts(page, 8)
    page.get_by_role("button", name="z_mean").click()
    ascending = [float(z) for z in cells(page, "z_mean")]
    assert ascending == sorted(ascending)
    page.get_by_role("button", name="z_mean").click()
    assert [float(z) for z in cells(page, "z_mean")] == ascending[::-1]
    expect(page.get_by_role("columnheader", name="z_mean")).to_have_attribute("aria-sort", "descending")
    page.fill("#filter-low", "0.1")
    assert page.locator("#count").inner_text() == f"{sum(z >= 0.1 for z in ascending)} of 8"
    page.fill("#filter-low", "")
    page.fill("#filter-name", sample["object_id"][5])
    assert cells(page, "object_id") == [sample["object_id"][5]]
    page.fill("#filter-name", "")
    page.select_option("#filter-flag", "none")
    assert set(cells(page, "flags")) == {"none"}
    page.select_option("#filter-flag", "any")
    page.get_by_role("row", name=sample["object_id"][2]).click()
    assert page.locator("#galaxy-name").inner_text() == sample["object_id"][2]
    assert page.locator("#pictures canvas").count() == 6
    assert f"{sample['z_spec'][2]:.4f}" in page.locator("#values").inner_text()


def test_overlay_zoom_and_readout(page, sample):
    page.click("#sample")
    wait_for_redshifts(page, 8)
    page.click("#pin")
    page.get_by_role("row", name=sample["object_id"][3]).click()
    assert page.locator("#pdf polyline").count() == 2
    page.click("#unpin")
    assert page.locator("#pdf polyline").count() == 1

    def ends():
        labels = page.locator("#pdf text").all_inner_texts()
        return labels

    before = ends()
    page.click("#zoom-in")
    assert ends() != before
    page.click("#zoom-all")
    assert ends() == before
    box = page.locator("#pdf svg").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.2 * box["width"], middle)
    assert re.fullmatch(r"z = 0\.\d{4}, p\(z\) = \d+\.\d\d", page.locator("#readout").inner_text())
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], middle)
    page.mouse.up()
    assert ends() != before


def download(page, press):
    with page.expect_download() as started:
        press()
    return started.value


@pytest.mark.parametrize("format", ["CSV", "FITS", "VOTable", "HDF5", "qp"])
def test_each_download_is_what_the_service_answers(page, service_url, sample, tmp_path, format):
    page.click("#sample")
    wait_for_redshifts(page, 8)
    page.check("#with-pdfs")
    found = download(page, page.get_by_role("button", name=format, exact=True).click)
    found.save_as(path := tmp_path / found.suggested_filename)
    expected = httpx.post(f"{service_url}/predict_file?pdf=true", content=SAMPLE.read_bytes()).json()
    match format:
        case "CSV":
            table = pd.read_csv(path)
            pdfs = table[[f"pdf_{bin}" for bin in range(180)]].to_numpy()
        case "FITS":
            table = Table.read(path)
            pdfs = table["pdf"]
        case "VOTable":
            table = parse_single_table(path).to_table()
            pdfs = np.stack(table["pdf"])
        case "HDF5":
            with h5py.File(path) as file:
                table = {name: file[name][()] for name in file}
            pdfs = table["pdf"]
        case "qp":
            ensemble = qp.read(str(path))
            table = ensemble.ancil
            pdfs = ensemble.objdata["pdfs"] * 0.4 / 180
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in table["object_id"]]
    assert names == sample["object_id"].tolist()
    np.testing.assert_allclose(np.asarray(table["z_mean"], float), expected["z_mean"], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(pdfs, float), expected["pdf"], atol=1e-6)


def test_plots_are_saved(page, tmp_path):
    page.click("#sample")
    wait_for_redshifts(page, 8)
    download(page, page.locator("#plot-svg").click).save_as(tmp_path / "pdf.svg")
    assert ElementTree.parse(tmp_path / "pdf.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    download(page, page.locator("#plot-png").click).save_as(tmp_path / "pdf.png")
    with Image.open(tmp_path / "pdf.png") as image:
        assert image.size == (1280, 600)
        assert len(image.convert("RGB").getcolors(2**24)) > 20


def test_evaluation(page, service_url, sample, tmp_path):
    page.click("#sample")
    wait_for_redshifts(page, 8)
    page.click("#tab-evaluate")
    expect(page.locator("#plots img")).to_have_count(3, timeout=30_000)
    scores = httpx.post(f"{service_url}/evaluate", content=SAMPLE.read_bytes()).json()["scores"]
    shown = [float(text) for text in page.locator("#scores tbody td:nth-child(2)").all_inner_texts()]
    assert shown == pytest.approx([score["value"] for score in scores.values()], abs=1e-4)
    page.locator("#scatter").focus()
    page.keyboard.press("ArrowRight")
    page.click("#tab-redshifts")
    order = np.argsort(sample["z_spec"])
    first = page.locator("#galaxy-name").inner_text()
    assert first in sample["object_id"][order]
    page.click("#tab-evaluate")
    box, at = page.locator("#scatter").bounding_box(), order[-1]
    z_mean = httpx.post(f"{service_url}/predict_file", content=SAMPLE.read_bytes()).json()["z_mean"][at]
    scale = box["width"] / 420
    x, y = (44 + sample["z_spec"][at] / 0.4 * 332) * scale, (420 - 44 - z_mean / 0.4 * 332) * scale
    page.mouse.click(box["x"] + x, box["y"] + y)
    page.click("#tab-redshifts")
    assert page.locator("#galaxy-name").inner_text() == sample["object_id"][at]
    page.click("#tab-evaluate")
    report = download(page, page.locator("#report").click)
    assert "<html" in report.path().read_text()


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_true_redshifts_of_a_second_file(page, sample, tmp_path, kind):
    write_npz(tmp_path / "a.npz", {"images": sample["images"], "object_id": sample["object_id"]})
    give(page, tmp_path / "a.npz")
    wait_for_redshifts(page, 8)
    page.click("#tab-evaluate")
    if kind == "csv":
        lines = [f"{name},{z}" for name, z in zip(sample["object_id"], sample["z_spec"], strict=True)]
        (tmp_path / "z.csv").write_text("\n".join(["object_id,z_spec", *lines[::-1]]))
    else:
        np.savez(tmp_path / "z.npz", z_spec=sample["z_spec"])
    page.set_input_files("#truth", tmp_path / f"z.{kind}")
    expect(page.locator("#scores caption")).to_have_text("8 galaxies", timeout=30_000)


def test_the_model_in_words(page, card):
    page.click("#tab-model")
    text = page.locator("#card").inner_text()
    assert f"{card.name} {card.version}" in text
    assert "cutouts of 64x64 pixels of 0.396 arcsec, bands u, g, r, i, z, in nanomaggy" in text
    assert all(caveat in text for caveat in card.caveats)
    assert f"{card.test.scores['this model']['sigma_mad'].value:.4f}" in text


def test_drift_is_that_of_the_metrics(page, sample):
    page.click("#sample")
    wait_for_redshifts(page, 8)
    page.click("#tab-model")
    found = page.locator("#card dl").last
    expect(found).to_contain_text(re.compile(r"z_mean\s*0\.\d{3} of [\d,]+ galaxies"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", b"PK\x03\x04 is broken", "not a readable .npz file"),
        ("a.fits", b"SIMPLE  = broken", "is not a readable FITS file"),
        ("a.txt", b"hello", "expected a .npy, .npz, FITS or HDF5 file, got 5 bytes"),
    ],
)
def test_a_broken_file_is_explained(open_page, service_url, tmp_path, name, content, message):
    page = open_page(service_url, allowed=[r"status of 4\d\d"])
    (tmp_path / name).write_bytes(content)
    give(page, tmp_path / name)
    expect(page.locator("#error")).to_contain_text(message)


def test_a_file_of_another_shape_is_explained(open_page, service_url, sample, tmp_path):
    page = open_page(service_url, allowed=[r"status of 4\d\d"])
    write_bands_first(tmp_path / "a.npy", sample)
    give(page, tmp_path / "a.npy")
    expect(page.locator("#error")).to_contain_text("the bands come first here")


def test_a_service_with_keys(open_page, start_service, bundle_path, tmp_path):
    (tmp_path / "keys").write_text(f"alice {hashlib.sha256(b'secret').hexdigest()}\n")
    with start_service(tmp_path, PHOTOZ_BUNDLE=bundle_path, PHOTOZ_API_KEYS_FILE=tmp_path / "keys") as running:
        page = open_page(running.url, allowed=[r"status of 401"])
        expect(page.locator("#error")).to_contain_text("key")
        page.fill("#key", "wrong")
        page.get_by_role("button", name="Use").click()
        expect(page.locator("#error")).to_be_visible()
        page.fill("#key", "secret")
        page.get_by_role("button", name="Use").click()
        expect(page.locator("#error")).to_be_hidden()
        page.click("#sample")
        wait_for_redshifts(page, 8)
        assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
        page.reload()
        expect(page.locator("#key")).to_have_value("")


@contextmanager
def proxy(target):
    """Pass requests on; all inferences are answered `state["status"]`, or closed from number `closes_at` on."""
    state = {"status": None, "closes_at": None, "rows": []}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.pass_on("GET", None)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/infer"):
                if state["closes_at"] is not None and len(state["rows"]) >= state["closes_at"]:
                    self.close_connection = True
                    return self.connection.shutdown(socket.SHUT_RDWR)
                if state["status"] is not None:
                    return self.refuse(state["status"])
                length = int(self.headers["Inference-Header-Content-Length"])
                state["rows"].append(json.loads(body[:length])["inputs"][0]["shape"][0])
            self.pass_on("POST", body)

        def refuse(self, status):
            self.send_response(status)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "23")
            self.end_headers()
            self.wfile.write(b'{"error": "it is full"}')

        def pass_on(self, method, body):
            headers = {
                name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")
            }
            answer = httpx.request(method, target + self.path, content=body, headers=headers)
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", state
        server.shutdown()


def test_a_full_service_is_asked_again(open_page, service_url):
    with proxy(service_url) as (url, state):
        page = open_page(url, allowed=["status of 429"])
        state["status"] = 429
        page.click("#sample")
        expect(page.locator("#status")).to_contain_text("The service is busy: trying again in 1 s.")
        state["status"] = None
        wait_for_redshifts(page, 8)


def test_a_service_that_goes_away_in_the_middle(open_page, service_url, sample, tmp_path):
    images = np.tile(sample["images"], (100, 1, 1, 1))  # four requests
    np.save(tmp_path / "many.npy", images)
    with proxy(service_url) as (url, state):
        page = open_page(url, allowed=["ERR_EMPTY_RESPONSE", "ERR_CONNECTION"])
        state["closes_at"] = 2
        give(page, tmp_path / "many.npy")
        expect(page.locator("#error")).to_contain_text("The service does not answer. Is it still running?")
        expect(page.locator("#count")).to_have_text("408 of 408")  # what is there is kept
        state["closes_at"] = None
        page.click("#retry")
        wait_for_redshifts(page, 800)
        assert state["rows"] == [204, 204, 204, 188]


def test_by_keyboard_alone(page, sample):
    expect(page.locator("#model-name")).to_contain_text("photoz ")
    for _ in range(20):
        if page.evaluate("document.activeElement.id") == "sample":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait_for_redshifts(page, 8)
    for _ in range(30):
        if page.evaluate("document.activeElement.tagName") == "TR":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("#galaxy-name").inner_text() == sample["object_id"][2]
    page.keyboard.press("Space")
    page.keyboard.press("End")
    assert page.locator("#galaxy-name").inner_text() == sample["object_id"][7]
    assert page.locator("#pdf polyline").count() == 2
    page.locator("#tab-redshifts").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#evaluate")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_serious_is_found_by_axe(open_page, service_url, width, scheme):
    page = open_page(service_url, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.click("#sample")
    wait_for_redshifts(page, 8)
    for tab in ("redshifts", "evaluate", "model"):
        page.click(f"#tab-{tab}")
        found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
        assert json.dumps([(one["id"], [node["html"] for node in one["nodes"]]) for one in found]) == "[]"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_first_use_and_many_galaxies(page, sample, tmp_path):
    """Speed is measured by `python -m benchmarks.page`; that it works is tested here."""
    np.save(tmp_path / "many.npy", np.tile(sample["images"], (125, 1, 1, 1)))
    give(page, tmp_path / "many.npy")
    wait_for_redshifts(page, 1000)
    page.locator("#scroller").evaluate("it => it.scrollTop = 1e9")
    expect(page.locator("#table tbody td.object_id").last).to_have_text("999")
    assert page.locator("#table tbody tr").count() < 60
