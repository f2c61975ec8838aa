"""`photoz compare` on two real services, and on servers that fail in ways that real ones do not."""

import json

import numpy as np
import pytest

from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz_client import PhotozClient
from tests.client.answers import card_answer, error, first_row, images, numbered_cutouts, prediction, prediction_of
from tests.client.misbehaving_server import serve

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def compare(photoz):
    return lambda *arguments: photoz("compare", *arguments)


@pytest.fixture(scope="module")
def uncalibrated_url(start_service, tmp_path_factory, bundle_path):
    """URL of a real service with the same network and no calibration."""
    home = tmp_path_factory.mktemp("uncalibrated")
    with start_service(home, PHOTOZ_BUNDLE=bundle_path, PHOTOZ_CALIBRATION="off") as running:
        yield running.url


@pytest.fixture(scope="module")
def columns(card):
    images = np.random.default_rng(4).normal(0.1, 0.05, (240, *card.image.shape)).astype(np.float32)
    return {"images": images, "ebv": np.full(240, 0.03), "split": np.repeat(["train", "test"], 120)}


@pytest.fixture
def cutouts(tmp_path, columns):
    """Write the cutouts, and further columns if they are given, to a file."""

    def write(**further):
        np.savez(tmp_path / "cutouts.npz", **columns, **further)
        return tmp_path / "cutouts.npz"

    return write


def verdict(out):
    return out.splitlines()[-1]


ASSUMED = (
    "  assumed: the bands are u,g,r,i,z in this order\n"
    "  assumed: pixels are in nanomaggy\n"
    "  assumed: pixels are 0.396 arcsec wide\n"
)


def failure(ran):
    """Return the only line on standard error, except for the reading report."""
    status, out, err = ran
    assert (status, out) == (2, "")
    report = (" cutouts read, ", "  assumed: ")
    err = "".join(line for line in err.splitlines(True) if not any(words in line for words in report))
    assert err.startswith("Error: could not compare: ")
    assert err.count("\n") == 1
    return err.removeprefix("Error: could not compare: ").rstrip("\n")


@pytest.mark.e2e
def test_a_service_is_identical_with_itself(compare, service_url, cutouts, card):
    status, out, err = compare(service_url, service_url, cutouts(), "--split", "test")
    assert (status, err) == (
        0,
        f"{cutouts()}: 240 cutouts read, 120 used, 120 left out: not of the split test\n{ASSUMED}",
    )
    assert f"A  {service_url}  {card.name} {card.version}, bundle {card.digest[:12]}\n" in out
    assert f"the same bundle\n120 galaxies of {cutouts()}, split test\n" in out
    assert verdict(out) == "verdict: identical"


@pytest.mark.e2e
def test_answers_have_to_agree_if_there_are_no_true_redshifts(compare, service_url, uncalibrated_url, cutouts):
    services = (service_url, uncalibrated_url, cutouts())
    status, out, _ = compare(*services, "--tolerance", 0)
    assert status == 1
    assert verdict(out).startswith("verdict: they differ: the PDFs differ by ")
    assert "scores" not in out
    status, out, _ = compare(*services, "--tolerance", 1000)
    assert (status, verdict(out)) == (0, "verdict: they agree (tolerance 1000)")


@pytest.mark.e2e
def test_json_holds_the_scores_that_each_service_computes(compare, service_url, uncalibrated_url, cutouts, columns):
    z_spec = np.linspace(0.02, 0.38, 240)
    z_spec[7] = np.nan
    status, out, _ = compare(service_url, uncalibrated_url, cutouts(z_spec=z_spec), "--json")
    report = json.loads(out)
    assert report.keys() == {"verdict", "tolerance", "a", "b", "cutouts", "comparison"}
    assert (status == 0) is (report["verdict"]["word"] == "no worse")
    assert (report["a"]["url"], report["b"]["url"]) == (service_url, uncalibrated_url)
    assert (report["comparison"]["n_galaxies"], report["comparison"]["n_scored"]) == (240, 239)
    for url, side in ((service_url, "a"), (uncalibrated_url, "b")):
        with PhotozClient(url) as client:
            pdfs = client.predict(columns["images"], ebv=columns["ebv"], pdf=True).pdf
            alone = client.evaluate(z_spec, pdfs=pdfs).scores
        assert report["comparison"]["scores"].keys() == alone.keys()
        for name, pair in report["comparison"]["scores"].items():
            assert pair[side]["value"] == pytest.approx(alone[name].value, rel=1e-9, abs=1e-12)
            assert pair[side]["error"] == pytest.approx(alone[name].error, rel=1e-9, abs=1e-12)


@pytest.mark.e2e
def test_worse_metrics_are_named(compare, service_url, uncalibrated_url, cutouts, columns):
    with PhotozClient(service_url) as client:
        z_spec = client.predict(columns["images"], ebv=columns["ebv"]).z_mean  # as if A were always right
    file = cutouts(z_spec=z_spec)
    status, out, _ = compare(service_url, uncalibrated_url, file, "--tolerance", 0)
    assert status == 1
    assert verdict(out).startswith("verdict: B is worse: ")
    assert "sigma_mad by 0.0" in verdict(out)
    (line,) = (line for line in out.splitlines() if line.startswith("  sigma_mad"))
    assert line.endswith("  worse")
    status, out, _ = compare(uncalibrated_url, service_url, file, "--tolerance", 0)
    (line,) = (line for line in out.splitlines() if line.startswith("  sigma_mad"))
    assert line.endswith("  better")
    status, out, _ = compare(service_url, uncalibrated_url, file, "--tolerance", 0, "--by", "agreement")
    assert (status, verdict(out).split(":")[1]) == (1, " they differ")


@pytest.mark.e2e
def test_the_failing_service_is_named(compare, service_url, cutouts, tmp_path, card):
    message = f"no photoz service answers at {NOWHERE}: connection refused; is it running?"
    assert failure(compare(service_url, NOWHERE, cutouts())) == f"B: {message}"
    assert failure(compare(NOWHERE, service_url, cutouts())) == f"A: {message}"
    np.save(tmp_path / "cutouts.npy", np.ones((2, *card.image.shape[:2], len(card.image.bands) + 1)))
    message = failure(compare(service_url, service_url, tmp_path / "cutouts.npy"))
    assert message.startswith("expected 5 bands as the second or the last axis of images, got shape (2, 64, 64, 6)")


def test_failures_before_the_first_request_have_exit_code_2(compare, cutouts, tmp_path):
    (tmp_path / "key").write_text("two words\n")
    assert compare(NOWHERE, NOWHERE, "missing.npz")[0] == 2
    for option in ("--api-key-file", "--api-key-file-b"):
        assert "to hold an API key" in failure(compare(NOWHERE, NOWHERE, cutouts(), option, tmp_path / "key"))


@pytest.fixture
def behaving(card):
    """Make a server with a card, which answers each cutout with a PDF in the bin of its row number."""

    def make(predict=prediction, **changes):
        model = card_answer(card, **changes)
        return serve(lambda request: model if request.url.path == "/model" else predict(request))

    return make


@pytest.fixture
def rows(tmp_path, small_requests):
    """A file of 12 cutouts, sent in three requests."""
    np.savez(tmp_path / "rows.npz", images=numbered_cutouts(12), z_spec=np.full(12, 0.01))
    return tmp_path / "rows.npz"


def test_failed_rows_and_changed_models_are_refused(compare, behaving, rows):
    with behaving() as a, behaving(lambda request: prediction(request) if first_row(request) else error(500)) as b:
        message = failure(compare(a.url, b.url, rows))
    assert message.startswith(f"B: 4 of 12 cutouts have no prediction; cutouts 0 to 3: the service at {b.url}/")
    with behaving() as a, behaving(lambda request: prediction(request, "photoz 2")) as b:
        message = failure(compare(a.url, b.url, rows))
    assert message == f"B at {b.url}: the model changed in the meantime, from photoz 1 to photoz 2"


def test_services_for_different_cutouts_are_refused_before_any_is_sent(compare, behaving, rows, card):
    other = ImageSpec(card.image.size, ("g", "r"))
    with behaving() as a, behaving(image=other) as b:
        message = failure(compare(a.url, b.url, rows))
        assert [request.url.path for request in a.requests] == ["/model"]
    assert message.startswith("the services take different cutouts; A: ")
    assert f"{len(other.bands)} cutouts, bands g,r, " in message


def test_models_on_different_grids_are_compared_by_their_cdfs(compare, behaving, rows):
    half = RedshiftGrid(0.4, 90)

    def on_half(request):
        return prediction_of(request, np.eye(90)[images(request)[:, 0, 0, 0].astype(int) // 2], half)

    with behaving(grid=RedshiftGrid(0.4, 180)) as a, behaving(on_half, grid=half) as b:
        status, out, _ = compare(a.url, b.url, rows, "--by", "agreement", "--tolerance", 100)
        report = json.loads(compare(a.url, b.url, rows, "--by", "agreement", "--json")[1])
    assert status == 0
    assert "their grids differ, A: 180 bins, 0 <= z <= 0.4; B: 90 bins, 0 <= z <= 0.4" in out
    # In a bin of B, its CDF rises evenly, and A's in one half only: their mean squared difference is 1/12.
    assert report["comparison"]["pdfs"]["median"] == pytest.approx(half.width / 12)
    assert report["comparison"]["n_scored"] == 12


@pytest.mark.parametrize(("fault", "status"), [(KeyboardInterrupt, 130), (ZeroDivisionError, 2), (BrokenPipeError, 2)])
def test_only_a_worse_service_has_exit_code_1(compare, behaving, rows, monkeypatch, fault, status):
    def stopped(*arguments):
        raise fault

    monkeypatch.setattr("photoz_client._cli_compare.compare", stopped)
    with behaving() as a, behaving() as b:
        assert compare(a.url, b.url, rows)[0] == status


def test_each_service_gets_its_own_key(compare, behaving, rows, tmp_path):
    for name in ("key-a", "key-b"):
        (tmp_path / name).write_text(f"{name}\n")
    key_a, key_b = ("--api-key-file", tmp_path / "key-a"), ("--api-key-file-b", tmp_path / "key-b")
    with behaving() as a, behaving() as b:
        assert compare(a.url, b.url, rows, *key_a, *key_b)[0] == 0
        assert (set(a.authorizations), set(b.authorizations)) == ({"Bearer key-a"}, {"Bearer key-b"})
        b.authorizations.clear()
        assert compare(a.url, b.url, rows, *key_a)[0] == 0
        assert set(b.authorizations) == {"Bearer key-a"}
