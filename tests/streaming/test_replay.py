from collections import Counter
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from streaming.movielens import load_movielens_100k
from streaming.replay import Replay, Shift

WEEK = 7 * 24 * 3_600_000
NOW = int(datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp() * 1000)


@given(cut=st.integers(0, NOW), now=st.integers(0, NOW))
def test_the_shift_is_whole_weeks_and_puts_the_cut_less_than_a_week_before_now(cut: int, now: int) -> None:
    shift = Shift.before(cut, now)
    assert shift.milliseconds % WEEK == 0
    assert 0 <= now - shift(cut) < WEEK


def test_movielens_has_its_published_size_and_its_first_rating() -> None:
    data = load_movielens_100k()
    assert (len(data.users), len(data.items), len(data.interactions)) == (943, 1682, 100_000)
    first = data.interactions[0]
    assert datetime.fromtimestamp(first.time / 1000, UTC) == datetime(1997, 9, 20, 3, 5, 10, tzinfo=UTC)
    assert Counter(interaction.value for interaction in data.interactions) == Counter(
        {4.0: 34_174, 3.0: 27_145, 5.0: 21_201, 2.0: 11_370, 1.0: 6_110}
    )


def test_the_split_is_by_time_with_ties_in_file_order() -> None:
    train, test = load_movielens_100k().split(0.9)
    assert len(train) == 90_000
    keys = [(interaction.time, interaction.number) for interaction in (*train, *test)]
    assert keys == sorted(keys)


def test_only_users_and_items_of_the_replayed_interactions_are_published() -> None:
    data = load_movielens_100k()
    train, _ = data.split(0.9)
    replay = Replay(data, Shift.before(train[-1].time, NOW), NOW)
    assert {item.item_id for item in replay.catalogue(train)} == {record.item_id for record in train}
    assert len(list(replay.users(train))) == 867


def test_a_replayed_interaction_keeps_its_original_time_and_always_gets_the_same_id() -> None:
    data = load_movielens_100k()
    train, _ = data.split(0.9)
    once = next(Replay(data, Shift.before(train[-1].time, NOW), NOW).interactions(train))
    again = next(Replay(data, Shift.before(train[-1].time, NOW + WEEK), NOW + WEEK).interactions(train))
    assert once.event_id == again.event_id
    assert once.source_time == again.source_time == train[0].time
    assert again.happened_at - once.happened_at == WEEK
