"""Redshift distributions n(z) of tomographic bins: stacked PDFs of the rows of a run, with bootstrap errors.

The parts of the run are read one at a time. In each bootstrap replicate a row has a weight from a Poisson distribution
of mean 1: for many rows this equals the ordinary bootstrap, and needs no second pass over them (Chamandy et al. 2012,
"Estimating uncertainty for massive data streams", Google).
"""

import io
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pyarrow import parquet

from photoz.errors import InvalidInput, InvalidPdfs
from photoz.grid import FloatArray, RedshiftGrid
from photoz.io.cutouts import refusing
from photoz.selection import meets, parse_conditions
from photoz_survey.manifest import NAME, Manifest, read_manifest
from photoz_survey.parts import DONE, part_name, read_checked
from photoz_survey.storage import Folder

N_REPLICATES = 100

# Rows whose PDFs are in memory at a time.
ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class TomographicBin:
    """The galaxies whose columns meet conditions such as "z_mean>=0.1,z_mean<0.2"."""

    name: str
    conditions: str


def bins_between(column: str, edges: Sequence[float]) -> list[TomographicBin]:
    """Return the bins between edges of a column; a bin includes its lower edge."""
    if len(edges) < 2 or any(low >= high for low, high in zip(edges, edges[1:], strict=False)):
        raise InvalidInput(f"expected two or more increasing edges, got {', '.join(map(str, edges))}")
    pairs = zip(edges, edges[1:], strict=False)
    return [TomographicBin(f"{low:g}-{high:g}", f"{column}>={low!r},{column}<{high!r}") for low, high in pairs]


@dataclass(frozen=True)
class NOfZ:
    """The redshift distribution of a bin; errors are standard deviations over the bootstrap replicates."""

    name: str
    conditions: str
    n: int  # galaxies
    density: FloatArray  # (n_bins,) per unit redshift, integral 1
    density_error: FloatArray  # (n_bins,)
    mean: float
    mean_error: float
    n_spec: int  # galaxies with z_spec; without any, the numbers below are NaN
    mean_z_spec: float
    mean_difference: float  # mean of their stacked PDFs minus the mean of z_spec
    mean_difference_error: float


class _Stack:
    """Weighted sums over the galaxies of a bin: the weights are 1 in row 0, and of a replicate in each other row."""

    def __init__(self, grid: RedshiftGrid) -> None:
        self.grid = grid
        self.n = self.n_spec = 0
        self.pdfs = np.zeros((1 + N_REPLICATES, grid.n_bins))
        self.spec = np.zeros((1 + N_REPLICATES, 3))  # of galaxies with z_spec: weights, means of the PDFs, z_spec

    def add(self, pdfs: FloatArray, z_spec: FloatArray, rng: np.random.Generator) -> None:
        weights = np.ones((1 + N_REPLICATES, len(pdfs)), np.float32)
        weights[1:] = rng.poisson(1.0, (N_REPLICATES, len(pdfs)))
        self.pdfs += weights @ pdfs
        known = np.isfinite(z_spec)
        means = pdfs[known].astype(np.float64) @ self.grid.centres
        values = np.column_stack([np.ones(len(means)), means, z_spec[known]])
        self.spec += weights[:, known].astype(np.float64) @ values
        self.n, self.n_spec = self.n + len(pdfs), self.n_spec + len(means)

    def result(self, bin_: TomographicBin) -> NOfZ:
        if not self.n:
            raise InvalidInput(f"no galaxy of the run is in the bin {bin_.name}, {bin_.conditions}")
        with np.errstate(invalid="ignore"):  # all weights of a few galaxies may be 0
            density = self.pdfs / self.pdfs.sum(axis=1, keepdims=True) / self.grid.width
            photometric, spectroscopic = (self.spec[:, 1:] / self.spec[:, :1]).T
        means = density @ self.grid.centres * self.grid.width
        difference = photometric - spectroscopic
        return NOfZ(
            bin_.name,
            bin_.conditions,
            n=self.n,
            density=density[0],
            density_error=np.nanstd(density[1:], axis=0),
            mean=float(means[0]),
            mean_error=float(np.nanstd(means[1:])),
            n_spec=self.n_spec,
            mean_z_spec=float(spectroscopic[0]),
            mean_difference=float(difference[0]),
            mean_difference_error=float(difference[1:].std()),
        )


def stack(url: str, bins: Sequence[TomographicBin], select: str = "", seed: int = 0) -> tuple[Manifest, list[NOfZ]]:
    """Stack the PDFs of a run in bins.

    Parameters
    ----------
    url : str
        Folder of a complete run with PDFs.
    bins : sequence of TomographicBin
        They may overlap.
    select : str
        Conditions that all galaxies must meet.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Manifest, list of NOfZ
        The manifest of the run, and a distribution for each bin.

    Raises
    ------
    InvalidInput, InvalidDataset
        If the run is not complete, a part was changed since, a bin is empty, or a condition names a column that the
        run does not have.
    InvalidPdfs
        If it has no PDFs.
    """
    folder = Folder(url)
    try:
        manifest = read_manifest(folder.read(NAME), f"{url}/{NAME}")
    except FileNotFoundError as error:
        raise InvalidInput(f"{url} holds no {NAME}: expected the results of photoz score") from error
    if not manifest.is_complete:
        raise InvalidInput(f"the run in {url} is not complete: finish it with --resume")
    if manifest.plan.settings.pdf is None:
        raise InvalidPdfs(f"the run in {url} has no PDFs: score with --pdf float16")
    stacks = [_Stack(manifest.plan.grid) for _ in bins]
    names = {name for bin_ in bins for name, *_ in parse_conditions(f"{bin_.conditions},{select}")}
    for number, (columns, pdfs) in enumerate(_batches(folder, manifest, names | {"z_spec"})):
        for index, (bin_, stacked) in enumerate(zip(bins, stacks, strict=True)):
            rows = meets(columns.__getitem__, len(pdfs), f"{bin_.conditions},{select}")
            if rows.any():
                stacked.add(pdfs[rows], columns["z_spec"][rows], np.random.default_rng((seed, number, index)))
    return manifest, [stacked.result(bin_) for bin_, stacked in zip(bins, stacks, strict=True)]


def _batches(folder: Folder, manifest: Manifest, names: Set[str]) -> Iterator[tuple[Mapping[str, Any], FloatArray]]:
    """Read some columns, (m,), and the PDFs, (m, n_bins), of all parts of a run, a few rows at a time."""
    n_bins = manifest.plan.grid.n_bins
    for part in manifest.parts:
        content = read_checked(folder, part)
        with refusing(f"{folder.url}/{DONE}/{part_name(part.number)} cannot be read"):
            file = parquet.ParquetFile(io.BytesIO(content))
            if missing := sorted({*names, "pdf"} - set(file.schema_arrow.names)):
                raise InvalidInput(f"the run has no column {missing[0]}; it has {', '.join(file.schema_arrow.names)}")
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[*sorted(names), "pdf"]):
                columns = {name: batch[name].to_numpy(zero_copy_only=False) for name in names}
                flat = batch["pdf"].flatten().to_numpy(zero_copy_only=False)
                yield columns, np.asarray(flat.reshape(len(batch), n_bins), np.float32)


def as_columns(distributions: Sequence[NOfZ], grid: RedshiftGrid) -> Mapping[str, npt.NDArray[Any]]:
    """Return distributions as columns with a row for each: numbers, (n,), and mass per bin, (n, n_bins)."""
    names = ("n", "mean", "mean_error", "n_spec", "mean_z_spec", "mean_difference", "mean_difference_error")
    columns = {name: np.array([getattr(nz, name) for nz in distributions]) for name in ("name", *names)}
    columns = {"object_id": columns.pop("name")} | columns
    for name, density in (("pdf", "density"), ("pdf_error", "density_error")):
        columns[name] = np.array([getattr(nz, density) for nz in distributions]) * grid.width
    return columns
