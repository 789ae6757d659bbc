"""The spool: a list on disk that is in order, bounded, owned by one, and whole after any death."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from waiting import wait_until

from streaming.records import Record
from streaming.spool import Spool, SpoolFailed, SpoolFull, SpoolHeld, SpoolPlace, SpoolUnusable

CAPACITY = 2_000
BIG = 1_000_000_000

texts = st.text(max_size=20)
some_records = st.builds(
    Record,
    topic=texts,
    key=st.binary(max_size=20),
    value=st.none() | st.binary(max_size=300),
    headers=st.lists(st.tuples(texts, st.binary(max_size=10)), max_size=3).map(tuple),
)


def numbered(number: int) -> Record:
    return Record("topic", b"key", str(number).encode())


def contents(spool: Spool) -> list[Record]:
    return [spooled.record for spooled in spool.first(1_000_000)]


class SpoolAgainstAList(RuleBasedStateMachine):
    """Whatever is done to a spool, its records are those of a list that the same was done to."""

    @initialize()
    def empty(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.time = 1_000
        self.model: list[tuple[int, Record]] = []  # with the time of appending
        self.spool = self.opened()

    def opened(self) -> Spool:
        return Spool(Path(self.folder.name) / "s.spool", CAPACITY, lambda: self.time)

    @rule(groups=st.lists(st.lists(some_records, max_size=4), min_size=1, max_size=4))
    def append(self, groups: list[list[Record]]) -> None:
        asked = [self.spool.append(group) for group in groups]
        for group, done in zip(groups, asked, strict=True):
            held = sum(record.size for _, record in self.model)
            if held + sum(record.size for record in group) > CAPACITY:
                assert isinstance(done.exception(10), SpoolFull)
            else:
                assert done.result(10) is None
                self.model += [(self.time, record) for record in group]

    @rule(count=st.integers(0, 6))
    def drain(self, count: int) -> None:
        found = self.spool.first(count)
        assert [spooled.record for spooled in found] == [record for _, record in self.model[:count]]
        assert [spooled.number for spooled in found] == sorted({spooled.number for spooled in found})
        if found:
            self.spool.remove([one.number for one in found])
            del self.model[: len(found)]

    @rule(value=st.none() | st.binary(max_size=1))
    def erase(self, value: bytes | None) -> None:
        left = [(time, record) for time, record in self.model if record.value != value]
        assert self.spool.remove_where(lambda record: record.value == value) == len(self.model) - len(left)
        self.model = left

    @rule()
    def reopen(self) -> None:
        self.spool.close()
        self.spool = self.opened()

    @rule(milliseconds=st.integers(0, 5_000))
    def time_passes(self, milliseconds: int) -> None:
        self.time += milliseconds

    @invariant()
    def the_fill_is_that_of_the_list(self) -> None:
        fill = self.spool.fill
        assert fill.records == len(self.model)
        assert fill.bytes == sum(record.size for _, record in self.model)
        assert fill.oldest_at == (self.model[0][0] if self.model else None)
        assert self.spool.is_empty == (not self.model)

    def teardown(self) -> None:
        self.spool.close()
        reopened = self.opened()
        assert contents(reopened) == [record for _, record in self.model]
        reopened.close()
        self.folder.cleanup()


TestSpoolAgainstAList = SpoolAgainstAList.TestCase
TestSpoolAgainstAList.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)

_WRITER = """
import sys
from pathlib import Path
from streaming.records import Record
from streaming.spool import Spool
spool = Spool(Path(sys.argv[1]), 1_000_000_000, lambda: 0)
waiting, number = [], 0
while True:
    waiting.append((number, spool.append([Record("topic", b"key", str(number).encode())])))
    number += 1
    if len(waiting) >= 20:  # several appends share a commit
        first, done = waiting.pop(0)
        done.result()
        sys.stdout.write(f"{first}\\n")
        sys.stdout.flush()
"""


@pytest.mark.parametrize("acknowledged", [1, 150, 700])
def test_after_a_sigkill_every_acknowledged_record_is_there_in_order(tmp_path: Path, acknowledged: int) -> None:
    path, told = tmp_path / "s.spool", tmp_path / "told"
    with told.open("w") as output:
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=output)
        try:
            wait_until(lambda: told.read_text().count("\n") >= acknowledged)
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
    promised = [int(line) for line in told.read_text().split("\n")[:-1]]
    spool = Spool(path, BIG, lambda: 0)
    found = contents(spool)
    spool.close()
    assert len(promised) >= acknowledged
    assert promised == [*range(len(promised))]
    assert found == [numbered(number) for number in range(len(found))]
    assert len(found) >= len(promised)


def test_a_spool_has_one_owner_and_a_second_one_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "s.spool"
    spool = Spool(path, BIG, lambda: 0)
    with pytest.raises(SpoolHeld, match=r"another process owns the spool .*s\.spool: stop it first"):
        Spool(path, BIG, lambda: 0)
    other = "import sys; from pathlib import Path; from streaming.spool import Spool; Spool(Path(sys.argv[1]), 1, int)"
    second = subprocess.run([sys.executable, "-c", other, str(path)], capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "SpoolHeld: another process owns the spool" in second.stderr
    spool.append([numbered(0)]).result(10)
    spool.close()
    again = Spool(path, BIG, lambda: 0)
    assert contents(again) == [numbered(0)]
    again.close()


def test_each_process_claims_a_file_of_its_own_and_what_nobody_owns_can_be_drained(tmp_path: Path) -> None:
    place = SpoolPlace(tmp_path / "made" / "here", "events", BIG, lambda: 0)
    first, second = place.claim(), place.claim()
    assert first.path != second.path
    assert place.files() == [first.path, second.path]
    for number, spool in enumerate((first, second)):
        spool.append([numbered(number)]).result(10)
    first.close()
    left = []
    for spool in place.left_behind():
        left += contents(spool)
    assert left == [numbered(0)]
    assert place.claim().path == first.path
    second.close()


def test_a_spool_that_is_closed_takes_nothing_and_has_written_what_it_took(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s.spool", BIG, lambda: 0)
    taken = [spool.append([numbered(number)]) for number in range(500)]
    spool.close()
    assert all(done.exception(0) is None for done in taken)
    assert isinstance(spool.append([numbered(1)]).exception(0), SpoolFailed)
    with pytest.raises(SpoolFailed, match="is closed"):
        spool.first(1)
    again = Spool(tmp_path / "s.spool", BIG, lambda: 0)
    assert contents(again) == [numbered(number) for number in range(500)]
    again.close()


def test_what_was_removed_is_nowhere_in_the_files(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s.spool", BIG, lambda: 0)
    secret = b"a user's own words" * 50
    spool.append([Record("topic", b"key", secret)] * 30).result(10)
    assert any(secret[:18] in path.read_bytes() for path in tmp_path.iterdir())
    spool.remove([one.number for one in spool.first(100)])
    assert not any(secret[:18] in path.read_bytes() for path in tmp_path.iterdir())
    spool.close()


def test_what_was_taken_out_from_between_others_is_nowhere_in_the_files(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s.spool", BIG, lambda: 0)
    secret = Record("topic", b"key", b"a user's own words")
    spool.append([numbered(1), secret, numbered(2)]).result(10)
    assert spool.remove_where(lambda record: record == secret) == 1
    assert contents(spool) == [numbered(1), numbered(2)]
    assert not any(b"own words" in path.read_bytes() for path in tmp_path.iterdir())
    spool.close()


def test_the_files_take_at_most_twice_the_bound_and_some_megabytes(tmp_path: Path) -> None:
    bound = 3_000_000
    spool = Spool(tmp_path / "s.spool", bound, lambda: 0)
    refused: list[Future[None]] = []
    for _ in range(3):  # filled and drained again and again
        asked = [spool.append([Record("topic", b"key", os.urandom(900))]) for _ in range(4_000)]
        refused += [done for done in asked if done.exception(30) is not None]
        assert bound - 2_000 < spool.fill.bytes <= bound
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 * bound + 8_000_000
        spool.remove([one.number for one in spool.first(10_000)])
        assert spool.is_empty
    assert refused
    assert {type(done.exception(0)) for done in refused} == {SpoolFull}
    spool.close()


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from streaming.records import Record
from streaming.spool import Spool
spool = Spool(Path(sys.argv[1]), 1_000_000_000, lambda: 0)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails then, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
kept = 0
while (error := spool.append([Record("topic", b"key", b"x" * 1_000)]).exception(30)) is None:
    kept += 1
print(kept, type(error).__name__)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.append([Record("topic", b"key", b"room again")]).result(30)
print(len(spool.first(100_000)), spool.fill.records)
"""


def test_a_disk_that_takes_no_more_is_an_error_and_what_was_acknowledged_stays(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    path = tmp_path / "s.spool"
    done = subprocess.run([sys.executable, "-c", _FULL_DISK, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kept, error, found, counted = done.stdout.split()
    assert error in ("SpoolFull", "SpoolFailed")
    assert int(kept) > 50
    assert int(found) == int(counted) == int(kept) + 1
    spool = Spool(path, BIG, lambda: 0)
    assert [record.value for record in contents(spool)] == [b"x" * 1_000] * int(kept) + [b"room again"]
    spool.close()


@pytest.mark.parametrize("content", [b"no database at all" * 500, b"SQLite format 3\0" + b"\xff" * 5_000])
def test_a_file_that_is_no_spool_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.spool"
    path.write_bytes(content)
    with pytest.raises(SpoolUnusable, match=r"s\.spool cannot be opened \(.*\): make room and access, or move"):
        Spool(path, BIG, lambda: 0)
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpoolUnusable, match=r"folder .* cannot be made"):
        SpoolPlace(tmp_path / "file" / "spool", "events", BIG, lambda: 0).claim()
