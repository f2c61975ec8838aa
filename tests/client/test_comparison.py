from dataclasses import replace

import numpy as np
import pytest

from photoz import estimates, metrics
from photoz.errors import InvalidInput, InvalidPdfs, InvalidRedshifts
from photoz.flags import Flag
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz_client.comparison import FlagChange, Verdict, compare, flag_changes, judge, shift


def table(pdfs, grid=SDSS_GRID):
    return estimates.from_pdfs(pdfs, grid, include_pdf=True)


def test_shift_by_hand():
    moved = shift(np.array([0.0, 0.25, 1.0, 0.0]), np.array([0.01, 0.25, 0.8, 0.02]))
    assert moved.median == pytest.approx(0.005)  # of 0.01, 0, -0.1, 0.02
    assert moved.sigma_mad == pytest.approx(1.4826 * 0.01)  # of 0.005, 0.005, 0.105, 0.015
    assert moved.largest == pytest.approx(-0.1)
    assert moved.moved == 0.25


def test_flag_changes_count_gains_and_losses():
    a = np.array([0, Flag.LOW_SNR, Flag.LOW_SNR | Flag.BROAD_PDF, Flag.EDGE_MASS])
    b = np.array([Flag.BROAD_PDF, 0, Flag.LOW_SNR, Flag.EDGE_MASS])
    expected = {"LOW_SNR": FlagChange(gained=0, lost=1), "BROAD_PDF": FlagChange(gained=1, lost=1)}
    assert flag_changes(a, b) == expected


def test_equal_predictions_are_identical_down_to_the_last_bit(calibrated):
    pdfs, z_spec = (values[:50] for values in calibrated)
    a = table(pdfs)
    same = compare(a, table(pdfs), SDSS_GRID, z_spec=z_spec)
    assert same.identical
    assert judge(same) == Verdict("identical", "scores")
    z_std = a.z_std.copy()
    z_std[-1] = np.nextafter(z_std[-1], 1)
    nearly = compare(a, replace(a, z_std=z_std), SDSS_GRID)
    assert not nearly.identical
    assert judge(nearly, tolerance=0.0) == Verdict("agree", "agreement")


def test_judge_by_scores_and_by_agreement(calibrated, wider):
    pdfs, z_spec = calibrated
    worse = judge(compare(table(pdfs), table(wider), SDSS_GRID, z_spec=z_spec))
    assert (worse.word, worse.by, worse.passes) == ("worse", "scores", False)
    names = [reason.split()[0] for reason in worse.reasons]
    assert names == ["crps", "pit_ks", "cde_loss", "coverage_68", "coverage_95"]
    differ = judge(compare(table(pdfs), table(wider), SDSS_GRID))
    assert (differ.word, differ.by, differ.passes) == ("differ", "agreement", False)
    better = compare(table(wider), table(pdfs), SDSS_GRID, z_spec=z_spec)
    assert judge(better) == Verdict("no worse", "scores")
    assert judge(better, by="agreement").word == "differ"
    assert judge(better, tolerance=10.0, by="agreement") == Verdict("agree", "agreement")


def test_each_kind_of_disagreement_has_its_reason(calibrated):
    a = table(calibrated[0][:100])
    z_mean, flags = a.z_mean.copy(), a.flags.copy()
    z_mean[:3] += 0.2
    flags[:7] ^= Flag.OUT_OF_DISTRIBUTION
    result = judge(compare(a, replace(a, z_mean=z_mean, flags=flags), SDSS_GRID))
    assert result.reasons == (
        "3.0 % of z_mean moved by more than 0.05 (1 + z)",
        "7.0 % of the galaxies have other flags",
    )


def test_galaxies_are_scored_where_their_redshift_is_on_both_grids(gaussian_pdfs):
    z_spec = np.array([0.1, 0.2, 0.3, 0.5, np.nan, -0.1])
    wide = RedshiftGrid(0.6, 90)
    pdfs_a, pdfs_b = gaussian_pdfs(np.full(6, 0.2), 0.05), gaussian_pdfs(np.full(6, 0.2), 0.05, wide)
    result = compare(table(pdfs_a), table(pdfs_b, wide), SDSS_GRID, wide, z_spec)
    assert (result.n_galaxies, result.n_scored, result.identical) == (6, 3, False)
    assert result.pdfs.largest < 1e-5
    expected = metrics.crps(pdfs_a[:3], z_spec[:3], SDSS_GRID).mean()
    assert result.scores["crps"].a.value == pytest.approx(expected, rel=1e-12)
    assert result.scores["crps"].worsening.value == pytest.approx(0.0, abs=1e-4)


def test_unusable_input_is_refused(calibrated, wider):
    a = table(calibrated[0][:3])
    with pytest.raises(InvalidInput, match="the same galaxies"):
        compare(a, replace(a, object_id=np.array(["0", "1", "x"])), SDSS_GRID)
    with pytest.raises(InvalidPdfs, match="estimates with PDFs"):
        compare(a, replace(a, pdf=None), SDSS_GRID)
    with pytest.raises(InvalidRedshifts, match="expected 3 true redshifts"):
        compare(a, a, SDSS_GRID, z_spec=[0.1, 0.2])
    with pytest.raises(InvalidRedshifts, match="none of the 3 z_spec is on both grids: expected 0 <= z <= 0.4"):
        compare(a, a, SDSS_GRID, z_spec=[0.5, -1, np.nan])
    with pytest.raises(InvalidInput, match="to judge by scores, got none"):
        judge(compare(a, replace(a, z_std=a.z_std + 1), SDSS_GRID), by="scores")
    pdfs, z_spec = (values[:99] for values in calibrated)
    with pytest.raises(InvalidInput, match="expected 100 or more galaxies .* to judge by scores, got 99"):
        judge(compare(table(pdfs), table(wider[:99]), SDSS_GRID, z_spec=z_spec))
