"""A batch of validated galaxies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from photoz.images import EbvBatch, ImageBatch


@dataclass(frozen=True)
class Batch:
    """Cutouts of n galaxies, their reddening and, if given, their names, (n,) str."""

    images: ImageBatch
    ebv: EbvBatch
    object_id: npt.NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> npt.NDArray[np.str_]:
        """Names of the galaxies, (n,) str: "0", "1", ... where none were given."""
        return np.arange(len(self)).astype(np.str_) if self.object_id is None else self.object_id

    def __getitem__(self, rows: slice) -> "Batch":
        """Return some of the rows, without copying."""
        images, ebv = self.images, self.ebv
        return Batch(
            ImageBatch(images.images[rows], images.masked[rows], images.band_missing[rows]),
            EbvBatch(ebv.ebv[rows], ebv.assumed[rows]),
            None if self.object_id is None else self.object_id[rows],
        )


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Concatenate one or more batches; the names of several are dropped."""
    if len(batches) == 1:
        return batches[0]
    images, ebv = [batch.images for batch in batches], [batch.ebv for batch in batches]
    return Batch(
        ImageBatch(
            np.concatenate([part.images for part in images]),
            np.concatenate([part.masked for part in images]),
            np.concatenate([part.band_missing for part in images]),
        ),
        EbvBatch(np.concatenate([part.ebv for part in ebv]), np.concatenate([part.assumed for part in ebv])),
    )
