"""The code blocks of the docs, and a folder with the files that they name."""

import json
import pickle
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

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
NOT_TESTED = re.compile("# Not tested: (.+)\n")


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def skip_reason(self) -> str:
        """Why the block does not run; empty if it runs."""
        mark = NOT_TESTED.match(self.text)
        return mark[1] if mark else ""


def read_blocks(path: Path) -> list[Block]:
    """Return the blocks of Python and shell commands of a page."""
    text, page = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
    blocks = re.finditer(r"^```(python|sh)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(page, text.count("\n", 0, block.start()) + 2, block[1], block[2]) for block in blocks]


def write_files(folder: Path, bundle: Path) -> None:
    """Write the files that the docs use: a bundle, cutouts of rendered galaxies, catalogues, a key."""
    for name, target in {".venv": sys.prefix, "examples": ROOT / "examples", "training": ROOT / "training"}.items():
        (folder / name).symlink_to(target)
    for name in ("photoz", "mine"):
        shutil.copytree(bundle, folder / "models" / name)
    (folder / "photoz.key").write_text("a-key\n")
    galaxies = read_kcorrect()
    z_spec = galaxies.z_spec
    rows = [np.flatnonzero((z_spec > low) & (z_spec <= low + 0.1))[:16] for low in (0.0, 0.1, 0.2)]
    galaxies = galaxies.take(np.concatenate(rows))
    make_sample(galaxies, folder / "cutouts.h5", SDSS_IMAGES, workers=1)
    _write_catalogues(folder, galaxies)
    with open_cutouts(folder / "cutouts.h5") as cutouts:
        images, names = cutouts.images[:], ("ebv", "z_spec", "object_id", "split")
        _write_cutouts(folder, images, {name: np.asarray(cutouts.column(name)) for name in names})


def _write_catalogues(folder: Path, galaxies) -> None:
    columns = {f"mag_{band}": galaxies.magnitudes[:, i] for i, band in enumerate("ugriz")}
    columns |= {"objID": np.arange(len(galaxies)), "specz": galaxies.z_spec, "EBV": galaxies.ebv}
    Table(columns | {"sigma_r": galaxies.magnitude_errors[:, 2]}).write(folder / "galaxies.csv")
    Table({"J": galaxies.magnitudes[:, 4], "z_spec": galaxies.z_spec}).write(folder / "mine.fits")


def _write_cutouts(folder: Path, images, columns) -> None:
    arrays = {name: values.astype(str) if values.dtype == object else values for name, values in columns.items()}
    arrays = {"images": images, **arrays}
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
