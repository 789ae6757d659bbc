"""Why each item of a logged slate stood there: what its record holds, and what the same model says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from features.popularity import PopularityWindow
from features.slate_records import EVENTS_KEPT, SlateRecord
from models.scorer import Query, Scorer
from services.recommend.explain_bodies import Driver, ExplainAnswer, ExplainedItem, Tie
from services.recommend.live import Live
from services.recommend.pipeline import CONTEXT
from streaming.errors import FlywheelError
from streaming.events import Impression, SlateItem
from streaming.ids import ItemId

Values = Mapping[str, str | float]


@dataclass(frozen=True)
class Grounds:
    """What speaks for one item, and what the ranker reads and predicts of it."""

    drivers: Sequence[Driver] = ()
    task_scores: Mapping[str, float] = field(default_factory=dict)
    features: Mapping[str, float] = field(default_factory=dict)


NONE = Grounds()


class NotLanded(FlywheelError):
    """The lake has no impression of a request."""


def explain(live: Live, record: SlateRecord) -> ExplainAnswer:
    """Return what is known of a slate. What a model says is computed by the version that made it, or left out."""
    impression = record.impression
    user_features, context = _split(impression)
    missing = _missing(live.scorer, record)
    by_item: dict[ItemId, Grounds] = {}
    if live.scorer is not None and missing is None:
        query = Query(record.history, user_features, impression.happened_at)
        by_item = _grounds(live, live.scorer, query, [ItemId(item.item_id) for item in impression.slate])
    unknown = [item.item_id for item in impression.slate if missing is None and item.item_id not in by_item]
    return ExplainAnswer(
        request_id=impression.request_id,
        shown_at=impression.happened_at,
        user_id=impression.user_id,
        session_id=impression.session_id,
        surface=impression.surface,
        surfaces_version=impression.surfaces_version,
        policy=impression.policy,
        variant=impression.variant,
        model_version=impression.model_version,
        fallbacks=impression.fallbacks,
        history=list(record.items or _logged_history(impression)),
        user_features=dict(user_features),
        context=dict(context),
        items=[_explained(item, by_item.get(ItemId(item.item_id), NONE)) for item in impression.slate],
        notes=[*([missing] if missing else []), *([_no_rows(unknown)] if unknown else [])],
    )


def explain_alone(impression: Impression) -> ExplainAnswer:
    """Return what an impression itself holds, without a model."""
    alone = Live.build(None, (), PopularityWindow())
    return explain(alone, SlateRecord(impression, [], [], []))


def _missing(scorer: Scorer | None, record: SlateRecord) -> str | None:
    """Return why nothing can be computed for a record's items, in a sentence, or None."""
    made_by = record.impression.model_version
    left_out = "drivers, task scores and the ranker's features are left out"
    if made_by is None:
        return f"No model was loaded when the slate was made, so {left_out}: its order is how used the items were."
    if scorer is None or scorer.version != made_by:
        here = "no model" if scorer is None else f"model {scorer.version}"
        return f"The slate was made by model {made_by} and {here} is loaded here, so {left_out}."
    if not record.history.events:
        return f"The user had no history, so {left_out}: the order is how used the items were."
    reads = max(scorer.spec.retrieval.length, scorer.spec.ranking.history_length)
    if record.is_cut and reads > EVENTS_KEPT:
        return f"The model reads {reads} events of a history and a record keeps {EVENTS_KEPT}, so {left_out}."
    return None


def _grounds(live: Live, scorer: Scorer, query: Query, item_ids: Sequence[ItemId]) -> dict[ItemId, Grounds]:
    """Return what speaks for each of the items that the model knows."""
    known = [item_id for item_id in item_ids if scorer.row(item_id) is not None]
    rows = live.rows_of(known)
    before, alike = scorer.came_before(query, rows), scorer.most_alike(query, rows)
    tasks, inputs = scorer.probabilities(query, rows, live.popularity), scorer.inputs(query, rows, live.popularity)
    return {
        item_id: Grounds(
            [*_driver(before[place], "chosen_before"), *_driver(alike[place], "most_alike")],
            {name: float(scores[place]) for name, scores in tasks.items()},
            {} if inputs is None else dict(zip(scorer.spec.ranking.features, inputs[place].tolist(), strict=True)),
        )
        for place, item_id in enumerate(known)
    }


def _driver(item_id: ItemId | None, tie: Tie) -> list[Driver]:
    return [] if item_id is None else [Driver(item_id=item_id, tie=tie)]


def _explained(item: SlateItem, grounds: Grounds) -> ExplainedItem:
    return ExplainedItem(
        item_id=item.item_id,
        position=item.position,
        source=item.source,
        score=item.score,
        propensity=item.propensity,
        fixed=item.fixed,
        rules=item.rules,
        drivers=list(grounds.drivers),
        task_scores=dict(grounds.task_scores),
        features=dict(grounds.features),
    )


def _logged_history(impression: Impression) -> Sequence[str]:
    return () if impression.user_state is None else impression.user_state.history


def _split(impression: Impression) -> tuple[Values, Values]:
    """Return the user's features and the request's context."""
    logged = {} if impression.user_state is None else impression.user_state.features
    context = {name.removeprefix(CONTEXT): value for name, value in logged.items() if name.startswith(CONTEXT)}
    return {name: value for name, value in logged.items() if not name.startswith(CONTEXT)}, context


def _no_rows(item_ids: Sequence[str]) -> str:
    return f"The model knows {', '.join(map(repr, item_ids))} no more, so nothing is computed for them."
