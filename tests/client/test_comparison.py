"""Two predictions for the same galaxies: what changes, whether B may replace A, and `photoz compare` on two servers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from photoz import estimates, metrics
from photoz.errors import InvalidInput, InvalidPdfs, InvalidRedshifts
from photoz.flags import Flag
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.images import ImageSpec
from photoz.metrics import GalaxyScores, Score
from photoz_client import comparison as of_two
from photoz_client._cli_compare import Report, Side, _report_text
from photoz_client._pdf_distances import PdfDistances, expected_crps, pdf_distances, quadratic_distances
from photoz_client.comparison import FlagChange, MetricPair, Shift, Verdict, compare, judge, metric_pairs
from tests.client import answers
from tests.client.answers import numbered_cutouts, prediction, raising, with_card
from tests.client.server import serve
from tests.pdfs import calibrated_pdfs, gaussian_pdfs

PDFS, Z_SPEC = (values[:800] for values in calibrated_pdfs())
WIDER = PDFS**0.5 / (PDFS**0.5).sum(axis=1, keepdims=True)  # the point estimates stay, the PDFs get worse


def table(pdfs, grid=SDSS_GRID):
    return estimates.from_pdfs(pdfs, grid, include_pdf=True)


@pytest.fixture(scope="module")
def worse():
    return compare(table(PDFS), table(WIDER), SDSS_GRID, z_spec=Z_SPEC)


def test_shift_and_flag_changes_by_hand():
    moved = of_two.shift(np.array([0.0, 0.25, 1.0, 0.0]), np.array([0.01, 0.25, 0.8, 0.02]))
    assert moved.median == pytest.approx(0.005)  # of 0.01, 0, -0.1, 0.02
    assert moved.sigma_mad == pytest.approx(1.4826 * 0.01)  # of 0.005, 0.005, 0.105, 0.015
    assert (moved.largest, moved.moved) == (pytest.approx(-0.1), 0.25)
    a = np.array([0, Flag.LOW_SNR, Flag.LOW_SNR | Flag.BROAD_PDF, Flag.EDGE_MASS])
    b = np.array([Flag.BROAD_PDF, 0, Flag.LOW_SNR, Flag.EDGE_MASS])
    expected = {"LOW_SNR": FlagChange(gained=0, lost=1), "BROAD_PDF": FlagChange(gained=1, lost=1)}
    assert of_two.flag_changes(a, b) == expected


def test_equal_predictions_are_identical_down_to_the_last_bit():
    a = table(PDFS[:50])
    same = compare(a, table(PDFS[:50]), SDSS_GRID, z_spec=Z_SPEC[:50])
    assert (same.identical, judge(same)) == (True, Verdict("identical", "scores"))
    z_std = a.z_std.copy()
    z_std[-1] = np.nextafter(z_std[-1], 1)
    nearly = compare(a, replace(a, z_std=z_std), SDSS_GRID)
    assert (nearly.identical, judge(nearly, tolerance=0.0)) == (False, Verdict("agree", "agreement"))


def test_judge_by_scores_and_by_agreement(worse):
    verdict, names = judge(worse), ["crps", "pit_ks", "cde_loss", "coverage_68", "coverage_95"]
    worsening = [worse.scores[name].worsening for name in names]
    reasons = tuple(f"{name} by {w.value:.5f} ± {w.error:.5f}" for name, w in zip(names, worsening, strict=True))
    assert (verdict, verdict.passes) == (Verdict("worse", "scores", reasons), False)
    assert judge(worse, tolerance=10.0, by="agreement") == Verdict("agree", "agreement")
    better = judge(compare(table(WIDER), table(PDFS), SDSS_GRID, z_spec=Z_SPEC))
    assert (better, better.passes) == (Verdict("no worse", "scores"), True)
    a = table(PDFS[:100])
    z_mean, flags = a.z_mean.copy(), a.flags.copy()
    z_mean[:3] += 0.2
    flags[:7] ^= Flag.OUT_OF_DISTRIBUTION
    comparison = compare(a, replace(a, z_mean=z_mean, flags=flags), SDSS_GRID)
    moved, flagged = "3.0 % of z_mean moved by more than 0.05 (1 + z)", "7.0 % of the galaxies have other flags"
    assert judge(comparison) == Verdict("differ", "agreement", (moved, flagged))
    assert judge(comparison, 0.03) == Verdict("differ", "agreement", (flagged,))
    pdfs = compare(a, replace(a, pdf=WIDER[:100]), SDSS_GRID)
    assert judge(pdfs).reasons == (f"the PDFs differ by {100 * pdfs.pdfs.crps_loss:.1f} % of the CRPS",)


def test_galaxies_are_scored_where_their_redshift_is_on_both_grids():
    z_spec = np.array([0.1, 0.2, 0.3, 0.5, np.nan, -0.1])
    wide = RedshiftGrid(0.6, 90)
    pdfs_a, pdfs_b = gaussian_pdfs(np.full(6, 0.2), 0.05), gaussian_pdfs(np.full(6, 0.2), 0.05, wide)
    result = compare(table(pdfs_a), table(pdfs_b, wide), SDSS_GRID, wide, z_spec)
    assert (result.n_galaxies, result.n_scored, result.identical) == (6, 3, False)
    assert result.pdfs.largest < 1e-5
    expected = metrics.crps(pdfs_a[:3], z_spec[:3], SDSS_GRID).mean()
    assert result.scores["crps"].a.value == pytest.approx(expected, rel=1e-12)
    assert result.scores["crps"].worsening.value == pytest.approx(0.0, abs=1e-4)


def test_unusable_input_is_refused():
    a = table(PDFS[:3])
    few, enough = (compare(table(PDFS[:n]), table(WIDER[:n]), SDSS_GRID, z_spec=Z_SPEC[:n]) for n in (99, 100))
    unscored = compare(a, replace(a, z_std=a.z_std + 1), SDSS_GRID)
    names = replace(a, object_id=np.array(["0", "1", "x"]))
    for call, kind, message in (
        (lambda: compare(a, names, SDSS_GRID), InvalidInput, "the same galaxies, got 3 and 3, or different names"),
        (lambda: compare(a, table(PDFS[:2]), SDSS_GRID), InvalidInput, "the same galaxies, got 3 and 2, or different"),
        (lambda: compare(table(PDFS[:0]), table(PDFS[:0]), SDSS_GRID), InvalidInput, "the same galaxies, got 0 and 0"),
        (lambda: compare(a, replace(a, pdf=None), SDSS_GRID), InvalidPdfs, "estimates with PDFs"),
        (lambda: compare(replace(a, pdf=None), a, SDSS_GRID), InvalidPdfs, "estimates with PDFs"),
        (lambda: compare(a, a, SDSS_GRID, z_spec=[0.1, 0.2]), InvalidRedshifts, "expected 3 true redshifts"),
        (lambda: compare(a, a, SDSS_GRID, z_spec=[0.5, -1, np.nan]), InvalidRedshifts, "expected 0 <= z <= 0.4"),
        (lambda: judge(unscored, by="scores"), InvalidInput, "to judge by scores, got none"),
        (lambda: judge(few), InvalidInput, "expected 100 or more galaxies .* to judge by scores, got 99"),
        (lambda: metric_pairs(*2 * [GalaxyScores(dz=np.zeros(0))]), InvalidInput, "at least one, got 0 and 0"),
        (lambda: metric_pairs(*(GalaxyScores(dz=np.zeros(n)) for n in (3, 1))), InvalidInput, "one, got 3 and 1"),
    ):
        with pytest.raises(kind, match=message):
            call()
    assert judge(enough).by == "scores"


def test_scores_are_those_of_each_model_and_the_error_that_of_the_differences(worse):
    alone_a, alone_b = (metrics.summarise(metrics.galaxy_scores(of, Z_SPEC, SDSS_GRID)) for of in (PDFS, WIDER))
    assert worse.scores.keys() == alone_a.keys()
    units = {"pit_ks": 1.0, "coverage_68": 1.0, "coverage_95": 1.0, "bias": alone_a["sigma_mad"].value}
    for name, pair in worse.scores.items():
        assert pair.unit == pytest.approx(units.get(name, abs(pair.a.value)), rel=1e-12)
        for score, alone in ((pair.a, alone_a[name]), (pair.b, alone_b[name])):
            assert (score.value, score.error) == pytest.approx((alone.value, alone.error), rel=1e-12)
    for name in ("crps", "cde_loss"):
        scores_a, scores_b = (getattr(metrics, name)(of, Z_SPEC, SDSS_GRID) for of in (PDFS, WIDER))
        difference, pair = scores_b - scores_a, worse.scores[name]
        assert pair.worsening.value == pytest.approx(difference.mean())
        assert pair.worsening.error == pytest.approx(difference.std() / np.sqrt(len(difference)), rel=0.1)
        assert pair.worsening.error < np.hypot(pair.a.error, pair.b.error) / 2  # unpaired, it would be larger


def test_worse_means_farther_from_the_best_value():
    scores = metrics.galaxy_scores(PDFS, Z_SPEC, SDSS_GRID)
    for pair in metric_pairs(scores, scores, n_resamples=20).values():
        assert (pair.worsening, pair.is_worse(0.0), pair.is_better(0.0)) == (Score(0.0, 0.0), False, False)
    for (dz_a, in_68_a), (dz_b, in_68_b), bias, coverage in (
        ((-0.02, 0.5), (0.01, 0.25), -0.01, 0.25),  # the bias is closer to 0, the coverage farther from 0.68
        ((0.01, 1.0), (-0.03, 0.75), 0.02, -0.25),  # the coverage is 0.32 too large, then 0.07
        ((0.0, 0.5), (0.0, 1.0), 0.0, 0.14),  # the coverage is 0.18 too small, then 0.32 too large
    ):
        a = GalaxyScores(dz=np.full(4, dz_a), in_68=np.arange(4) < 4 * in_68_a)
        pairs = metric_pairs(a, GalaxyScores(dz=np.full(4, dz_b), in_68=np.arange(4) < 4 * in_68_b), n_resamples=10)
        worsening = pairs["bias"].worsening.value, pairs["coverage_68"].worsening.value
        assert worsening == pytest.approx((bias, coverage))


def test_distances_are_the_integrals_of_their_definitions_for_different_grids():
    coarse, fine, rng = RedshiftGrid(0.6, 12), RedshiftGrid(0.4, 20), np.random.default_rng(20260101)
    pdfs_a, pdfs_b = (rng.dirichlet(np.full(n_bins, 0.3), 600) for n_bins in (12, 20))
    whole, crps = quadratic_distances(pdfs_a, pdfs_b, coarse, fine), expected_crps(pdfs_a, coarse)
    z = (np.arange(60_000) + 0.5) * 1e-5
    for a, b, distance, crps_a in zip(pdfs_a[:20], pdfs_b[:20], whole[:20], crps[:20], strict=True):
        cdf_a, cdf_b = (np.interp(z, of.edges, np.cumsum([0.0, *p])) for p, of in ((a, coarse), (b, fine)))
        assert distance == pytest.approx(((cdf_a - cdf_b) ** 2).sum() * 1e-5, rel=1e-5)
        assert crps_a == pytest.approx((cdf_a * (1 - cdf_a)).sum() * 1e-5, rel=1e-5)
    summary = pdf_distances(pdfs_a, pdfs_b, coarse, fine)  # of several blocks
    expected = *np.quantile(whole, (0.5, 0.95, 1.0)), whole.sum() / crps.sum()
    assert (summary.median, summary.p95, summary.largest, summary.crps_loss) == pytest.approx(expected)
    # Gaussians that move by a fifth of their sigma lose 2 % of the CRPS.
    still, moved = gaussian_pdfs(np.linspace(0.1, 0.3, 100), 0.02), gaussian_pdfs(np.linspace(0.104, 0.304, 100), 0.02)
    assert pdf_distances(still, moved, SDSS_GRID, SDSS_GRID).crps_loss == pytest.approx(0.02, rel=0.03)


def test_the_report_shows_what_changes():
    pairs = {
        "crps": MetricPair(Score(0.0097, 0.0002), Score(0.0197, 0.0003), Score(0.01, 0.0001), 0.0097),
        "coverage_68": MetricPair(Score(0.5, 0.01), Score(0.6, 0.02), Score(-0.1, 0.03), 1.0),
        "bias": MetricPair(Score(0.0, 0.01), Score(0.0, 0.02), Score(0.0, 0.03), 1.0),
    }
    flags = {"BROAD_PDF": FlagChange(gained=1005, lost=0), "LOW_SNR": FlagChange(gained=0, lost=7)}
    distances = PdfDistances(median=5.5e-07, p95=1e-06, largest=3.1e-06, crps_loss=0.0012)
    shift = Shift(median=0.00004, sigma_mad=0.00006, largest=-0.00049, moved=0.0255)
    comparison = of_two.Comparison(2000, False, shift, distances, flags, 0.506, 1986, pairs)
    sides = Side("http://a", "m 1", 16 * "ab", SDSS_GRID), Side("http://long", "m 2", 16 * "cd", RedshiftGrid(0.6, 90))
    verdict = Verdict("worse", "scores", ("crps by 0.01000 ± 0.00010", "more"))
    assert _report_text(Report(verdict, 0.02, *sides, "cutouts.h5", comparison)) == [
        "A  http://a     m 1, bundle abababababab",
        "B  http://long  m 2, bundle cdcdcdcdcdcd",
        "their grids differ, A: 180 bins, 0 <= z <= 0.4; B: 90 bins, 0 <= z <= 0.6; PDFs are compared by their CDFs",
        "2,000 galaxies of cutouts.h5",
        "",
        "z_mean, (z_B - z_A) / (1 + z_A)",
        "  median +0.00004, sigma_mad 0.00006, farthest -0.00049",
        "  moved by more than 0.05: 51 galaxies (2.55 %)",
        "PDFs, int (F_B - F_A)^2 dz",
        "  median 5.5e-07, 95 % below 1e-06, largest 3.1e-06",
        "  if A's were the truth, B's CRPS would be 0.12 % higher",
        "flags, changed for 50.60 % of the galaxies",
        "  BROAD_PDF   1,005 gained       0 lost",
        "  LOW_SNR         0 gained       7 lost",
        "scores of the 1,986 galaxies with z_spec; 14 left out, z_spec not on the grid",
        "                           A                  B           B worse by         counts from",
        "  crps                0.0097 ± 0.0002    0.0197 ± 0.0003    0.01000 ± 0.00010  0.00020  worse",
        "  coverage_68         0.5000 ± 0.0100    0.6000 ± 0.0200   -0.10000 ± 0.03000  0.06000  better",
        "  bias                0.0000 ± 0.0100    0.0000 ± 0.0200    0.00000 ± 0.03000  0.06000",
        "",
        "verdict: B is worse: crps by 0.01000 ± 0.00010; more (tolerance 0.02 and 2 sigma)",
    ]


@pytest.fixture
def run(photoz, monkeypatch, tmp_path):
    """Run `photoz compare` on the URLs of two servers and n numbered cutouts with further columns."""
    monkeypatch.setattr("photoz_client._retries.FIRST_CONTACT_BUDGET", 0.0)
    monkeypatch.chdir(tmp_path)

    def run(a, b, *options, n=12, **columns):
        np.savez("cutouts.npz", **{"images": numbered_cutouts(n)} | columns)
        return photoz("compare", *(getattr(side, "url", side) for side in (a, b)), "cutouts.npz", *options)

    return run


@pytest.fixture
def behaving(card):
    """Make a server with a card; `pdfs` are those of its galaxies, by row number."""

    def make(predict=prediction, pdfs=None, grid=SDSS_GRID, **changes):
        def predict_pdfs(request):
            return answers.prediction_of(request, pdfs[answers.row_numbers(request)], grid)

        return serve(with_card(card, predict if pdfs is None else predict_pdfs, grid=grid, **changes))

    return make


def failure(ran):
    """Return the only line on standard error, except for the reading report."""
    status, out, err = ran
    (line,) = (line for line in err.splitlines() if " cutouts read, " not in line and "  assumed: " not in line)
    assert (status, out, line[:26]) == (2, "", "Error: could not compare: ")
    return line[26:]


def test_a_service_is_identical_with_itself(run, behaving):
    with behaving(digest=16 * "ab") as a:
        status, out, err = run(a, a, "--split", "test", n=6, split=["train", "test", "test"] * 2)
    read = "cutouts.npz: 6 cutouts read, 4 used, 2 left out: not of the split test"
    assert (status, err.splitlines()[0]) == (0, read)
    sides = f"A  {a.url}  photoz 1, bundle abababababab\nB  {a.url}  photoz 1, the same bundle\n"
    identical = "\n\nall columns and PDFs are identical, bit for bit\n\nverdict: identical\n"
    assert out == f"{sides}4 galaxies of cutouts.npz, split test{identical}"


def test_the_exit_code_is_the_verdict(run, behaving):
    z_spec, off_grid, differ = Z_SPEC[:120], np.full(120, 7.0), "they differ: the PDFs differ by "
    with behaving(pdfs=PDFS) as good, behaving(pdfs=WIDER) as bad:
        for a, b, columns, options, status, verdict in (
            (good, bad, {"z_spec": z_spec}, (), 1, "B is worse: crps by 0.0"),
            (bad, good, {"z_spec": z_spec}, (), 0, "B is no worse (tolerance 0.02 and 2 sigma)"),
            (good, bad, {"z_spec": z_spec}, ("--tolerance", 1000), 0, "B is no worse (tolerance 1000 and 2 sigma)"),
            (bad, good, {"z_spec": z_spec}, ("--by", "agreement", "--tolerance", 0), 1, differ),
            (good, bad, {"z_spec": off_grid}, ("--by", "agreement"), 1, differ),
            (good, bad, {}, (), 1, differ),
            (good, bad, {}, ("--by", "agreement", "--tolerance", 1000), 0, "they agree (tolerance 1000)"),
        ):
            ran, out, _ = run(a, b, *options, n=120, **columns)
            assert (ran, out.splitlines()[-1].startswith(f"verdict: {verdict}")) == (status, True), out
        message = failure(run(good, bad, "--by", "scores", n=120, z_spec=off_grid))
        assert message == "none of the 120 z_spec is on both grids: expected 0 <= z <= 0.4"
        assert "expected a column 'z_spec'" in failure(run(good, bad, "--by", "scores", n=120))
        with behaving(pdfs=WIDER.reshape(-1, 90, 2).sum(axis=2), grid=RedshiftGrid(0.4, 90)) as coarse:
            report = json.loads(run(good, coarse, "--json", n=120, z_spec=[np.nan, *z_spec[1:]])[1])
    assert report.keys() == {"verdict", "tolerance", "a", "b", "cutouts", "comparison"}
    assert (report["verdict"]["word"], report["tolerance"], report["cutouts"]) == ("worse", 0.02, "cutouts.npz")
    assert [report[side]["url"] for side in "ab"] == [good.url, coarse.url]
    assert [report["comparison"][name] for name in ("n_galaxies", "n_scored", "identical")] == [120, 119, False]


def test_the_failing_service_is_named(run, behaving, card, small_requests, monkeypatch):
    nowhere = "http://127.0.0.1:9"
    refused = f"no photoz service answers at {nowhere}: connection refused; is it running?"
    with behaving() as a, behaving(answers.failing_at(0)) as b, behaving(image=ImageSpec(64, "gr")) as larger:
        assert failure(run(a, nowhere)) == f"B: {refused}"
        assert failure(run(nowhere, a)) == f"A: {refused}"
        message = failure(run(a, larger))
        assert message.startswith("the services take different cutouts; A: 8 x 8 x 2 cutouts, bands g,r, ")
        assert "; B: 64 x 64 x 2 cutouts, bands g,r, " in message
        message = failure(run(a, a, images=np.ones((2, 8, 8, 3))))
        assert message.startswith("cutouts.npz: expected 2 bands as the second or the last axis of images, got shape")
        assert {request.url.path for request in a.requests} == {"/model"}  # no cutouts
        message = failure(run(a, b))
        assert message.startswith(f"B: 4 of 12 cutouts have no prediction; cutouts 0 to 3: the service at {b.url}/")
        b.behave = with_card(card, lambda request: prediction(request, "photoz 2"))
        message = failure(run(a, b))
        assert message == f"B at {b.url}: the model changed in the meantime, from photoz 1 to photoz 2"
        for fault, status in ((KeyboardInterrupt, 130), (ZeroDivisionError, 2), (BrokenPipeError, 2)):
            monkeypatch.setattr("photoz_client._cli_compare.compare", raising(fault))
            assert run(a, a)[0] == status  # exit code 1 is for a worse service only


def test_each_service_gets_its_own_key(run, behaving, tmp_path):
    for name, key in (("a", "key-a\n"), ("b", "key-b\n"), ("bad", "two words\n")):
        (tmp_path / name).write_text(key)
    with behaving() as a, behaving() as b:
        assert run(a, b, "--api-key-file", "a", "--api-key-file-b", "b")[0] == 0
        assert (set(a.authorizations), set(b.authorizations)) == ({"Bearer key-a"}, {"Bearer key-b"})
        b.authorizations.clear()
        assert run(a, b, "--api-key-file", "a")[0] == 0
        assert set(b.authorizations) == {"Bearer key-a"}
        for option in ("--api-key-file", "--api-key-file-b"):
            assert "to hold an API key" in failure(run(a, b, option, "bad"))
