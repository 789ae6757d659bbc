"""How the ranking suite splits its rows by time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRAINED, CALIBRATED = 0.9, 0.1

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Rows in order of time: what weights are fitted on, what calibrators are, and what is tested after the cut.

    `chosen` is the newest tenth of `fitted`: settings are chosen on it by what was fitted on `before_chosen`.
    """

    fitted: Rows
    calibrated: Rows
    test: Rows
    before_chosen: Rows
    chosen: Rows

    @property
    def trained(self) -> Rows:
        """All rows before the cut."""
        return np.concatenate((self.fitted, self.calibrated))


def split(rows: int) -> Split:
    """Return the split of so many rows."""
    trained, test = np.split(np.arange(rows), [round(rows * TRAINED)])
    fitted, calibrated = np.split(trained, [round(len(trained) * (1 - CALIBRATED))])
    before_chosen, chosen = np.split(fitted, [round(len(fitted) * (1 - CALIBRATED))])
    return Split(fitted, calibrated, test, before_chosen, chosen)
