"""`flywheel evaluate` on a real lake, and what the candidate sources and the ranker are told to have found."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from environ import without_settings
from lake import write_rows
from resigned import resign
from rich.console import Console

from features.config import LakeSettings
from features.popularity import PopularityWindow
from models.artifact import METRICS
from models.bootstrap import bootstrap_mean
from models.content import ItemContent
from models.gate import SliceOverlaps
from models.metrics import Interval
from models.offline import query_of
from models.registry import Champion, Registry
from models.report import NobodyToAsk
from models.scorer import CLICK_ALONE, Query, Rows, Scorer, Vector
from models.slices import Later, Past, Slice, read_slice
from models.time_split import TimeSplit
from services.quality.compare import Compared, Ground, compare
from services.quality.sources import RankerCheck, report_sources
from services.quality.tables import tables
from streaming.ids import ItemId, UserId
from streaming.namespace import Namespace

SHOP, SEED = Namespace("flywheel"), 3
Artifact = tuple[Path, str]


@dataclass(frozen=True)
class Shop:
    """A home with a lake and a registry that holds the small model."""

    home: Path
    lake: LakeSettings
    registry: Registry
    version: str
    start: int

    def later(self) -> Later:
        return partial(read_slice, self.lake, SHOP)

    def part(self) -> Slice:
        return self.later()(self.start)

    def ground(self, registry: Registry, start: int | None = None) -> Ground:
        return Ground(registry, self.later(), self.start if start is None else start, 0.02, SEED)


@pytest.fixture(scope="module")
def shop(world: SimpleNamespace, artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """What the model was trained on, and what thirty users came to afterwards: one of them to a new item."""
    home, (folder, version) = tmp_path_factory.mktemp("home"), artifact
    acts = [_act(event.event_id, event.user_id, event.item_id, event.happened_at) for event in world.interactions]
    for number in range(30):
        seen = set(world.history(f"u{number}"))
        unseen = [f"i{item}" for item in range(number % 3, 60, 3) if f"i{item}" not in seen][:2]
        acts += [_act(f"later-{number}-{name}", f"u{number}", name, world.now + 1_000 + number) for name in unseen]
    acts.append(_act("later-guest", "a stranger", "brand new", world.now + 2_000))
    items = [
        {"event_id": item.event_id, "item_id": item.item_id, "happened_at": item.happened_at, "title": item.title}
        | {"categories": item.categories, "attributes": json.dumps(item.attributes), "removed": False, "hidden": False}
        for item in world.items
    ]
    items.append(items[0] | {"event_id": "new", "item_id": "brand new", "title": "Brand new"})
    lake = write_rows(home, SHOP, interactions=acts, items=items)
    registry = Registry(str(home / "models"), SHOP)
    registry.add(folder, version)
    return Shop(home, lake, registry, version, world.now)


def _act(event_id: str, user: str, item: str, at: int) -> dict[str, object]:
    return {"event_id": event_id, "user_id": user, "item_id": item, "happened_at": at, "kind": "rating", "value": 4.0}


def quietly(_name: str) -> None:
    """Hear of what begins."""


def flywheel(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environ = without_settings()
    command = [sys.executable, "-m", "services.cli", *arguments]
    environ |= {"FLYWHEEL_HOME": str(home)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=240, check=False)


def test_evaluate_prints_the_model_beside_the_baselines_and_the_report_as_data(shop: Shop) -> None:
    since = datetime.fromtimestamp(shop.start / 1000, UTC).isoformat()
    done = flywheel("evaluate", shop.version, "--since", since, "--report", "--json", home=shop.home)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    names = [row["name"] for row in found["comparison"]["rows"]]
    assert names[0] == shop.version
    assert {"popularity", "popularity_decayed_14d", "item_knn", "markov", "ease", "ials"} <= set(names)
    assert found["comparison"]["users"] == 31
    assert found["sources"]["users"] == 31
    assert all({"mean", "low", "high"} == set(row["means"]["ndcg10"]) for row in found["comparison"]["rows"])
    assert found["comparison"]["left_out"] == {"champion": "no model was promoted yet"}


def test_evaluating_on_what_the_model_was_trained_on_is_refused(shop: Shop) -> None:
    with pytest.raises(SliceOverlaps, match=r"trained on a part of the slice"):
        compare(shop.ground(shop.registry, shop.start - 1), shop.version, False, quietly)


def test_a_slice_without_a_question_is_a_sentence(shop: Shop) -> None:
    with pytest.raises(NobodyToAsk, match="take an earlier start of the slice"):
        compare(shop.ground(shop.registry, shop.start + 3_600_000), shop.version, False, quietly)


def test_the_champion_stands_beside_the_model_unless_it_is_the_model_or_saw_the_slice(
    shop: Shop, artifact: Artifact, tmp_path: Path
) -> None:
    registry, heard = Registry(str(tmp_path), SHOP), []
    same = Path(shutil.copytree(artifact[0], tmp_path / "same"))
    (same / METRICS).write_text("{}")  # another model by what was measured, with the same weights
    champion = resign(same)
    registry.add(artifact[0], shop.version)
    registry.add(same, champion)
    registry.promote(Champion(number=1, model_version=champion, change="promote", changed_at=1, gate={}))
    found = compare(shop.ground(registry), shop.version, False, heard.append).comparison
    assert [row.name for row in found.rows[:2]] == [shop.version, f"champion {champion}"]
    assert found.rows[1].lead["ndcg10"] == Interval(0.0, 0.0, 0.0)  # they are the same weights
    assert heard[:3] == [shop.version, "champion", "popularity"]
    of_itself = compare(shop.ground(registry), champion, False, heard.append)
    assert of_itself.comparison.left_out["champion"] == "it is this model"


def test_the_tables_show_everything_that_was_found(shop: Shop) -> None:
    found = compare(shop.ground(shop.registry), shop.version, True, quietly)
    comparison, sources = found.comparison, found.sources
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(tables(found))
    text = console.export_text()
    for row in comparison.rows:
        assert row.name in text
        assert f"{row.means['ndcg10'].mean:.3f}".removeprefix("0") in text
    for part_of in comparison.parts:
        assert part_of.name in text
    assert "union, the ranker's ceiling" in text
    assert "the ranker may not lower NDCG@10" in text
    assert sources is not None
    assert msgspec.json.decode(msgspec.json.encode(found), type=Compared) == found


@pytest.fixture
def scorer(artifact: Artifact) -> Scorer:
    return Scorer.load(artifact[0])


def test_in_a_catalogue_smaller_than_the_quotas_the_union_holds_every_known_target(shop: Shop, scorer: Scorer) -> None:
    part = shop.part()
    found = report_sources(scorer, part, TimeSplit.of(part), 0.02, SEED)
    assert (found.union.mean, found.union.low) == (1.0, 1.0)
    assert found.recall200["new"].mean == pytest.approx(1 / 31)  # the one user who came to the new item
    assert found.recall200["popular"].mean == pytest.approx(30 / 31)
    # Without a history neither of these two names anything.
    assert found.recall200["sequence"].mean == pytest.approx(30 / 31)
    assert found.recall200["category"].mean < 1.0


def test_an_item_that_nobody_can_show_lowers_the_ceiling(shop: Shop, scorer: Scorer) -> None:
    part = shop.part().followed_by({UserId("u0"): [ItemId("nobody knows it"), ItemId("brand new")]})
    found = report_sources(scorer, part, TimeSplit.of(part), 0.02, SEED)
    assert found.union == bootstrap_mean([0.5], SEED)


def test_a_sources_recall_is_that_of_its_first_items_without_the_seen_ones(shop: Shop, scorer: Scorer) -> None:
    part = shop.part()
    split = TimeSplit.of(part)
    found = report_sources(scorer, part, split, 0.02, SEED)
    hits = []
    for user_id, past in part.users.items():
        if past.targets:
            rows = scorer.co_visited(query_of(part, user_id), 60).rows
            named = {scorer.item_id(row) for row in rows.tolist()} - past.seen
            hits.append(len(past.targets & named) / len(past.targets))
    assert found.recall200["co_visited"].mean == pytest.approx(sum(hits) / len(hits))


class Backwards(Scorer):
    """A model whose ranker puts the best last."""

    def rank(
        self, query: Query, rows: Rows, popularity: PopularityWindow, weights: Mapping[str, float] = CLICK_ALONE
    ) -> Vector:
        return -super().rank(query, rows, popularity, weights)


def test_a_ranker_that_lowers_ndcg_fails_its_check(shop: Shop, artifact: Artifact, scorer: Scorer) -> None:
    """The sequence model knows what follows; turned round, the ranker loses it."""
    part = shop.part()
    users = [user for user, past in part.users.items() if past.events][:30]
    best = {user: [scorer.item_id(row) for row in _unseen(scorer, part, user)] for user in users}
    part = part.followed_by(best)
    check = report_sources(Backwards.load(artifact[0]), part, TimeSplit.of(part), 0.02, SEED).ranker
    assert check is not None
    assert check.retrieval > 0.9  # the targets are what the sequence model itself would show
    assert check.ranked < 0.5
    assert not check.passed


def _unseen(scorer: Scorer, part: Slice, user: UserId) -> list[int]:
    rows = scorer.retrieve(query_of(part, user), 60).rows.tolist()
    return [row for row in rows if scorer.item_id(row) not in part.users[user].seen][:3]


def test_the_check_passes_only_when_the_interval_excludes_a_loss() -> None:
    def check(low: float) -> RankerCheck:
        return RankerCheck(users=9, retrieval=0.3, ranked=0.3, relative=Interval(0.0, low, 0.1), tolerance=0.02)

    assert check(-0.019).passed
    assert not check(-0.021).passed


def test_without_any_history_there_is_no_ranker_to_check(scorer: Scorer) -> None:
    name = ItemId("i1")
    part = Slice(scorer.trained_until, {UserId("a"): Past([], {name})}, {}, {name: ItemContent(name)})
    assert report_sources(scorer, part, TimeSplit.of(part), 0.02, SEED).ranker is None
