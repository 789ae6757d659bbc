"""What each candidate source finds and what the ranker makes of it, on the pipeline's own code.

The union of the sources, as the home surface asks them, is the ranker's ceiling: what is not in it cannot be shown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.popularity import PopularityWindow
from models.bootstrap import Mean, bootstrap_mean
from models.metrics import Interval, ndcg_of, paired_bootstrap, recall_of
from models.offline import popularity_of, query_of
from models.scorer import CLICK_ALONE, Query, Scorer
from models.slices import Slice
from models.time_split import Asked, TimeSplit
from services.recommend.candidates import SOURCES, Need, gather, sequence
from services.recommend.filters import may_show
from services.recommend.live import Live
from services.recommend.ranker import score_rows
from services.recommend.surfaces import BUILT_IN, HOME
from streaming.events import ItemUpserted
from streaming.ids import ItemId

Rows = NDArray[np.int64]

K, DEEP = 10, 200
_DRAWS = 2_000


class RankerCheck(msgspec.Struct, frozen=True, kw_only=True):
    """NDCG@10 of the sequence model's own order and of the ranker's, over the users with a history.

    `relative` is the ranker's lead as a share of `retrieval`, paired over users. The ranker may not lower NDCG@10: the
    check passes when the lower end is above minus the gate's tolerance.
    """

    users: int
    retrieval: float
    ranked: float
    relative: Interval
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the interval excludes that the ranker loses more than is tolerated."""
        return self.relative.low > -self.tolerance


class SourceReport(msgspec.Struct, frozen=True, kw_only=True):
    """Recall@200 of each source by name, over all users; recall of their union, which holds `candidates` on average.

    `ranker` is None when no user of the slice has a history, and then nothing is ranked by the model.
    """

    users: int
    recall200: dict[str, Mean]
    union: Mean
    candidates: float
    ranker: RankerCheck | None


@dataclass(frozen=True)
class _Found:
    """What one question came to: the recall by source, that of the union, its size, and NDCG@10 of both orders."""

    by_source: dict[str, float]
    union: float
    candidates: int
    retrieval: float
    ranked: float
    has_history: bool


def report_sources(scorer: Scorer, part: Slice, split: TimeSplit, tolerance: float, seed: int) -> SourceReport:
    """Ask the sources and the ranker every question of the split, which must have one."""
    live = _live(scorer, part, split)
    found = list(_ask_all(live, part, split))
    return SourceReport(
        users=len(found),
        recall200={name: bootstrap_mean([one.by_source[name] for one in found], seed, _DRAWS) for name in SOURCES},
        union=bootstrap_mean([one.union for one in found], seed, _DRAWS),
        candidates=float(np.mean([one.candidates for one in found])),
        ranker=_check([one for one in found if one.has_history], tolerance, seed),
    )


def _live(scorer: Scorer, part: Slice, split: TimeSplit) -> Live:
    """Return the live state that a recommender would have at the start of the slice."""
    items = [_upserted(part, item_id) for item_id in split.catalogue]
    live = Live.build(scorer, items, PopularityWindow())
    return live.with_popularity(popularity_of(scorer, part))


def _upserted(part: Slice, item_id: ItemId) -> ItemUpserted:
    content = part.content(item_id)
    return ItemUpserted(
        event_id=f"slice-{item_id}",
        happened_at=part.start,
        received_at=part.start,
        producer="evaluation",
        item_id=item_id,
        title=content.title,
        categories=list(content.categories),
        attributes=dict(content.attributes or {}),
        text=content.text,
    )


def _ask_all(live: Live, part: Slice, split: TimeSplit) -> Iterator[_Found]:
    rows = live.rows_of(split.catalogue)
    for question in split.asked:
        yield _ask(live, query_of(part, question.user_id), part, question, rows)


def _ask(live: Live, query: Query, part: Slice, question: Asked, rows: Rows) -> _Found:
    allowed = may_show(live, query.as_of, part.users[question.user_id].seen, ())
    need, surface = Need(query, allowed, ()), BUILT_IN[HOME]
    targets = rows[question.targets]

    def places(named: Rows) -> NDArray[np.float64]:
        """Return the place of each target in a list of distinct rows, infinite where it is not named."""
        table = np.full(len(allowed.mask), np.inf)
        table[named] = np.arange(len(named))
        return np.append(table[targets], np.full(question.missing, np.inf))

    candidates = gather(live, need, surface.sources, K)
    scores = score_rows(live, query, candidates.rows, CLICK_ALONE)
    order = candidates.rows[np.argsort(-scores, kind="stable")]
    retrieved = allowed.among(sequence(live, need, K + allowed.barred))
    named = {name: allowed.among(source(live, need, DEEP + allowed.barred))[:DEEP] for name, source in SOURCES.items()}
    return _Found(
        by_source={name: recall_of(places(found), DEEP) for name, found in named.items()},
        union=recall_of(places(candidates.rows), len(candidates.rows)),
        candidates=len(candidates.rows),
        retrieval=ndcg_of(places(retrieved), K),
        ranked=ndcg_of(places(order), K),
        has_history=bool(query.history.events),
    )


def _check(found: Sequence[_Found], tolerance: float, seed: int) -> RankerCheck | None:
    if not found:
        return None
    retrieval, ranked = np.array([one.retrieval for one in found]), np.array([one.ranked for one in found])
    scale = max(float(retrieval.mean()), 1e-12)
    return RankerCheck(
        users=len(found),
        retrieval=float(retrieval.mean()),
        ranked=float(ranked.mean()),
        relative=paired_bootstrap(ranked / scale, retrieval / scale, seed, _DRAWS),
        tolerance=tolerance,
    )
