"""`photoz compare`: two real services, and servers that fail where real ones do not at will."""

import json

import numpy as np
import pytest
import v2_answers
from unruly import Answer, good, numbered, refusal, serving

from photoz import estimates
from photoz.grid import RedshiftGrid
from photoz.metrics import FIGURES
from photoz.protocol.contract import JSON
from photoz_client import PhotozClient, _galaxies
from photoz_client.cli import main

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def compare(capsys):
    """Run the command in this process; returns its status, output and errors."""

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main(["compare", *map(str, arguments)])
        captured = capsys.readouterr()
        return done.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def uncalibrated_url(start_service, tmp_path_factory, bundle_path):
    """Address of a real service that hands out the PDFs of the same network as they are."""
    home = tmp_path_factory.mktemp("uncalibrated")
    with start_service(home, PHOTOZ_BUNDLE=bundle_path, PHOTOZ_CALIBRATION="off") as running:
        yield running.url


@pytest.fixture(scope="module")
def columns(card):
    """240 cutouts of a round object on a noisy sky, enough to be scored."""
    rng = np.random.default_rng(4)
    y, x = np.indices((card.image.size,) * 2) - card.image.size / 2
    profile = np.exp(-np.hypot(x, y) / 4)[..., np.newaxis] * rng.uniform(0.5, 5.0, (240, 1, 1, len(card.image.bands)))
    images = (profile + rng.normal(0.0, 0.02, (240, *card.image.shape))).astype(np.float32)
    return {"images": images, "ebv": np.full(240, 0.03), "split": np.repeat(["train", "test"], 120)}


@pytest.fixture
def cutouts(tmp_path, columns):
    """Write the cutouts to a file, with further columns where they are given."""

    def write(**further):
        np.savez(tmp_path / "cutouts.npz", **columns, **further)
        return tmp_path / "cutouts.npz"

    return write


def verdict(out):
    return out.splitlines()[-1]


@pytest.mark.e2e
def test_a_service_is_identical_with_itself(compare, service_url, cutouts, card):
    status, out, err = compare(service_url, service_url, cutouts(), "--split", "test")
    assert (status, err) == (0, "")
    assert f"A  {service_url}  {card.name} {card.version}, bundle {card.digest[:12]}\n" in out
    assert "the same bundle\n" in out
    assert "120 galaxies of " in out
    assert "split test\n" in out
    assert verdict(out) == "verdict: identical"


@pytest.mark.e2e
def test_without_true_redshifts_the_answers_have_to_agree(compare, service_url, uncalibrated_url, cutouts, columns):
    services = (service_url, uncalibrated_url, cutouts())
    status, out, _ = compare(*services, "--tolerance", 0)
    assert status == 1
    assert verdict(out).startswith("verdict: they differ: the PDFs differ by ")
    assert "scores" not in out
    status, out, _ = compare(*services, "--tolerance", 1000)
    assert (status, verdict(out)) == (0, "verdict: they agree (tolerance 1000)")


@pytest.mark.e2e
def test_the_figures_are_those_that_each_service_finds_alone(compare, service_url, uncalibrated_url, cutouts, columns):
    z_spec = np.linspace(0.02, 0.38, 240)
    z_spec[7] = np.nan
    status, out, _ = compare(service_url, uncalibrated_url, cutouts(z_spec=z_spec), "--json")
    found = json.loads(out)
    assert (status == 0) is (found["verdict"]["word"] == "no worse")
    assert (found["a"]["url"], found["b"]["url"]) == (service_url, uncalibrated_url)
    assert (found["comparison"]["n_galaxies"], found["comparison"]["n_scored"]) == (240, 239)
    for url, side in ((service_url, "a"), (uncalibrated_url, "b")):
        with PhotozClient(url) as client:
            prediction = client.predict(columns["images"], ebv=columns["ebv"], pdf=True)
            alone = client.evaluate(z_spec, pdfs=prediction.pdf).scores
        for name in FIGURES:
            score = found["comparison"]["scores"][name][side]
            assert score["value"] == pytest.approx(alone[name].value, rel=1e-9, abs=1e-12)
            assert score["error"] == pytest.approx(alone[name].error, rel=1e-9, abs=1e-12)


@pytest.mark.e2e
def test_a_service_that_is_worse_is_told_so_with_what_is_worse(
    compare, service_url, uncalibrated_url, cutouts, columns
):
    with PhotozClient(service_url) as client:
        z_spec = client.predict(columns["images"], ebv=columns["ebv"]).z_mean  # as if it always were right
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


def complaint(ran):
    """Return what went wrong: one line on standard error, and nothing else."""
    status, out, err = ran
    assert (status, out) == (2, "")
    assert err.startswith("Error: could not compare: ")
    assert err.count("\n") == 1
    return err.removeprefix("Error: could not compare: ").rstrip("\n")


@pytest.mark.e2e
def test_a_service_that_is_down_is_named(compare, service_url, cutouts):
    answer = f"no photoz service answers at {NOBODY}: connection refused; is it running?"
    assert complaint(compare(service_url, NOBODY, cutouts())) == f"B: {answer}"
    assert complaint(compare(NOBODY, service_url, cutouts())) == f"A: {answer}"


@pytest.mark.e2e
def test_cutouts_that_the_services_do_not_take_are_refused(compare, service_url, tmp_path, card):
    np.save(tmp_path / "cutouts.npy", np.ones((2, *card.image.shape[:2], len(card.image.bands) + 1)))
    found = complaint(compare(service_url, service_url, tmp_path / "cutouts.npy"))
    assert found.startswith(f"A at {service_url}: expected images of shape (n, ")


def test_what_the_file_lacks_is_told(compare, cutouts):
    found = complaint(compare(NOBODY, NOBODY, cutouts(), "--by", "scores"))
    assert found == "expected a column 'z_spec'; there are ebv, split"
    assert "'tset'; there are test, train" in complaint(compare(NOBODY, NOBODY, cutouts(), "--split", "tset"))


def test_a_file_without_a_key_is_not_taken_for_a_difference(compare, cutouts, tmp_path):
    (tmp_path / "key").write_text("two words\n")
    for option in ("--api-key-file", "--api-key-file-b"):
        assert "to hold an API key" in complaint(compare(NOBODY, NOBODY, cutouts(), option, tmp_path / "key"))


@pytest.mark.parametrize("arguments", [[NOBODY], [NOBODY, NOBODY, "missing.npz"], [NOBODY, NOBODY, "{}", "--by", "x"]])
def test_a_wrong_call_has_the_status_of_what_could_not_be_compared(compare, cutouts, arguments):
    status, _, err = compare(*(argument.format(cutouts()) for argument in arguments))
    assert status == 2
    assert err.startswith("Usage: photoz compare ")


@pytest.fixture
def behaving(card):
    """Make a server with a card of its own, which answers each cutout with a PDF in the bin of its row number."""
    own = card.model_copy(update={"name": "photoz", "version": "1"})

    def make(predict=good, **changes):
        content = own.model_copy(update=changes).model_dump_json().encode()
        model = Answer(200, content, {"Content-Type": JSON})
        return serving(lambda asked: model if asked.path == "/model" else predict(asked))

    return make


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A file of 12 cutouts, of which four travel in a request."""
    monkeypatch.setattr(_galaxies, "ROWS_PER_REQUEST", 4)
    np.savez(tmp_path / "rows.npz", images=numbered(12), z_spec=np.full(12, 0.01))
    return tmp_path / "rows.npz"


def test_rows_that_fail_at_one_service_are_counted(compare, behaving, rows):
    with behaving() as a, behaving(lambda asked: refusal(500) if asked.first == 4 else good(asked)) as b:
        found = complaint(compare(a.url, b.url, rows))
    assert found.startswith(f"B: 4 of 12 cutouts have no prediction; cutouts 4 to 7: the service at {b.url}/")


def test_a_model_that_changed_since_its_card_is_refused(compare, behaving, rows):
    with behaving() as a, behaving(lambda asked: good(asked, "photoz 2")) as b:
        found = complaint(compare(a.url, b.url, rows))
    assert found == f"B at {b.url}: it changed its model meanwhile, from photoz 1 to photoz 2"


def test_services_that_take_different_cutouts_are_refused_before_any_is_sent(compare, behaving, rows, card):
    image = card.image
    other = type(image)(image.size, image.bands[:-1], image.pixel_scale, image.unit)
    with behaving() as a, behaving(image=other) as b:
        found = complaint(compare(a.url, b.url, rows))
        assert [asked.path for asked in a.asked] == ["/model"]
    assert found.startswith("they take different cutouts; A: ")
    assert f"bands {','.join(image.bands)}, " in found
    assert f"bands {','.join(other.bands)}, " in found


def test_models_with_other_grids_are_compared_by_their_cdfs(compare, behaving, rows):
    half = RedshiftGrid(0.4, 90)

    def on_half(asked):
        pdfs = np.eye(90)[asked.images[:, 0, 0, 0].astype(int) // 2]
        columns = dict(estimates.from_pdfs(pdfs, half, include_pdf=True).columns())
        return Answer(200, *v2_answers.message({out.name: columns[out.name] for out in asked.request.outputs}))

    with behaving(grid=RedshiftGrid(0.4, 180)) as a, behaving(on_half, grid=half) as b:
        status, out, _ = compare(a.url, b.url, rows, "--by", "agreement", "--tolerance", 100)
        found = json.loads(compare(a.url, b.url, rows, "--by", "agreement", "--json")[1])
    assert status == 0
    assert "their grids differ, A: 180 bins, 0 <= z <= 0.4; B: 90 bins, 0 <= z <= 0.4" in out
    # Over a bin of B its CDF rises evenly, that of A in one half: they are up to 1/2 apart, squared on average 1/12.
    assert found["comparison"]["pdfs"]["median"] == pytest.approx(half.width / 12)
    assert found["comparison"]["n_scored"] == 12


def test_true_redshifts_that_are_of_no_use_are_missed_by_scores_alone(compare, behaving, rows, tmp_path):
    with np.load(rows) as file:
        np.savez(tmp_path / "far.npz", **{**file, "z_spec": np.full(len(file["images"]), 2.0)})
    with behaving() as a, behaving() as b:
        assert complaint(compare(a.url, b.url, tmp_path / "far.npz")).startswith(
            "none of the 12 z_spec is on both grids"
        )
        status, out, _ = compare(a.url, b.url, tmp_path / "far.npz", "--by", "agreement")
    assert (status, verdict(out)) == (0, "verdict: identical")


@pytest.mark.parametrize(("fault", "status"), [(KeyboardInterrupt, 130), (ZeroDivisionError, 2)])
def test_only_a_worse_service_ends_with_1(compare, behaving, rows, monkeypatch, fault, status):
    def stopped(*arguments):
        raise fault

    monkeypatch.setattr("photoz_client._compare.compare", stopped)
    with behaving() as a, behaving() as b:
        assert compare(a.url, b.url, rows)[0] == status


def test_each_service_gets_its_own_key(compare, behaving, rows, tmp_path):
    for name in ("key-a", "key-b"):
        (tmp_path / name).write_text(f"{name}\n")
    with behaving() as a, behaving() as b:
        key_a, key_b = ("--api-key-file", tmp_path / "key-a"), ("--api-key-file-b", tmp_path / "key-b")
        assert compare(a.url, b.url, rows, *key_a, *key_b)[0] == 0
        assert (set(a.authorizations), set(b.authorizations)) == ({"Bearer key-a"}, {"Bearer key-b"})
        b.authorizations.clear()
        assert compare(a.url, b.url, rows, *key_a)[0] == 0
        assert set(b.authorizations) == {"Bearer key-a"}


def test_the_key_that_does_not_open_one_service_is_told(compare, behaving, rows):
    with behaving() as a, serving(lambda asked: refusal(401, "expected a key", WWW_Authenticate="Bearer")) as b:
        found = complaint(compare(a.url, b.url, rows))
    assert found.startswith("B")
    assert b.url in found
    assert "key" in found


def test_help_reads_well(compare):
    status, out, _ = compare("--help")
    assert status == 0
    assert out.startswith("Usage: photoz compare [OPTIONS] URL_A URL_B CUTOUTS\n")
