"""A stage for RAIL pipelines (LSSTDESC): redshift PDFs of cutouts. It needs the package pz-rail-base."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from rail.core.common_params import SharedParams
from rail.core.data import DataHandle
from rail.core.enums import DistributionType
from rail.estimation.estimator import CatEstimator

from photoz.errors import InvalidImages, InvalidInput
from photoz.images import Batch
from photoz.inference.predictor import Predictor
from photoz.io.provenance import Provenance
from photoz.io.qp_ensemble import to_qp
from photoz.io.tables import ResultTable
from photoz.model.bundle import ModelBundle
from photoz.model.card import Card

Table = Mapping[str, npt.NDArray[Any]]


class PhotozEstimator(CatEstimator):  # type: ignore[misc]  # RAIL has no types
    """Estimate the redshift PDFs of cutouts with a model bundle.

    The input `model` is the folder of a bundle; nothing is unpickled. The input `input` is a table with these columns:

    - `image`, (n, size * size * n_bands): cutouts (n, size, size, n_bands) with the size, bands and unit of the model
      card, each flattened, as by ``cutouts.reshape(n, -1)``. NaN and infinite pixels are treated as masked.
    - `ebv`, (n,), optional: E(B-V) in magnitudes (SFD); NaN means unknown.
    - The columns that `id_col` and `redshift_col` name, (n,), optional. Text must have a fixed length.

    The output is a qp ensemble, `hist`, with a PDF for each row on the grid of the model; `zmin`, `zmax` and `nzbins`
    only affect RAIL's own point estimates. `ancil` has the columns of `photoz.estimates.Estimates` and those that RAIL
    adds; `object_id` is the number of the row if the table has no names. With `calc_summary_stats` RAIL replaces
    z_mean, z_median and z_std by its own, as (n, 1) arrays; its z_q84 is the 85 % quantile.

    A row without a PDF stops the stage: a cutout without a finite pixel, pixels that overflow the network, or an E(B-V)
    outside of 0 to 10 mag raise `photoz.errors.InvalidInput`, which names the rows.
    """

    name = "PhotozEstimator"
    config_options = CatEstimator.config_options | {"chunk_size": SharedParams.copy_param("chunk_size")}
    config_options["chunk_size"].set_default(256)  # a cutout is 1,000 times larger than a catalogue row

    @classmethod
    def default_distribution_type(cls) -> DistributionType:
        """Return the value of RAIL's column `distribution_type`: the PDFs are posteriors."""
        return DistributionType.posterior

    @classmethod
    def generate_command(cls, *arguments: Any, **options: Any) -> str:
        """Return the command of a pipeline; ceci would run this package, which has no `__main__`."""
        module = cls.get_module()
        command = str(super().generate_command(*arguments, **options))
        return command.replace(f"-m {module.split('.')[0]} {cls.name} ", f"-m ceci {module}.{cls.name} ", 1)

    def open_model(self, tag: str = "model", **kwargs: Any) -> ModelBundle:
        """Load the bundle in the folder `kwargs[tag]`, or raise `InvalidBundle`; RAIL's own method would unpickle."""
        model = kwargs[tag]
        self.model = ModelBundle.load(model.path if isinstance(model, DataHandle) else model)
        self._predictor = Predictor.load(self.model)
        return self.model

    def _process_chunk(self, start: int, end: int, data: Table, first: bool) -> None:
        card = self.model.card
        try:
            names = _names(data, self.config.id_col, range(start, end))
            estimates = self._predictor.predict(_batch(data, card, end - start))
        except InvalidInput as error:
            raise type(error)(f"rows {start} to {end - 1} of the input: {error}") from error
        table = ResultTable(dict(estimates.columns()) | {"object_id": names}, Provenance(card.name), card.grid)
        self._do_chunk_output(to_qp(table), start, end, first, data=data)


def _batch(data: Table, card: Card, n: int) -> Batch:
    if "image" not in data:
        raise InvalidImages(f"expected a column `image` of flattened cutouts; there are {', '.join(data.keys())}")
    images, spec = np.asarray(data["image"]), card.image
    if images.shape != (expected := (n, math.prod(spec.shape))):
        raise InvalidImages(
            f"expected a column `image` of shape {expected}, cutouts of {spec.size}x{spec.size} pixels with the bands "
            f"{','.join(spec.bands)} last, each flattened; got {images.shape}"
        )
    return Batch.of(images.reshape(n, *spec.shape), spec, data.get("ebv"), card.inputs.ebv_default)


def _names(data: Table, column: str, rows: range) -> npt.NDArray[Any]:
    names = np.asarray(data[column]) if column in data else np.asarray(rows)
    if names.dtype.kind in "OU":  # RAIL cannot write these, and the first chunk would set the length of all
        raise InvalidInput(
            f"expected the column `{column}` as numbers or as text of a fixed length (numpy dtype S), got {names.dtype}"
        )
    return names
