"""Files of magnitudes as their owners have them: formats, missing numbers, and mistakes that would bias redshifts."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import MaskedColumn, Table

from photoz.errors import InvalidDataset
from photoz.images import SFD_COEFFICIENTS, ImageSpec
from training.catalogue import Catalogue
from training.catalogue_reader import read_catalogue

BANDS = ("g", "r", "i")
N = 20
FRAME = pd.DataFrame(
    {
        "object_id": [f"galaxy {row}" for row in range(N)],
        "g": np.linspace(18.0, 21.0, N),
        "r": np.linspace(17.2, 20.0, N),
        "i": np.linspace(16.9, 19.6, N),
        "z_spec": np.linspace(0.02, 0.38, N),
        "ebv": np.linspace(0.01, 0.2, N),
    }
)
HEADER, ROW = "g,r,i,z_spec\n", "18,17,16.5,0.1\n"


def read(path: Path, columns: dict[str, str] | None = None, quantity: str = "magnitude", **options: bool) -> Catalogue:
    return read_catalogue(
        path, columns or {}, ImageSpec(bands=BANDS), are_magnitudes=quantity == "magnitude", **options
    )


def written(tmp_path: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(tmp_path / "cat.csv", index=False)
    return tmp_path / "cat.csv"


def text_file(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "cat.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path, *arguments: object, **options: bool) -> str:
    with pytest.raises(InvalidDataset) as caught:
        read(path, *arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_reddening_without_a_column_is_unknown(tmp_path: Path) -> None:
    galaxies = read(written(tmp_path, FRAME.rename(columns={"ebv": "E_BV"})))
    assert np.isnan(galaxies.ebv).all()
    np.testing.assert_allclose(galaxies.magnitudes, FRAME[list(BANDS)])
    assert "E(B-V) is unknown: no column ebv" in str(galaxies.report)
    assert "AB magnitudes as observed" in galaxies.report.notes
    np.testing.assert_allclose(read(tmp_path / "cat.csv", {"ebv": "E_BV"}).ebv, FRAME.ebv)


@pytest.mark.parametrize("quantity", ["magnitude", "flux"])
def test_dereddened_values_are_reddened_again(tmp_path: Path, quantity: str) -> None:
    frame, observed = FRAME.assign(g_err=0.1), FRAME[list(BANDS)] + np.outer(FRAME.ebv, [3.793, 2.751, 2.086])
    if quantity == "flux":
        frame[list(BANDS)] = 10.0 ** (0.4 * (22.5 - FRAME[list(BANDS)]))
        frame["g_err"] = 0.1 * frame.g * np.log(10.0) / 2.5
    galaxies = read(written(tmp_path, frame), None, quantity, dereddened=True)
    assert SFD_COEFFICIENTS["g"] == 3.793
    np.testing.assert_allclose(galaxies.magnitudes, observed)
    np.testing.assert_allclose(galaxies.magnitude_errors[:, 0], 0.1)
    np.testing.assert_allclose(galaxies.ebv, FRAME.ebv)


def test_dereddened_values_need_reddening(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, FRAME.drop(columns="ebv")), dereddened=True)
    assert message.startswith("--dereddened needs E(B-V), but ")
    assert message.endswith("lacks the columns ebv=ebv; it has object_id, g, r, i, z_spec")
    unknown = FRAME.assign(ebv=FRAME.ebv.where(FRAME.index > 2))
    galaxies = read(written(tmp_path, unknown), dereddened=True)
    assert len(galaxies) == N - 3
    assert galaxies.report.left_out["without an E(B-V)"] == 3


@pytest.mark.parametrize("rows_before", [0, 1])  # pandas shifts the columns in silence if it is the first
@pytest.mark.parametrize("row", ["18,17,16.5,0.1,5\n", "18,17,16.5,0.1,\n", "18,17,16.5\n"])
def test_rows_that_do_not_fit_the_header_are_refused(tmp_path: Path, row: str, rows_before: int) -> None:
    n = row.count(",") + 1
    expected = f"line {2 + rows_before} has {n} fields, but the header has 4 names (g, r, i, z_spec)"
    assert f"cat.csv: {expected}; expected" in refusal(text_file(tmp_path, HEADER + rows_before * ROW + row))


def test_columns_that_the_file_lacks_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, FRAME)
    assert refusal(path, {"z_spec": "typo"}).endswith(
        "cat.csv lacks the columns z_spec=typo; it has object_id, g, r, i, z_spec, ebv"
    )
    assert refusal(path, {"specz": "z_spec"}) == (
        "--columns names specz: expected names of g, r, i, z_spec, ebv, object_id, ra, dec, split, g_err, r_err, i_err"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cat.csv is empty: expected a line of column names, then one line for each galaxy"),
        ("# nothing\n", "cat.csv is empty: expected a line of column names, then one line for each galaxy"),
        ("# " + HEADER + ROW, "cat.csv: line 2 has numbers; expected column names there, without # before them"),
        (HEADER, "cat.csv has no rows: expected one for each galaxy"),
        (HEADER + ROW + "18,--,17,0.1\n", "cat.csv: '--' in column 'r' of row 2: expected a number, or an empty field"),
        ((HEADER + ROW + "é,17,17,0.1\n").encode("latin-1"), "is not UTF-8 text (byte 0xe9 at position 28): expected"),
        ("g,g,r,i\n18,18,17,17\n", "cat.csv has several columns named 'g'"),
        (
            HEADER + "18,17,,0.1\n99,17,16,0.1\n",
            "no row can be used: cat.csv: 2 rows read, 0 used; left out: 1 without a",
        ),
        ("object_id," + HEADER + 2 * ("x," + ROW), "all 2 rows have the object_id 'x'; expected one each"),
    ],
)
def test_unusable_files_are_refused_in_one_sentence(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert message in refusal(text_file(tmp_path, content))


@pytest.mark.parametrize("name", ["cat.fits", "cat.parquet", "cat.vot", "cat.ecsv", "cat.csv.gz"])
@pytest.mark.parametrize("content", [b"", b"nothing of the sort\n"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert name in refusal(tmp_path / name)


def test_numbers_that_stand_for_unknown_ones_are_left_out(tmp_path: Path) -> None:
    frame = FRAME.copy()
    frame.loc[0, "g"], frame.loc[1, "r"], frame.loc[2, "r"], frame.loc[3, "i"] = 99.0, -99.0, 3.0, np.nan
    frame.loc[4, "ebv"], frame.loc[5, "ebv"], frame.loc[6, "ebv"], frame.loc[7, "z_spec"] = -0.01, 11.0, np.nan, -999.0
    galaxies = read(written(tmp_path, frame))
    assert galaxies.object_id.tolist() == FRAME.object_id[6:].tolist()
    assert np.isnan(galaxies.ebv[0])
    assert np.isnan(galaxies.z_spec[1])
    assert dict(galaxies.report.left_out) == {
        "without a magnitude of 5 to 40 in g": 1,
        "without a magnitude of 5 to 40 in r": 2,
        "without a magnitude of 5 to 40 in i": 1,
        "with an E(B-V) below 0 or above 10": 2,
    }
    assert str(galaxies.report).splitlines()[:3] == [
        "cat.csv: 20 rows read, 14 used",
        "  left out: 1 without a magnitude of 5 to 40 in g",
        "  left out: 2 without a magnitude of 5 to 40 in r",
    ]
    assert "  z_spec: 0.1337 to 0.38, unknown for 1" in galaxies.describe(BANDS).splitlines()


def test_a_band_that_is_mostly_unknown_leaves_the_others(tmp_path: Path) -> None:
    frame = FRAME.assign(g=FRAME.g.where(FRAME.index < 4, 99.0))
    assert len(read(written(tmp_path, frame))) == 4


def test_the_other_quantity_is_refused(tmp_path: Path) -> None:
    fluxes = FRAME.assign(**{band: 10.0 ** (0.4 * (22.5 - FRAME[band])) for band in BANDS})
    message = refusal(written(tmp_path, fluxes))
    assert "most rows have a magnitude outside 5 to 40 mag, such as 63.0957 in g" in message
    assert message.endswith("If these look like fluxes, use --quantity flux")
    np.testing.assert_allclose(read(tmp_path / "cat.csv", None, "flux").magnitudes, FRAME[list(BANDS)], rtol=1e-6)
    message = refusal(written(tmp_path, FRAME), None, "flux")
    assert "nearly all fluxes are between 10 and 30, such as 18 in g; expected fluxes in nanomaggies" in message
    assert message.endswith("These look like magnitudes: use --quantity magnitude")


def test_fluxes_of_no_galaxy_are_left_out(tmp_path: Path) -> None:
    fluxes = FRAME.assign(**{band: 10.0 ** (0.4 * (22.5 - FRAME[band])) for band in BANDS})
    fluxes.loc[0, "g"], fluxes.loc[1, "g"] = 0.0, 1e9
    left_out = read(written(tmp_path, fluxes), None, "flux").report.left_out
    assert left_out["without a positive flux of 5 to 40 mag in g"] == 2


def test_rows_of_one_object_are_in_one_split(tmp_path: Path) -> None:
    frame = pd.concat([FRAME, FRAME, FRAME.assign(object_id=np.nan)])
    galaxies = read(written(tmp_path, frame))
    assert np.array_equal(galaxies.split[:N], galaxies.split[N : 2 * N])
    assert set(galaxies.split) == {"train", "validation", "test"}
    assert len(set(galaxies.object_id)) == 2 * N  # rows without an identifier are objects of their own
    assert (
        "warning: rows that repeat an object_id: 20; those of one object are in the same split" in galaxies.report.notes
    )


def test_split_of_the_file_is_kept(tmp_path: Path) -> None:
    galaxies = read(written(tmp_path, FRAME.assign(split="test")))
    assert galaxies.split.tolist() == ["test"] * N
    assert "split of the file" in galaxies.report.notes
    assert galaxies.describe(BANDS).splitlines()[-4:] == [
        "  median magnitudes as observed: g 19.5, r 18.6, i 18.2",
        "  E(B-V): 0.01 to 0.2",
        "  z_spec: 0.02 to 0.38",
        "  split: 0 train, 0 validation, 20 test",
    ]
    message = refusal(written(tmp_path, FRAME.assign(split=1)))
    assert message.endswith("cat.csv: column 'split' has '1'; expected train, validation, test")


def test_index_of_a_parquet_file_is_a_column(tmp_path: Path) -> None:
    FRAME.set_index("object_id").to_parquet(tmp_path / "cat.parquet")
    assert read(tmp_path / "cat.parquet").object_id.tolist() == FRAME.object_id.tolist()


def test_long_identifiers_keep_their_digits(tmp_path: Path) -> None:
    numbers = [1237648720693755918 + row for row in range(N)]
    frame = FRAME.assign(object_id=pd.array(numbers, dtype="Int64"))
    frame.loc[N - 1, "object_id"] = pd.NA
    assert read(written(tmp_path, frame)).object_id[:2].tolist() == ["1237648720693755918", "1237648720693755919"]


def test_photometric_errors_are_read(tmp_path: Path) -> None:
    frame = FRAME.assign(g_err=0.05, psf_err_r=0.02)
    frame.loc[0, "g_err"], frame.loc[1, "g_err"] = -1.0, 99.0
    galaxies = read(written(tmp_path, frame), {"r_err": "psf_err_r"})
    np.testing.assert_allclose(galaxies.magnitude_errors[2:], np.tile([0.05, 0.02, np.nan], (N - 2, 1)))
    assert np.isnan(galaxies.magnitude_errors[:2, 0]).all()
    assert "photometric errors are unknown in i" in galaxies.report.notes
    fluxes = pd.DataFrame({"g": [100.0, 1.0], "r": [200.0, 2.0], "i": [300.0, 3.0], "g_err": [5.0, 0.1]})
    galaxies = read(written(tmp_path, fluxes), None, "flux")
    np.testing.assert_allclose(galaxies.flux_errors[:, :2], [[5.0, np.nan], [0.1, np.nan]])


def test_comments_blanks_and_compression_are_read(tmp_path: Path) -> None:
    lines = FRAME.to_csv(index=False).splitlines()
    text = '# made by "hand, in two lines\n#\n\n' + "\n".join([lines[0].replace(",", " , "), *lines[1:]]) + "\n\n"
    for path in (tmp_path / "cat.csv.gz", tmp_path / "cat.csv"):
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        galaxies = read(path)
        np.testing.assert_allclose(galaxies.magnitudes, FRAME[list(BANDS)])
        np.testing.assert_allclose(galaxies.z_spec, FRAME.z_spec)
        assert galaxies.object_id.tolist() == FRAME.object_id.tolist()


@pytest.mark.parametrize("name", ["cat.ecsv", "cat.vot", "cat.xml", "cat.fits"])
def test_astropy_tables_are_read_with_their_masks(tmp_path: Path, name: str) -> None:
    table = Table.from_pandas(FRAME)
    table["ebv"] = MaskedColumn(FRAME.ebv, mask=FRAME.index == 1)
    table["g"] = MaskedColumn(FRAME.g, mask=FRAME.index == 2)
    table.write(tmp_path / name, format="votable" if name.endswith((".vot", ".xml")) else None)
    galaxies = read(tmp_path / name)
    kept = FRAME.drop(index=2)
    np.testing.assert_allclose(galaxies.magnitudes, kept[list(BANDS)])
    np.testing.assert_allclose(galaxies.ebv, kept.ebv.where(kept.index != 1))
    assert galaxies.object_id.tolist() == kept.object_id.tolist()


def test_selection_is_counted_and_checked(tmp_path: Path) -> None:
    galaxies = read(written(tmp_path, FRAME)).select("r<18,ebv<=0.05", BANDS)
    chosen = FRAME[(FRAME.r < 18) & (FRAME.ebv <= 0.05)]
    assert galaxies.object_id.tolist() == chosen.object_id.tolist()
    assert galaxies.report.left_out["that do not meet r<18,ebv<=0.05"] == N - len(chosen)
    assert f"{N} rows read, {len(chosen)} used" in str(galaxies.report)
    with pytest.raises(InvalidDataset, match="cannot select by 'u': expected one of g, r, i, z_spec, ebv, ra, dec"):
        galaxies.select("u<20", BANDS)
    with pytest.raises(InvalidDataset, match="none of 5 galaxies meets r<3"):
        galaxies.select("r<3", BANDS)


def test_provenance_says_how_many_are_drawn(tmp_path: Path) -> None:
    galaxies = read(written(tmp_path, FRAME)).head(6)
    assert galaxies.provenance == "rendered from real photometry: 6 galaxies of cat.csv"
    assert galaxies.report.left_out["after the first 6"] == N - 6
