"""What is answered about a slate that was shown."""

from typing import Literal

from services.api.schemas import Answer

Tie = Literal["chosen_before", "most_alike"]


class Driver(Answer, frozen=True):
    """An item of the user's history that speaks for an item of the slate.

    `chosen_before`: of the last 20, the one after which others chose the item most. `most_alike`: the nearest of the
    last 20 by the sequence model's vectors.
    """

    item_id: str
    tie: Tie


class ExplainedItem(Answer, frozen=True):
    """One item of the slate as it was shown, and what speaks for it.

    `rules` are the pin and the boosts that moved it; `fixed` says that no draw put it there, and `propensity` how
    probable it was at its position given the items above it. `drivers`, `task_scores` (the probability of each act for
    a user who chooses the item) and `features` (what the ranker reads) are empty where they could not be computed.
    """

    item_id: str
    position: int
    source: str
    score: float
    propensity: float
    fixed: bool
    rules: list[str]
    drivers: list[Driver]
    task_scores: dict[str, float]
    features: dict[str, float]


class ExplainAnswer(Answer, frozen=True):
    """A slate, what it was computed from, and why each item stands there; times in ms UTC.

    `history` are the newest items of the state, newest last. What the record does not hold is computed from it when it
    is asked for, by the same model version or not at all, with the uses of items as they are counted now; `notes` say
    what could not be computed.
    """

    request_id: str
    shown_at: int
    user_id: str | None
    session_id: str | None
    surface: str
    surfaces_version: str | None
    policy: str | None
    variant: str
    model_version: str | None
    fallbacks: list[str]
    history: list[str]
    user_features: dict[str, str | float]
    context: dict[str, str | float]
    items: list[ExplainedItem]
    notes: list[str]
