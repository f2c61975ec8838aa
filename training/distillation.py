"""Distillation: one network that learns the PDFs of others, which were trained without the galaxy, and the redshifts.

The training galaxies are divided into folds, and a teacher is trained without each pair of them. The network of the
bundle learns, for the galaxies of a fold, the mean PDF of the teachers that have not seen it. The networks for
cross-fitting (`training.cross_fitting`) have not seen one fold, neither themselves nor through their teachers: for the
galaxies of another fold they learn from the one teacher that has seen neither.
"""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.cutouts import TRAIN, Cutouts
from training.fit import fit
from training.predict import predict_pdfs
from training.settings import Settings
from training.splits import usable_rows, without


class Teachers:
    """PDFs by the teachers of all pairs of folds.

    Parameters
    ----------
    cutouts : Cutouts
        Without validation galaxies.
    fold_of : (n,) int
        The fold of each training row, in their order.
    run : Path
        The teachers are trained in `run/teacher-0-1` and so on, and not again by a run that is resumed.
    """

    def __init__(
        self,
        cutouts: Cutouts,
        fold_of: IntArray,
        spec: ImageSpec,
        grid: RedshiftGrid,
        settings: Settings,
        run: Path,
        *,
        resume: bool,
    ) -> None:
        self._fold_of = fold_of
        train = usable_rows(cutouts, grid, TRAIN)
        recipe = replace(settings, distill=False, epochs=settings.teacher_epochs)
        self._pdfs: dict[tuple[int, int], FloatArray] = {}
        for pair in combinations(range(fold_of.max() + 1), 2):
            is_unseen = np.isin(fold_of, pair)
            others = without(cutouts, train[is_unseen])
            one = replace(recipe, seed=settings.seed + len(self._pdfs))
            fitted = fit(others, spec, grid, one, run / "teacher-{}-{}".format(*pair), resume=resume)
            pdfs = np.zeros((len(train), grid.n_bins), np.float32)
            pdfs[is_unseen] = predict_pdfs(fitted.network, cutouts, train[is_unseen], spec, fitted.ebv_default)
            self._pdfs[pair] = pdfs

    def pdfs(self, unseen: int | None = None) -> FloatArray:
        """Return the PDFs of the training rows, (n, n_bins), or of those outside a fold, by teachers without it."""
        known = {pair: pdfs for pair, pdfs in self._pdfs.items() if unseen is None or unseen in pair}
        total, count = np.zeros_like(next(iter(known.values()))), np.zeros((len(self._fold_of), 1), np.float32)
        for pair, pdfs in known.items():
            total += pdfs
            count += np.isin(self._fold_of, pair)[:, np.newaxis]
        rows = self._fold_of != unseen if unseen is not None else slice(None)
        return np.asarray(total[rows] / count[rows])
