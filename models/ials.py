"""iALS by the `implicit` library, the extra `baselines`: a baseline, nothing that serves."""

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from models.sequences import Sequences


class Ials:
    """Matrix factorisation of binary histories: what was not seen weighs 1, what was seen `alpha` (regularised by L2).

    Y. Hu, Y. Koren and C. Volinsky, Collaborative filtering for implicit feedback datasets, ICDM 2008.
    """

    def __init__(
        self, training: Sequences, factors: int, regularization: float, alpha: float, seed: int, iterations: int = 15
    ) -> None:
        with threadpool_limits(1, "blas"):  # the library's own threads and those of BLAS get in each other's way
            self._model = AlternatingLeastSquares(
                factors=factors,
                regularization=regularization,
                alpha=alpha,
                iterations=iterations,
                num_threads=1,
                random_state=seed,
            )
            self._model.fit(_matrix(training), show_progress=False)

    def scores(self, histories: Sequences) -> NDArray[np.float32]:
        """A user's vector is solved for from the history; zero without history."""
        users = self._model.recalculate_user(np.arange(histories.users), _matrix(histories))
        scores: NDArray[np.float32] = users @ self._model.item_factors.T
        return scores


def _matrix(histories: Sequences) -> sparse.csr_matrix:
    seen = histories.seen()
    return sparse.csr_matrix((seen.data, seen.indices.astype(np.int32), seen.indptr.astype(np.int32)), shape=seen.shape)
