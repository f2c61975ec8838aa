"""Files of magnitudes as their owners have them: formats, missing numbers, and mistakes that would bias redshifts."""

import gzip

import numpy as np
import pandas as pd
import pytest
from astropy.table import MaskedColumn, Table

from photoz.errors import InvalidDataset, UnsupportedType
from photoz.images import ImageSpec
from training.catalogue_reader import read_catalogue

BANDS, SPEC, N = ["g", "r", "i"], ImageSpec(bands="gri"), 20
ENDS = {"g": (18.0, 21.0), "r": (17.2, 20.0), "i": (16.9, 19.6), "z_spec": (0.02, 0.38), "ebv": (0.01, 0.2)}
FRAME = pd.DataFrame({name: np.linspace(*ends, N) for name, ends in ENDS.items()})
FRAME.insert(0, "object_id", [f"galaxy {row}" for row in range(N)])
FLUXES = FRAME.assign(**{band: 10.0 ** (0.4 * (22.5 - FRAME[band])) for band in BANDS})
HEADER, ROW = "g,r,i,z_spec\n", "18,17,16.5,0.1\n"


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a frame, the bytes of a .csv file, or a file, as a catalogue."""

    def catalogue(content, columns=(), are_magnitudes=True, **options):
        path = content if hasattr(content, "suffix") else tmp_path / "cat.csv"
        if isinstance(content, pd.DataFrame):
            content.to_csv(path, index=False)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        return read_catalogue(path, dict(columns), SPEC, are_magnitudes=are_magnitudes, **options)

    return catalogue


@pytest.fixture
def refusal(read):
    """Return a function that reads what cannot be read, and returns the error, which is one line."""

    def error(*arguments, **options):
        with pytest.raises(InvalidDataset, match=r"^[^\n]*$") as caught:
            read(*arguments, **options)
        return str(caught.value)

    return error


def test_tables_are_read_with_their_masks(read, tmp_path):
    known = FRAME.assign(ebv=FRAME.ebv.where(FRAME.index != 1), g=FRAME.g.where(FRAME.index != 2))
    known.set_index("object_id").to_parquet(tmp_path / "cat.parquet")
    table = Table.from_pandas(FRAME)
    table["ebv"], table["g"] = (MaskedColumn(FRAME[column], mask=known[column].isna()) for column in ("ebv", "g"))
    for name, format in (("cat.ecsv", None), ("cat.vot", "votable"), ("cat.fits", None)):
        table.write(tmp_path / name, format=format)
    for path in tmp_path.iterdir():
        galaxies, kept = read(path), known.drop(index=2)
        np.testing.assert_allclose(galaxies.magnitudes, kept[BANDS])
        np.testing.assert_allclose(galaxies.ebv, kept.ebv)
        assert galaxies.object_id.tolist() == kept.object_id.tolist()
    lines = FRAME.to_csv(index=False).splitlines()
    text = '# made by "hand, in two lines\n#\n\n' + "\n".join([lines[0].replace(",", " , "), *lines[1:]]) + "\n\n"
    (tmp_path / "cat.csv.gz").write_bytes(gzip.compress(text.encode()))
    for content in (tmp_path / "cat.csv.gz", text.encode()):
        galaxies = read(content)
        np.testing.assert_allclose(galaxies.magnitudes, FRAME[BANDS])
        np.testing.assert_allclose(galaxies.z_spec, FRAME.z_spec)
        assert galaxies.object_id.tolist() == FRAME.object_id.tolist()


def test_reddening_without_a_column_is_unknown(read, refusal, tmp_path):
    renamed = FRAME.rename(columns={"ebv": "dust"})
    galaxies = read(renamed)
    assert np.isnan(galaxies.ebv).all()
    assert galaxies.report.notes == (
        "AB magnitudes as observed",
        "photometric errors are unknown in g,r,i",
        "E(B-V) is unknown: no column ebv",
        "split at random",
    )
    np.testing.assert_allclose(read(renamed, {"ebv": "dust"}).ebv, FRAME.ebv)
    message = refusal(renamed, dereddened=True)
    assert message.startswith("--dereddened needs E(B-V), but ")
    assert message.endswith("lacks the columns ebv=ebv; it has object_id, g, r, i, z_spec, dust")
    galaxies = read(FRAME.assign(ebv=FRAME.ebv.where(FRAME.index > 2)), dereddened=True)
    assert (len(galaxies), galaxies.report.left_out["without an E(B-V)"]) == (N - 3, 3)
    with pytest.raises(InvalidDataset, match="needs the extinction of each band, which is unknown for J"):
        read_catalogue(tmp_path, {}, ImageSpec(bands=("r", "J")), are_magnitudes=True, dereddened=True)


def test_dereddened_values_are_reddened_again(read):
    flux_error = 0.1 * FLUXES.g * np.log(10.0) / 2.5
    for frame, are_magnitudes in ((FRAME.assign(g_err=0.1), True), (FLUXES.assign(g_err=flux_error), False)):
        galaxies = read(frame, (), are_magnitudes, dereddened=True)
        np.testing.assert_allclose(galaxies.magnitudes, FRAME[BANDS] + np.outer(FRAME.ebv, [3.793, 2.751, 2.086]))
        np.testing.assert_allclose(galaxies.magnitude_errors[:, 0], 0.1)
        np.testing.assert_allclose(galaxies.ebv, FRAME.ebv)
        assert galaxies.report.notes[0].endswith(", dereddened: reddened again with E(B-V)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# nothing\n", "cat.csv is empty: expected a line of column names, then one line for each galaxy"),
        ("# " + HEADER + ROW, "cat.csv: line 2 has numbers; expected column names there, without # before them"),
        (HEADER, "cat.csv has no rows: expected one for each galaxy"),
        # pandas shifts the columns in silence if it is the first row.
        (HEADER + "18,17,16.5,0.1,\n", "cat.csv: line 2 has 5 fields, but the header has 4 names (g, r, i, z_spec); e"),
        (HEADER + ROW + "18,17,16.5\n", "cat.csv: line 3 has 3 fields, but the header has 4 names"),
        (HEADER + ROW + "18,--,17,0.1\n", "cat.csv: '--' in column 'r' of row 2: expected a number, or an empty field"),
        (HEADER + ROW + "\xe9,17,17,0.1\n", "is not UTF-8 text (byte 0xe9 at position 28): expected"),
        ("g,g,r,i\n18,18,17,17\n", "cat.csv has several columns named 'g'"),
        (
            HEADER + "18,17,,0.1\n99,17,16,0.1\n",
            "no row can be used: cat.csv: 2 rows read, 0 used; left out: 1 without",
        ),
        ("object_id," + HEADER + 2 * ("x," + ROW), "all 2 rows have the object_id 'x'; expected one each"),
        ("split," + HEADER + "1," + ROW, "cat.csv: column 'split' has '1'; expected train, "),
    ],
)
def test_unusable_files_are_refused_in_one_sentence(refusal, content, message):
    assert message in refusal(content.encode("latin-1"))


def test_damaged_files_and_missing_columns_are_refused(read, refusal, tmp_path):
    for name in ("cat.fits", "cat.parquet", "cat.xml", "cat.ecsv", "cat.csv.gz"):
        for content in (b"", b"nothing of the sort\n"):
            (tmp_path / name).write_bytes(content)
            assert name in refusal(tmp_path / name)
    with pytest.raises(UnsupportedType, match=r"'\.xlsx': expected \.csv, \.ecsv, \.fits, \.parquet, \.vot or \.xml"):
        read(tmp_path / "galaxies.xlsx")
    lacks = "cat.csv lacks the columns r=r, z_spec=typo; it has object_id, g, i, z_spec, ebv"
    assert refusal(FRAME.drop(columns="r"), {"z_spec": "typo"}).endswith(lacks)
    assert refusal(FRAME, {"specz": "z_spec"}) == (
        "--columns names specz: expected names of g, r, i, z_spec, ebv, object_id, ra, dec, split, g_err, r_err, i_err"
    )


def test_numbers_that_stand_for_unknown_ones_are_left_out_and_the_other_quantity_refused(read, refusal):
    frame = FRAME.copy()
    frame.loc[0, "g"], frame.loc[1, "r"], frame.loc[2, "r"], frame.loc[3, "i"] = 99.0, -99.0, 3.0, np.nan
    frame.loc[4, "ebv"], frame.loc[5, "ebv"], frame.loc[6, "ebv"], frame.loc[7, "z_spec"] = -0.01, 11.0, np.nan, -999.0
    galaxies = read(frame)
    assert galaxies.object_id.tolist() == FRAME.object_id[6:].tolist()
    assert np.isnan([galaxies.ebv[0], galaxies.z_spec[1]]).all()
    lines = galaxies.describe(tuple(BANDS)).splitlines()
    assert [*lines[:5], lines[-2]] == [
        "cat.csv: 20 rows read, 14 used",
        "  left out: 1 without a magnitude of 5 to 40 in g",
        "  left out: 2 without a magnitude of 5 to 40 in r",
        "  left out: 1 without a magnitude of 5 to 40 in i",
        "  left out: 2 with an E(B-V) below 0 or above 10",
        "  z_spec: 0.1337 to 0.38, unknown for 1",
    ]
    assert len(read(FRAME.assign(g=FRAME.g.where(FRAME.index < 4, 99.0)))) == 4  # a band may be mostly unknown
    fluxes = FLUXES.assign(g=[0.0, 1e9, *FLUXES.g[2:]], g_err=5.0)
    galaxies = read(fluxes, (), are_magnitudes=False)
    assert galaxies.report.left_out["without a positive flux of 5 to 40 mag in g"] == 2
    np.testing.assert_allclose(galaxies.flux_errors[:, :2], np.tile([5.0, np.nan], (N - 2, 1)))
    message = refusal(FLUXES)
    assert "most rows have a magnitude outside 5 to 40 mag, such as 63.0957 in g" in message
    assert message.endswith("If these look like fluxes, use --quantity flux")
    np.testing.assert_allclose(read(FLUXES, (), are_magnitudes=False).magnitudes, FRAME[BANDS], rtol=1e-6)
    message = refusal(FRAME, (), are_magnitudes=False)
    assert "nearly all fluxes are between 10 and 30, such as 18 in g; expected fluxes in nanomaggies" in message


def test_rows_of_one_object_are_in_one_split_or_that_of_the_file(read):
    galaxies = read(pd.concat([FRAME, FRAME, FRAME.assign(object_id=np.nan)]))
    assert np.array_equal(galaxies.split[:N], galaxies.split[N : 2 * N])
    assert set(galaxies.split) == {"train", "validation", "test"}
    assert len(set(galaxies.object_id)) == 2 * N  # rows without an identifier are objects of their own
    repeated = "warning: rows that repeat an object_id: 20; those of one object are in the same split"
    assert galaxies.report.notes[-1] == repeated
    galaxies = read(FRAME.assign(split="test", ra=range(N), DEC=1.5), {"dec": "DEC"})
    assert galaxies.split.tolist() == ["test"] * N
    assert (galaxies.ra.tolist(), galaxies.dec.tolist()) == (list(range(N)), [1.5] * N)
    assert galaxies.report.notes[-1] == "split of the file"


def test_identifiers_keep_their_digits_errors_are_read_and_galaxies_selected(read):
    frame = FRAME.assign(object_id=pd.array([1237648720693755918 + row for row in range(N)], dtype="Int64"))
    frame.loc[N - 1, "object_id"] = pd.NA
    assert read(frame).object_id[:2].tolist() == ["1237648720693755918", "1237648720693755919"]
    frame = FRAME.drop(columns="object_id").assign(g_err=[-1.0, 99.0, *[0.05] * (N - 2)], psf_err_r=0.02)
    galaxies = read(frame, {"r_err": "psf_err_r"})
    assert galaxies.object_id.tolist() == [str(row) for row in range(N)]
    expected = np.where(np.arange(N)[:, None] < 2, [np.nan, 0.02, np.nan], [0.05, 0.02, np.nan])
    np.testing.assert_allclose(galaxies.magnitude_errors, expected)
    assert "photometric errors are unknown in i" in galaxies.report.notes
    galaxies, chosen = read(FRAME), FRAME[(FRAME.r < 18) & (FRAME.ebv <= 0.05)]
    selected = galaxies.select("r<18,ebv<=0.05", tuple(BANDS))
    assert selected.object_id.tolist() == chosen.object_id.tolist()
    assert selected.report.left_out["that do not meet r<18,ebv<=0.05"] == N - len(chosen)
    with pytest.raises(InvalidDataset, match="cannot select by 'u': expected one of g, r, i, z_spec, ebv, ra, dec"):
        galaxies.select("u<20", tuple(BANDS))
