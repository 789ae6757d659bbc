"""The bodies of evaluations."""

from typing import Annotated

from msgspec import Meta, field

from services.api.schemas import MAX_BATCH, Answer, Body, N
from services.recommend.bodies import SlateItem
from streaming.events import Id, Kind, Millis

MAX_STEPS = 500


class EvaluationStarted(Answer, frozen=True):
    """A new evaluation: its id is part of the paths that use it."""

    evaluation_id: str


class EvaluationEvent(Body, frozen=True):
    """What the user did after the step's answer."""

    item_id: Id
    kind: Kind
    happened_at: Millis
    value: float | None = None


class EvaluationStep(Body, frozen=True):
    """Ask for a user as of a time; afterwards `then` is added to what the evaluation knows."""

    user_id: Id
    as_of: Millis
    n: N = 20
    then: Annotated[list[EvaluationEvent], Meta(max_length=MAX_BATCH)] = field(default_factory=list)


class EvaluationRequest(Body, frozen=True):
    """Steps, answered in their order."""

    steps: Annotated[list[EvaluationStep], Meta(min_length=1, max_length=MAX_STEPS)]


class EvaluationSlate(Answer, frozen=True):
    """One step's answer."""

    slate: list[SlateItem]
    fallbacks: list[str]


class EvaluationAnswer(Answer, frozen=True):
    """The steps' answers in their order."""

    slates: list[EvaluationSlate]
    model_version: str | None
