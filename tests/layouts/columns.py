"""Columns: object ids to their last digit, coordinates in their unit, and names that are not what they seem."""

import numpy as np
import pyarrow as pa
from astropy.table import MaskedColumn

from tests.layouts.fits_files import Layout, hdu_of, save, wcs
from tests.layouts.galaxies import BANDS, DEC, EBV, IDS, PLANES, RA, Z_SPEC, N
from tests.layouts.stores import FILES, row

NAMES = ("object_id", "objid", "objID", "TARGETID", "SOURCE_ID", "objectId", "specObjID", "id")
VALUES = {
    "int64": IDS,
    "text": IDS.astype(str),
    "names": np.array(["NGC 224", "M 33", "007", "1e5"]),
    "uint64": IDS.astype(np.uint64) + np.uint64(2**63),
    "int32": np.array([7, 5, 3, 1], np.int32),
}
ROUNDED = {"float64": IDS.astype(np.float64), "float32": np.array([2.0**25] * N, np.float32)}
BLANK = ["", *(str(value) for value in IDS[1:])]
POSITIONS = {"ra": RA, "dec": DEC}
UNITS = {
    "radians": ({"ra": np.radians(RA), "dec": np.radians(DEC)}, {"ra": "rad", "dec": "rad"}),
    "hours": ({"ra": RA / 15, "dec": DEC}, {"ra": "h", "dec": "deg"}),
    "hour angles": ({"ra": RA / 15, "dec": DEC}, {"ra": "hourangle", "dec": "deg"}),
    "degrees": (POSITIONS, {"ra": "deg", "dec": "deg"}),
}
MAGNITUDES = np.array([18.1, 19.2, 17.3, 18.4])

LAYOUTS: dict[str, Layout] = {}
for shift, kind in enumerate(FILES):
    for number, name in enumerate(NAMES):
        dtype = list(VALUES)[(number + shift) % len(VALUES)]
        LAYOUTS[f"{kind}, {name} of {dtype}"] = row(kind, {name: VALUES[dtype]}, columns={"object_id": VALUES[dtype]})
    for number, (dtype, values) in enumerate(ROUNDED.items()):
        name = NAMES[(number + shift) % len(NAMES)]
        LAYOUTS[f"{kind}, {name} of {dtype}"] = row(kind, {name: values}, refused=[name, "float|digits"])
    known = {"z_spec": Z_SPEC, "ebv": EBV, "ra": RA, "dec": DEC}
    LAYOUTS[f"{kind}, all columns"] = row(kind, {**known, "object_id": IDS}, columns={**known, "object_id": IDS})
    LAYOUTS[f"{kind}, Z without a unit"] = row(kind, {"Z": Z_SPEC}, columns={"z_spec": Z_SPEC})
    if kind == "npz":
        continue
    for name, (values, units) in UNITS.items():
        LAYOUTS[f"{kind}, {name}"] = row(kind, values, units=units, columns=POSITIONS)
    LAYOUTS[f"{kind}, Z in mag"] = row(kind, {"Z": MAGNITUDES}, units={"Z": "mag"}, absent=["z_spec"])
    LAYOUTS[f"{kind}, z in mag"] = row(kind, {"z": MAGNITUDES}, units={"z": "mag"}, absent=["z_spec"])
    LAYOUTS[f"{kind}, EBV in mmag"] = row(kind, {"EBV": EBV * 1e3}, units={"EBV": "mmag"}, columns={"ebv": EBV})
    LAYOUTS[f"{kind}, EBV in mag"] = row(kind, {"EBV": EBV}, units={"EBV": "mag"}, columns={"ebv": EBV})
LAYOUTS |= {
    f"{kind}, all magnitudes": row(kind, {band: MAGNITUDES for band in BANDS}, absent=["z_spec"])
    for kind in ("table", "parquet", "npz")
}


def extensions(names=None, **keywords):
    """Return a writer of cutouts whose extensions have names, and keywords with a value for each galaxy."""

    def write(path):
        hdus = [hdu_of(p, {"BANDS": BANDS, "BUNIT": "nanomaggy", **wcs(row, 0)}) for row, p in enumerate(PLANES)]
        for galaxy, hdu in enumerate(hdus):
            given = {keyword: values[galaxy] for keyword, values in keywords.items() if values[galaxy] is not None}
            hdu.header.update(given)
            hdu.name = names[galaxy] if names else ""
        save(path, *hdus)

    return write


NGC = ["NGC 1", "NGC 2", "NGC 3", "NGC 4"]
TNULL = MaskedColumn(np.where(np.arange(N) == 0, -9999, IDS), mask=np.arange(N) == 0, fill_value=-9999)
INTEGERS = [int(value) for value in IDS]
LAYOUTS |= {
    "TNULL among ids": row("table", {"OBJID": TNULL}, columns={"object_id": BLANK}),
    "null among ids": row("parquet", {"object_id": pa.array([None, *INTEGERS[1:]])}, columns={"object_id": BLANK}),
    "extensions all called SCI": Layout(extensions(["SCI"] * N)),
    "extensions called by their galaxies": Layout(extensions(NGC), columns={"object_id": NGC}),
    "OBJECT in headers": Layout(extensions(["SCI"] * N, OBJECT=NGC), columns={"object_id": NGC}),
    "OBJID in headers": Layout(extensions(OBJID=INTEGERS), columns={"object_id": IDS}),
    "TARGETID in headers": Layout(extensions(TARGETID=INTEGERS), columns={"object_id": IDS}),
    "OBJID of floats in headers": Layout(extensions(OBJID=[float(value) for value in INTEGERS]), refused=["object_id"]),
    "EBV in one header": Layout(
        extensions(EBV=[0.02, None, None, None]), columns={"ebv": [0.02, np.nan, np.nan, np.nan]}, absent=["z_spec"]
    ),
    "EBV and Z_SPEC in headers": Layout(
        extensions(EBV=EBV.tolist(), Z_SPEC=Z_SPEC.tolist()), columns={"ebv": EBV, "z_spec": Z_SPEC}
    ),
}
