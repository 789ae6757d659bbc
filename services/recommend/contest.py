"""What the slots of a slate are filled from, and what came out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from services.recommend.caps import Groups

Rows = NDArray[np.int64]

Policy = Literal["ranked", "explored", "uniform"]
"""The order as ranked; drawn as the surface's exploration says; drawn uniformly over the candidates."""


@dataclass(frozen=True)
class Contest:
    """The candidates for the slots.

    `ranked` are all of them, distinct, best first; `unproven` those that the last slots may go to. `pinned` holds rows
    by slot, which are given. `groups`, if any, are those of `ranked` and of the pinned rows that are capped.
    """

    ranked: Rows
    unproven: Rows
    pinned: Mapping[int, int] = field(default_factory=dict)
    groups: Groups | None = None

    @property
    def pinned_rows(self) -> Rows:
        """The rows that are given."""
        return np.array(list(self.pinned.values()), dtype=np.int64)

    def unpinned(self) -> "Contest":
        """Return the same without the pinned rows among those that are ranked."""
        if not self.pinned:
            return self
        ranked, unproven = self.ranked, self.unproven
        for row in self.pinned.values():
            ranked, unproven = ranked[ranked != row], unproven[unproven != row]
        return replace(self, ranked=ranked, unproven=unproven)


@dataclass(frozen=True)
class Drawn:
    """Rows from the top slot down, each with the probability of this row here given the rows above it.

    `fixed` marks slots that no draw decided. `exceeded` says that caps gave way because nothing else was left.
    """

    rows: Rows
    propensities: NDArray[np.float64]
    fixed: NDArray[np.bool_]
    policy: Policy = "ranked"
    exceeded: bool = False

    @classmethod
    def by_chance(cls, rows: Rows, propensities: NDArray[np.float64]) -> "Drawn":
        """Return rows that a draw chose."""
        return cls(rows, propensities, np.zeros(len(rows), dtype=np.bool_))

    @classmethod
    def in_order(cls, rows: Rows) -> "Drawn":
        """Return rows that no draw chose."""
        return cls(rows, np.ones(len(rows)), np.ones(len(rows), dtype=np.bool_))

    def then(self, other: "Drawn") -> "Drawn":
        """Return the slots of both, the other's below."""
        return Drawn(
            np.concatenate((self.rows, other.rows)),
            np.concatenate((self.propensities, other.propensities)),
            np.concatenate((self.fixed, other.fixed)),
        )

    def with_pins(self, pinned: Mapping[int, int]) -> "Drawn":
        """Return the slots with rows put between them, each at its slot, or at the end of a shorter slate."""
        if not pinned:
            return self
        rows, propensities, fixed = self.rows.tolist(), self.propensities.tolist(), self.fixed.tolist()
        for slot, row in sorted(pinned.items()):
            at = min(slot, len(rows))
            rows.insert(at, row)
            propensities.insert(at, 1.0)
            fixed.insert(at, True)
        return replace(self, rows=np.array(rows), propensities=np.array(propensities), fixed=np.array(fixed))
