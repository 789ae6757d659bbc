import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sequences import Sequences, SequencesUnreadable, read_sequences
from streaming.dataset import DataSetMissing


def sequences(*histories: list[int], items: int = 6) -> Sequences:
    starts = np.cumsum([0, *(len(history) for history in histories)])
    return Sequences(items, np.array([row for own in histories for row in own], dtype=np.int32), starts)


def lists(found: Sequences) -> list[list[int]]:
    return [own.tolist() for own in np.split(found.rows, found.starts[1:-1])]


def test_training_validation_and_test_end_one_event_apart() -> None:
    whole = sequences([0, 1, 2, 3], [5, 4, 0])
    assert lists(whole.training()) == [[0, 1], [5]]
    assert lists(whole.validation().histories) == [[0, 1], [5]]
    assert whole.validation().targets.tolist() == [2, 4]
    assert lists(whole.test().histories) == [[0, 1, 2], [5, 4]]
    assert whole.test().targets.tolist() == [3, 0]


def test_what_a_model_may_know_asks_for_validation_with_its_last_event() -> None:
    whole = sequences([0, 1, 2, 3], [5, 4, 0])
    known = whole.held_back(1)
    assert lists(known.questions().histories) == lists(whole.validation().histories)
    assert known.questions().targets.tolist() == whole.validation().targets.tolist()


def test_a_sequence_shorter_than_what_is_held_back_becomes_empty() -> None:
    assert lists(sequences([0], [1, 2, 3], []).held_back(2)) == [[], [1], []]


def test_a_user_without_enough_events_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="fewer than 2 events"):
        sequences([0], [1, 2, 3]).validation()


def test_the_newest_rows_come_first_and_are_filled_up() -> None:
    assert sequences([0, 1, 2, 3], [], [5]).newest(3).tolist() == [[3, 2, 1], [-1, -1, -1], [5, -1, -1]]


def test_a_batch_is_some_users_from_the_start() -> None:
    some = sequences([0, 1], [2], [3, 4]).batch(1, 9)
    assert lists(some) == [[2], [3, 4]]
    assert some.owners().tolist() == [0, 1, 1]


def test_what_was_seen_twice_is_seen() -> None:
    assert sequences([1, 0, 1], [], items=3).seen().toarray().tolist() == [[1, 1, 0], [0, 0, 0]]
    assert sequences([1, 0, 1], [], items=3).counts().tolist() == [1, 2, 0]


def test_rows_outside_the_catalogue_and_starts_that_do_not_fit_are_errors() -> None:
    with pytest.raises(ValueError, match="within the catalogue"):
        sequences([0, 6])
    with pytest.raises(ValueError, match="starts of sequences"):
        Sequences(3, np.array([0, 1], dtype=np.int32), np.array([0, 1]))


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=5), st.integers(0, 7))
def test_holding_back_is_cutting_off_each_list(histories: list[list[int]], count: int) -> None:
    assert lists(sequences(*histories).held_back(count)) == [own[: max(len(own) - count, 0)] for own in histories]


def test_a_file_becomes_rows_in_the_order_of_the_numbers_and_keeps_each_users_order(tmp_path: Path) -> None:
    path = tmp_path / "some.txt.gz"
    path.write_bytes(gzip.compress(b"7 30\n2 10\n7 10\n2 20\n7 20\n"))
    found = read_sequences(path)
    assert (found.items, lists(found)) == (3, [[0, 1], [2, 0, 1]])


@pytest.mark.parametrize("content", [b"", b"1 2\n3 four\n", b"1\n", b"1 2 3\n"])
def test_a_file_of_something_else_is_an_error_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.txt"
    path.write_bytes(content)
    with pytest.raises(SequencesUnreadable, match="does not hold lines"):
        read_sequences(path)


def test_a_file_cut_off_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "some.txt.gz"
    path.write_bytes(gzip.compress(b"1 2\n" * 1000)[:-10])
    with pytest.raises(SequencesUnreadable, match="does not hold lines"):
        read_sequences(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataSetMissing, match=r"absent\.txt\.gz"):
        read_sequences(tmp_path / "absent.txt.gz")
