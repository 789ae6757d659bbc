"""What a long process does about its memory."""

import gc
from collections.abc import Iterator

import pytest

from services import heap


@pytest.fixture
def as_it_was() -> Iterator[None]:
    """Leave the garbage collector of the tests as it was."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("as_it_was")
def test_a_frozen_heap_is_not_searched_for_garbage_any_more_but_what_comes_later_is() -> None:
    class Loop:
        def __init__(self) -> None:
            self.itself = self

    old = Loop()
    heap.freeze()
    assert not any(one is old for one in gc.get_objects())
    new = Loop()
    assert any(one is new for one in gc.get_objects())
    assert gc.get_threshold()[0] > 700, "a round is begun more rarely than Python does by itself"
