from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from photoz.errors import InvalidDataset
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.cutouts import TEST, TRAIN
from photoz.io.reader import open_cutouts
from training.catalogue import Catalogue
from training.cli import main
from training.sample import make_sample
from training.splits import group_by_galaxy


def test_sample_has_the_columns_of_the_catalogue(sample_file: Path, catalogue: Catalogue) -> None:
    with open_cutouts(sample_file) as cutouts:
        assert cutouts.images.shape == (300, 64, 64, 5)
        assert cutouts.spec == SDSS_IMAGES
        assert cutouts.provenance.startswith("rendered from real photometry")
        assert np.isfinite(cutouts.images[:]).all()
        for name in ("ebv", "z_spec", "magnitudes", "object_id", "ra", "dec", "split"):
            assert np.array_equal(cutouts.column(name), getattr(catalogue, name)[:300]), name


def test_file_does_not_depend_on_the_number_of_workers(tmp_path: Path, catalogue: Catalogue) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        make_sample(catalogue.head(100), tmp_path / name, SDSS_IMAGES, seed=7, workers=workers)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_seeds_give_different_noise(tmp_path: Path, catalogue: Catalogue) -> None:
    files = [tmp_path / "0.h5", tmp_path / "1.h5"]
    for seed, path in enumerate(files):
        make_sample(catalogue.head(2), path, SDSS_IMAGES, seed=seed, workers=1)
    with open_cutouts(files[0]) as first, open_cutouts(files[1]) as second:
        assert not np.array_equal(first.images[:], second.images[:])


def test_bands_without_observing_conditions_are_refused(tmp_path: Path, catalogue: Catalogue) -> None:
    with pytest.raises(InvalidDataset, match="cannot draw y"):
        make_sample(catalogue.head(2), tmp_path / "s.h5", ImageSpec(bands="ugriy"))
    assert not list(tmp_path.iterdir())


def test_renders_add_cutouts_of_galaxies_not_for_testing(tmp_path: Path, catalogue: Catalogue) -> None:
    few = catalogue.head(100)
    make_sample(few, tmp_path / "once.h5", SDSS_IMAGES, workers=1)
    make_sample(few, tmp_path / "thrice.h5", SDSS_IMAGES, renders=3, workers=1)
    again = np.tile(np.flatnonzero(few.split != TEST), 2)
    with open_cutouts(tmp_path / "once.h5") as once, open_cutouts(tmp_path / "thrice.h5") as thrice:
        assert len(thrice) == 100 + len(again)
        assert thrice.provenance == f"{once.provenance}; 3 renders of those not tested on"
        np.testing.assert_array_equal(thrice.images[:100], once.images[:])
        for name in ("object_id", "z_spec", "split", "magnitudes"):
            np.testing.assert_array_equal(thrice.column(name)[100:], once.column(name)[again])
        assert not np.isclose(thrice.column("position_angle")[100:], once.column("position_angle")[again]).any()
        first, galaxy = group_by_galaxy(thrice, thrice.rows(TRAIN))
        np.testing.assert_array_equal(np.sort(first), once.rows(TRAIN))
        assert np.bincount(galaxy).tolist() == [3] * len(first)


def magnitudes_file(folder: Path, catalogue: Catalogue) -> Path:
    """Write galaxies as a user's file of magnitudes, without E(B-V)."""
    frame = pd.DataFrame(catalogue.head(40).magnitudes, columns=list("ugriz")).assign(specz=catalogue.z_spec[:40])
    frame.to_csv(folder / "cat.csv", index=False)
    return folder / "cat.csv"


def test_file_of_magnitudes_becomes_a_sample(tmp_path: Path, catalogue: Catalogue, run_cli: Callable[..., str]) -> None:
    path, out = magnitudes_file(tmp_path, catalogue), tmp_path / "sample.h5"
    options = ("--columns", "z_spec=specz", "--select", "r>16,z_spec>0.05", "--limit", 5, "--workers", 1)
    report = tmp_path / "report.txt"
    output = run_cli("sample", out, "--catalogue", path, "--reading-report", report, *options)
    assert report.read_text() in output
    chosen = np.flatnonzero((catalogue.magnitudes[:40, 2] > 16) & (catalogue.z_spec[:40] > 0.05))
    assert "cat.csv: 40 rows read, 5 used" in output
    assert f"left out: {40 - len(chosen)} that do not meet r>16,z_spec>0.05" in output
    assert f"left out: {len(chosen) - 5} after the first 5" in output
    assert "E(B-V): unknown for 5\n" in output
    with open_cutouts(out) as cutouts:
        assert cutouts.provenance == (
            "rendered from real photometry: 5 galaxies of cat.csv, as seen by Sloan Digital Sky Survey"
        )
        assert np.isnan(cutouts.column("ebv")).all()
        np.testing.assert_allclose(cutouts.column("z_spec"), catalogue.z_spec[chosen[:5]])
        np.testing.assert_allclose(cutouts.column("magnitudes"), catalogue.magnitudes[chosen[:5]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dereddened"], "--dereddened needs E(B-V)"),
        (["--columns", "z_spec=typo"], "lacks the columns z_spec=typo; it has u, g, r, i, z, specz"),
        (["--columns", "u=g,u=r"], "expected name=column,... with distinct names, got 'u=g,u=r'"),
        (["--select", "r"], "expected conditions such as"),
        (["--bands", "gg"], "cannot draw 64 pixels in the bands 'gg': expected 8 to 1024 pixels and distinct bands"),
        (["--size", "4"], "cannot draw 4 pixels in the bands 'u,g,r,i,z'"),
        (["--survey", "legcy"], "no survey legcy: expected one of des, hsc, kids, legacy, lsst, ps1, sdss, or a file"),
        (["--survey", "ps1"], "lacks the columns y=y"),
        (["--quantity", "flux"], "These look like magnitudes: use --quantity magnitude"),
    ],
)
def test_unusable_options_are_refused(tmp_path: Path, catalogue: Catalogue, options: list[str], message: str) -> None:
    path = magnitudes_file(tmp_path, catalogue)
    done = CliRunner().invoke(main, ["sample", str(tmp_path / "s.h5"), "--catalogue", str(path), *options])
    assert done.exit_code in (1, 2)
    assert message in done.output
    assert not (tmp_path / "s.h5").exists()


def test_options_of_a_file_need_one() -> None:
    done = CliRunner().invoke(main, ["sample", "--dereddened"])
    assert "--columns and --dereddened describe a file: expected --catalogue FILE" in done.output


def test_sample_for_testing_only_cannot_train(tmp_path: Path, catalogue: Catalogue) -> None:
    few = replace(catalogue.head(4), split=np.full(4, TEST))
    make_sample(few, tmp_path / "s.h5", SDSS_IMAGES, workers=1)
    run = ["--bundle", str(tmp_path / "bundle"), "--run", str(tmp_path / "run")]
    trained = CliRunner().invoke(main, ["train", "--data", str(tmp_path / "s.h5"), *run])
    assert "no galaxy of split 'train' has 0 <= z_spec <= 0.4; the data have 4 in 'test'" in trained.output


def test_a_whole_sample_or_a_part_of_it_is_a_test(tmp_path: Path, catalogue: Catalogue) -> None:
    make_sample(catalogue.head(40), tmp_path / "s.h5", SDSS_IMAGES, workers=1)
    for options, n in (
        (["--all"], 40),
        (["--all", "--select", "z_spec<0.1"], int((catalogue.z_spec[:40] < 0.1).sum())),
    ):
        arguments = [
            "evaluate",
            "models/photoz",
            str(tmp_path / "s.h5"),
            "--output",
            str(tmp_path / "report"),
            "--no-figures",
        ]
        done = CliRunner().invoke(main, [*arguments, *options])
        assert done.exit_code == 0, done.output
        assert f"figures ({n} galaxies)" in done.output
        assert "local linear regression" not in done.output
