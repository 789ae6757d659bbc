"""What a user had met before each place of a window."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.log import Log
from models.seen import seen_since

ITEMS = 6
histories = st.lists(st.lists(st.integers(0, ITEMS), max_size=12), min_size=1, max_size=4)


@given(histories, st.data())
def test_an_item_is_seen_from_its_first_meeting_on(histories: list[list[int]], data: st.DataObject) -> None:
    starts = np.cumsum([0, *map(len, histories)])
    rows = np.array([item for history in histories for item in history], dtype=np.int64)
    log = Log(np.repeat(np.arange(len(histories)), np.diff(starts)), rows, np.arange(len(rows)), rows * 0, starts)
    windows, owners = [], []
    for user, history in enumerate(histories):
        if history:
            first = data.draw(st.integers(0, len(history) - 1))
            last = data.draw(st.integers(first + 1, len(history)))
            windows.append(slice(int(starts[user]) + first, int(starts[user]) + last))
            owners.append((history, first))
    length = max((window.stop - window.start for window in windows), default=1)

    since = seen_since(log, windows, length, ITEMS)

    for number, (window, (history, first)) in enumerate(zip(windows, owners, strict=True)):
        for place in range(window.stop - window.start):
            met = {item for item in history[: first + place + 1] if item < ITEMS}
            assert {item for item in range(ITEMS) if since[number, item] <= place} == met
