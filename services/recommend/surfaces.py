"""Surfaces: where slates are shown, and the rules that hold there."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from models.config import ConversionName
from streaming.events import PROBE_SURFACE

HOME = "home"
PROBE = PROBE_SURFACE


@dataclass(frozen=True)
class Quota:
    """How many candidates a source may name."""

    source: str
    limit: int


QUOTAS = (
    Quota("sequence", 200),
    Quota("co_visited", 200),
    Quota("trending", 100),
    Quota("popular", 200),
    Quota("category", 50),
    Quota("new", 50),
)


@dataclass(frozen=True)
class Surface:
    """The rules of one surface.

    `temperature` 0 shows the ranked order; above 0 the slots after the first `fixed_slots` are drawn from the best
    `pool` items with weights rank^(-1/temperature). `new_slots` slots at the end of a slate of at least
    `new_slots_from` items go to items that the model was not trained on. `weights` of conversions enter the ranked
    order as `models.combining` says; without any it is that of the clicks alone.
    """

    name: str
    temperature: float
    fixed_slots: int = 0
    pool: int = 100
    new_slots: int = 0
    new_slots_from: int = 5
    quotas: tuple[Quota, ...] = QUOTAS
    weights: Mapping[str, float] = field(default_factory=dict)


BUILT_IN: Mapping[str, Surface] = MappingProxyType(
    {
        HOME: Surface(HOME, temperature=0.25, new_slots=1),
        # What is asked for on this surface measures Flywheel itself; training leaves it out.
        PROBE: Surface(PROBE, temperature=0.0),
    }
)


def weighted(weights: Mapping[ConversionName, float]) -> Mapping[str, Surface]:
    """Return the surfaces by name, all with the same weights of conversions."""
    own = dict[str, float](weights.items())
    return {name: replace(surface, weights=own) for name, surface in BUILT_IN.items()}
