"""Examples: labels of slates, sampled alternatives of free choices, and nothing from the future in either."""

import random
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import timedelta

import pytest
from pyspark.sql import Row

from features.labels import ExampleSpec, impression_examples, numbered_log, organic_examples
from features.lake import IMPRESSIONS, INTERACTIONS
from tests.features.rows import at, frame, interaction

SPEC = ExampleSpec(positives=60, negatives=6, seed=3)


def slate(request: str, moment, *items: str, **fields):
    shown = [
        {"item_id": item, "position": place, "score": 0.0, "propensity": 1.0, "source": "s"}
        for place, item in enumerate(items)
    ]
    return {"event_id": request, "user_id": "u", "surface": "home", "happened_at": moment, "slate": shown, **fields}


def answer(number: int, request: str, item: str, moment, **fields):
    return interaction(number, "u", item, moment, request_id=request, kind="click", **fields)


@pytest.fixture
def prompted(spark):
    def examples(slates, answers, as_of):
        table = impression_examples(frame(spark, IMPRESSIONS, slates), frame(spark, INTERACTIONS, answers), SPEC, as_of)
        return {(row.group_id, row.item_id): row for row in table.collect()}

    return examples


def test_an_item_clicked_within_the_window_is_a_positive(prompted):
    found = prompted([slate("q", at(1), "a", "b")], [answer(1, "q", "b", at(1, minutes=30))], at(2))
    assert {key: (row.label, row.position) for key, row in found.items()} == {("q", "a"): (0, 0), ("q", "b"): (1, 1)}


def test_a_click_after_the_window_does_not_count(prompted):
    found = prompted([slate("q", at(1), "a")], [answer(1, "q", "a", at(1, minutes=30, seconds=1))], at(2))
    assert found["q", "a"].label == 0


def test_a_slate_whose_window_is_open_is_no_example_yet(prompted):
    slates = [slate("open", at(1), "a"), slate("closed", at(1, seconds=-1), "a")]
    assert [group for group, _ in prompted(slates, [], at(1, minutes=30, seconds=-1))] == ["closed"]


@pytest.mark.parametrize("kind", ["view", "skip", "hide"])
def test_what_is_no_wish_is_no_positive(prompted, kind):
    found = prompted([slate("q", at(1), "a")], [answer(1, "q", "a", at(1)) | {"kind": kind}], at(2))
    assert found["q", "a"].label == 0


def test_probes_and_guests_are_no_examples(prompted):
    slates = [slate("probe", at(1), "a", surface="probe"), slate("guest", at(1), "a", user_id=None)]
    assert prompted(slates, [], at(2)) == {}


def test_the_logged_features_come_along(prompted):
    found = prompted([slate("q", at(1), "a", user_features='{"interactions_30d":7.0}')], [], at(2))
    assert found["q", "a"].logged_user_features == '{"interactions_30d":7.0}'


@pytest.fixture(scope="module")
def log():
    """60 users choose among 40 items over 20 days, often several items in one second."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when a test fails
    draw = random.Random(seed)  # noqa: S311
    rows, number = [], 0
    for _ in range(250):
        user, moment = f"u{draw.randrange(60)}", at(draw.randrange(20), seconds=draw.randrange(200))
        for item in draw.sample(range(40), draw.choice([1, 1, 3])):
            number += 1
            rows.append(interaction(number, user, f"i{item}", moment))
    return rows


def organic(spark, rows, as_of, spec=SPEC, partitions=None) -> list[Row]:
    table = frame(spark, INTERACTIONS, rows)
    table = table if partitions is None else table.repartition(partitions)
    return organic_examples(numbered_log(table, as_of).localCheckpoint(), spec).collect()


@pytest.fixture(scope="module")
def examples(spark, log) -> list[Row]:
    return organic(spark, log, at(19))


def by_group(examples: list[Row]) -> dict[str, list[Row]]:
    groups = defaultdict(list)
    for row in examples:
        groups[row.group_id].append(row)
    return groups


def test_the_latest_choices_before_the_moment_are_the_positives(log, examples):
    before = [row for row in log if row["happened_at"] < at(19)]
    seconds = sorted({(row["happened_at"], row["user_id"]) for row in before})
    positives = [row for row in examples if row.label == 1]
    assert len(positives) == SPEC.positives
    known = {row["event_id"]: row for row in before}
    chosen = {(known[row.group_id]["happened_at"], row.user_id) for row in positives}
    assert len(chosen) == SPEC.positives  # one for each user and second
    oldest = min(moment for moment, _ in chosen)
    assert {pair for pair in seconds if pair[0] > oldest} <= chosen
    assert all(known[row.group_id]["item_id"] == row.item_id for row in positives)


def test_no_negative_was_ever_chosen_by_the_user(log, examples):
    taken = {(row["user_id"], row["item_id"]) for row in log if row["happened_at"] < at(19)}
    assert not [row for row in examples if row.label == 0 and (row.user_id, row.item_id) in taken]


def test_no_item_occurs_twice_in_a_group(examples):
    assert all(len({row.item_id for row in group}) == len(group) for group in by_group(examples).values())


def test_negatives_are_drawn_from_earlier_seconds_only(log, examples):
    first_seen: dict[str, object] = {}
    for row in sorted(log, key=lambda row: row["happened_at"]):
        first_seen.setdefault(row["item_id"], row["happened_at"])
    moments = {row["event_id"]: row["happened_at"] for row in log}
    late = [row for row in examples if row.label == 0 and first_seen[row.item_id] >= moments[row.group_id]]
    assert late == []


def test_half_of_the_negatives_are_popular_and_half_uniform(examples):
    counts = Counter(row.sampling for row in examples)
    assert counts["positive"] == SPEC.positives
    assert counts["popular"] <= SPEC.positives * 3
    assert counts["uniform"] <= SPEC.positives * 3
    assert counts["popular"] + counts["uniform"] > SPEC.positives * 5


def test_popular_negatives_follow_popularity_and_uniform_ones_do_not(spark):
    # One item has 300 interactions, thirty have one each; a new user then chooses another one.
    rows = [interaction(n, f"u{n}", "hit", at(0, seconds=n)) for n in range(300)]
    rows += [interaction(1000 + n, "w", f"rare{n}", at(1, seconds=n)) for n in range(30)]
    rows += [interaction(2000 + n, f"new{n}", "wanted", at(2, seconds=n)) for n in range(100)]
    spec = replace(SPEC, positives=100, negatives=2)
    drawn = [row for row in organic(spark, rows, at(3), spec) if row.label == 0]
    hits = Counter(row.sampling for row in drawn if row.item_id == "hit")
    assert hits["popular"] > 60  # 300 of 330 to 430 earlier interactions
    assert hits["uniform"] < 25  # one of 31 items


def test_the_same_seed_gives_the_same_examples_in_any_layout(spark, log, examples):
    again = organic(spark, log, at(19), partitions=5)
    assert sorted(map(str, again)) == sorted(map(str, examples))


def test_another_seed_gives_other_negatives(spark, log, examples):
    other = organic(spark, log, at(19), replace(SPEC, seed=4))
    assert {(row.group_id, row.item_id) for row in other} != {(row.group_id, row.item_id) for row in examples}


def test_answers_probes_and_views_are_no_free_choices(spark):
    rows = [
        interaction(1, "u", "a", at(1)),
        interaction(2, "u", "b", at(1, minutes=1), request_id="q"),
        interaction(3, "u", "c", at(1, minutes=2), surface="probe"),
        interaction(4, "u", "d", at(1, minutes=3), kind="view"),
        interaction(5, None, "e", at(1, minutes=4), session_id="s"),
        interaction(6, "u", "f", at(2) + timedelta(seconds=0)),
    ]
    assert [row.group_id for row in organic(spark, rows, at(2)) if row.label == 1] == ["e1"]
