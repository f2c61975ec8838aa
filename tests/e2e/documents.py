"""The code blocks of the docs, and a folder with the files that they name."""

import json
import pickle
import re
import shutil
import sys
from typing import NamedTuple

import h5py
import numpy as np
from astropy.io import fits
from astropy.table import Table

from photoz.images import SDSS_IMAGES
from photoz.io.npz import npz_bytes
from photoz.io.reader import open_cutouts
from tests.running import ROOT
from training.catalogue import read_kcorrect
from training.sample import make_sample

PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(path for folder in ("docs", "deploy", "benchmarks") for path in (ROOT / folder).rglob("*.md")),
]


class Block(NamedTuple):
    """A block of Python or shell commands in a document, why it cannot run, if so, and the output shown below it."""

    place: str
    not_run: str | None
    language: str
    text: str
    output: str | None


def read_blocks(path):
    text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT)
    pattern = r"(?:^<!-- not run: (.+) -->\n)?^```(python|sh)\n((?s:.*?))^```$(?:\n\n```text\n((?s:.*?))^```$)?"
    blocks = re.finditer(pattern, text, re.MULTILINE)
    return [Block(f"{name}:{text.count(chr(10), 0, block.start(3)) + 1}", *block.groups()) for block in blocks]


def write_files(folder, bundle):
    """Write the files that the docs use: a bundle, cutouts of rendered galaxies, catalogues, a key."""
    for name, target in {".venv": sys.prefix, "examples": ROOT / "examples", "training": ROOT / "training"}.items():
        (folder / name).symlink_to(target)
    for name in ("photoz", "mine"):
        shutil.copytree(bundle, folder / "models" / name)
    (folder / "photoz.key").write_text("a-key\n")
    galaxies, lows = read_kcorrect(), np.array([[0.0], [0.1], [0.2]])
    in_bin = (galaxies.z_spec > lows) & (galaxies.z_spec <= lows + 0.1)
    galaxies = galaxies.take(np.concatenate([np.flatnonzero(rows)[:16] for rows in in_bin]))
    make_sample(galaxies, folder / "cutouts.h5", SDSS_IMAGES, workers=1)
    columns = {f"mag_{band}": galaxies.magnitudes[:, i] for i, band in enumerate("ugriz")}
    columns |= {"objID": np.arange(len(galaxies)), "specz": galaxies.z_spec, "EBV": galaxies.ebv}
    Table(columns | {"sigma_r": galaxies.magnitude_errors[:, 2]}).write(folder / "galaxies.csv")
    Table({"J": galaxies.magnitudes[:, 4], "z_spec": galaxies.z_spec}).write(folder / "mine.fits")
    _write_cutouts(folder)


def _write_cutouts(folder):
    with open_cutouts(folder / "cutouts.h5") as cutouts:
        columns = {name: np.asarray(cutouts.column(name)) for name in ("ebv", "z_spec", "object_id", "split")}
        images = cutouts.images[:]
    arrays = {name: values.astype(str) if values.dtype == object else values for name, values in columns.items()}
    arrays["images"] = images
    for name in ("cutouts.npz", "labelled.npz", "mine.npz"):
        (folder / name).write_bytes(npz_bytes(arrays))
    np.save(folder / "cutouts.npy", images)
    (folder / "cutouts.json").write_text(json.dumps({"images": images[:1].tolist()}))
    (folder / "mine.pkl").write_bytes(pickle.dumps({"images": images, "z_spec": arrays["z_spec"]}))
    labels = np.zeros(len(images), [("objID", "i8"), ("z", "f4"), ("EBV", "f4"), ("dered_petro_r", "f4")])
    np.savez(folder / "sdss.npz", cube=images, labels=labels)
    by_band = np.moveaxis(images, -1, 1)
    fits.PrimaryHDU(by_band).writeto(folder / "cutouts.fits")
    (folder / "cutouts").mkdir()
    for number, image in enumerate(by_band):
        hdu = fits.PrimaryHDU(image)
        hdu.header["BANDS"], hdu.header["E_BV"] = "u,g,r,i,z", arrays["ebv"][number]
        hdu.writeto(folder / "cutouts" / f"{number}.fits")
    (folder / "data").mkdir()
    with h5py.File(folder / "data" / "sample.h5", "w") as file:
        file["images"], file["z_spec"] = images, arrays["z_spec"]
