"""The order of the items that the model was not trained on."""

from hypothesis import given
from hypothesis import strategies as st

from services.recommend.unproven import Unproven
from streaming.ids import ItemId

updates = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), max_size=30)


@given(updates, st.randoms(use_true_random=False))
def test_the_newest_record_comes_last_in_whatever_order_items_are_read(
    updates: list[tuple[int, int]], random: object
) -> None:
    newest = dict(updates)  # of several records of an item the last holds
    shuffled = list(newest.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = Unproven(), Unproven()
    for row, at in updates:
        one.put(row, ItemId(f"i{row}"), at)
        assert row in one
        assert one.rows[-1] in one
    for row, at in shuffled:
        other.put(row, ItemId(f"i{row}"), at)
    assert one.rows.tolist() == other.rows.tolist()
    assert one.rows.tolist() == sorted(newest, key=lambda row: (newest[row], f"i{row}"))
