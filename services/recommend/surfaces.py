"""Surfaces: where slates are shown, and the rules that hold there.

The types are those of the surfaces file; their limits are what decoding checks. Numbers without a unit are counts.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from models.config import ConversionName
from streaming.events import PROBE_SURFACE, Id, Kind, Number, ShortText

HOME = "home"
PROBE = PROBE_SURFACE
MOST_SLOTS = 100
"""The longest slate that can be asked for."""
MOST_PLACES = 100
"""How many places the boosts of one item may move it together."""

SourceName = Literal["sequence", "co_visited", "trending", "popular", "category", "new"]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
Names = Annotated[tuple[Name, ...], Meta(max_length=100)]
Value = ShortText | Number | bool
Days = Annotated[int, Meta(ge=1, le=3_650)]
Kinds = Annotated[tuple[Kind, ...], Meta(max_length=len(Kind))]


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a surface's rules."""


class Quota(Part, frozen=True):
    """How many candidates a source may name."""

    source: SourceName
    limit: Annotated[int, Meta(ge=1, le=2_000)]


QUOTAS = (
    Quota("sequence", 200),
    Quota("co_visited", 200),
    Quota("trending", 100),
    Quota("popular", 200),
    Quota("category", 50),
    Quota("new", 50),
)


class Predicate(Part, frozen=True, kw_only=True):
    """What an item's attribute must be; every condition given must hold, and an item without the attribute fails."""

    attribute: Name
    equals: Value | None = None
    among: Annotated[tuple[Value, ...], Meta(min_length=1, max_length=1_000)] | None = field(default=None, name="in")
    at_least: Number | None = None
    at_most: Number | None = None

    def __post_init__(self) -> None:
        if all(condition is None for condition in (self.equals, self.among, self.at_least, self.at_most)):
            raise ValueError("the predicate has no condition: give equals, in, at_least or at_most")


class Seen(Part, frozen=True, kw_only=True):
    """Which past interactions keep an item from being shown: of the last `days` and of `kinds`, unset = all."""

    days: Days | None = None
    kinds: Kinds | None = None


class Fatigue(Part, frozen=True, kw_only=True):
    """What negative feedback of the last `days` keeps away.

    Items that the user skipped or hid, as `kinds` say, and every item of a category of which the user hid items at
    least `category_after` times.
    """

    days: Days
    kinds: Kinds = (Kind.SKIP, Kind.HIDE)
    category_after: Annotated[int, Meta(ge=1, le=1_000)] | None = None

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if not kind.is_negative:
                raise ValueError(f"{kind.value!r} is no negative feedback: name skip, hide or both in kinds")


class Filters(Part, frozen=True, kw_only=True):
    """What may not be shown beyond what is hidden, unavailable or excluded by the request."""

    seen: Seen = Seen()
    include_categories: Names = ()
    exclude_categories: Names = ()
    attributes: Annotated[tuple[Predicate, ...], Meta(max_length=20)] = ()
    fatigue: Fatigue | None = None


class Boost(Part, frozen=True, kw_only=True):
    """Moves items of a category, or whose attribute satisfies `where`, up by `places`; down when they are negative."""

    name: Name
    places: Annotated[int, Meta(ge=-MOST_PLACES, le=MOST_PLACES)]
    category: Name | None = None
    where: Predicate | None = None

    def __post_init__(self) -> None:
        if (self.category is None) == (self.where is None):
            raise ValueError("a boost needs one condition: give category or where")


class Pin(Part, frozen=True, kw_only=True):
    """Puts an item that may be shown at a position, 0 = the top."""

    item_id: Id
    position: Annotated[int, Meta(ge=0, lt=MOST_SLOTS)]


class Caps(Part, frozen=True, kw_only=True):
    """At most so many items of any one category, and of any one value of each attribute, in a slate."""

    category: Annotated[int, Meta(ge=1, le=MOST_SLOTS)] | None = None
    attributes: Annotated[dict[Name, Annotated[int, Meta(ge=1, le=MOST_SLOTS)]], Meta(max_length=10)] = {}


class Diversity(Part, frozen=True, kw_only=True):
    """Maximal marginal relevance over the best `pool` candidates: `relevance` 1 leaves their order as it is."""

    relevance: Annotated[float, Meta(ge=0, le=1)]
    pool: Annotated[int, Meta(ge=1, le=500)] = 100


class Exploration(Part, frozen=True, kw_only=True):
    """How slots are drawn.

    `temperature` 0 shows the ranked order; above 0 the slots after the first `fixed_slots` are drawn from the best
    `pool` items with weights rank^(-1/temperature). `new_slots` slots at the end of a slate of at least
    `new_slots_from` items go to items that the model was not trained on. A share `uniform_share` of the slates is
    drawn uniformly over all candidates instead.
    """

    temperature: Annotated[float, Meta(ge=0, le=10)] = 0.0
    fixed_slots: Annotated[int, Meta(ge=0, le=MOST_SLOTS)] = 0
    pool: Annotated[int, Meta(ge=1, le=2_000)] = 100
    new_slots: Annotated[int, Meta(ge=0, le=MOST_SLOTS)] = 0
    new_slots_from: Annotated[int, Meta(ge=1, le=MOST_SLOTS)] = 5
    uniform_share: Annotated[float, Meta(ge=0, le=0.1)] = 0.0

    def __post_init__(self) -> None:
        if 0 < self.temperature < 0.02:  # below, probabilities of low ranks are too small for a float
            raise ValueError("temperature must be 0 or at least 0.02")


Weights = Annotated[dict[ConversionName, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=10)]


def _refuse_repeats(what: str, found: Sequence[str | int]) -> None:
    for value, times in Counter(found).items():
        if times > 1:
            raise ValueError(f"{what} {value!r} stands twice: leave one out")


class Rules(Part, frozen=True, kw_only=True):
    """The rules of one surface, as the file gives them.

    `sources` stand in fallback order: the first to name an item keeps it. `weights` of conversions enter the ranked
    order as `models.combining` says; unset means those of the setting `task_weights`. `overload` names the surface
    whose rules hold instead while the process has too much to do; unset means that candidates are not ranked then.
    """

    sources: Annotated[tuple[Quota, ...], Meta(min_length=1, max_length=20)] = QUOTAS
    filters: Filters = Filters()
    weights: Weights | None = None
    boosts: Annotated[tuple[Boost, ...], Meta(max_length=50)] = ()
    pins: Annotated[tuple[Pin, ...], Meta(max_length=20)] = ()
    diversity: Diversity | None = None
    caps: Caps = Caps()
    exploration: Exploration = Exploration()
    overload: Name | None = None

    def __post_init__(self) -> None:
        _refuse_repeats("source", [quota.source for quota in self.sources])
        _refuse_repeats("boost", [boost.name for boost in self.boosts])
        _refuse_repeats("pinned item", [pin.item_id for pin in self.pins])
        _refuse_repeats("pinned position", [pin.position for pin in self.pins])


class Surface(Rules, frozen=True, kw_only=True):
    """A surface in force; `version` is that of the rules of all surfaces together."""

    name: str
    version: str


BUILT_IN_RULES: Mapping[str, Rules] = MappingProxyType(
    {
        HOME: Rules(exploration=Exploration(temperature=0.25, new_slots=1)),
        # What is asked for on this surface measures Flywheel itself; training leaves it out.
        PROBE: Rules(),
    }
)


def in_force(rules: Mapping[str, Rules], weights: Mapping[ConversionName, float]) -> Mapping[str, Surface]:
    """Return the surfaces of `rules` by name; where they set no weights of conversions, `weights` hold.

    The version is the first 12 hexadecimal digits of the SHA-256 of the rules, defaults included, in one canonical
    form (msgspec's deterministic JSON): comments, order and layout of a file do not change it.
    """
    weighed = {
        name: one if one.weights is not None else msgspec.structs.replace(one, weights=dict(weights))
        for name, one in rules.items()
    }
    canonical = msgspec.json.encode(weighed, order="deterministic")
    version = hashlib.sha256(canonical).hexdigest()[:12]
    return MappingProxyType(
        {
            name: Surface(name=name, version=version, **{key: getattr(one, key) for key in one.__struct_fields__})
            for name, one in weighed.items()
        }
    )


BUILT_IN: Mapping[str, Surface] = in_force(BUILT_IN_RULES, {})
