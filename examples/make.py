"""Make cutouts.npz: the first test galaxies of the sample, few enough to ship.

Needs data/sample.h5, which `python -m training sample` makes.
"""

from pathlib import Path

import numpy as np

from photoz.io.cutouts import TEST
from photoz.io.reader import open_cutouts

N_GALAXIES = 8

if __name__ == "__main__":
    with open_cutouts("data/sample.h5") as cutouts:
        rows = cutouts.rows(TEST)[:N_GALAXIES]
        columns = {name: cutouts.column(name)[rows] for name in ("ebv", "z_spec")}
        names = cutouts.column("object_id")[rows].astype(str)
        np.savez(Path(__file__).with_name("cutouts.npz"), images=cutouts.images[rows], object_id=names, **columns)
