"""What training says while it runs: steps, pace, row lengths, and all of it as TensorBoard event files."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import small
from tensorboardX.proto.event_pb2 import Event

from models.config import LayoutSettings, RetrievalSettings
from models.dataset import TrainingData
from models.export import Fitted
from models.fitting import Timer, fit
from models.progress import NormSummary, Pace, Step
from models.retrieval_training import RetrievalTrainer
from models.sharding import limited_threads, process_group
from models.spec import Lineage
from models.tensorboard import TensorBoardLog

RETRIEVAL = small.SETTINGS.retrieval
LIMIT = 0.5


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def steps(data: TrainingData) -> dict[str, list[Step]]:
    heard: dict[str, list[Step]] = {}
    lineage = Lineage({}, small.SEED, "test")
    fit(data, small.SETTINGS, lineage, Timer(lambda part, step: heard.setdefault(part, []).append(step)))
    return heard


def events(folder: Path) -> Iterator[Event]:
    """The records of a folder's one event file: length, checksum, data, checksum."""
    (file,) = folder.iterdir()
    content = file.read_bytes()
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        yield Event.FromString(content[12 : 12 + size])
        content = content[16 + size :]


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def lengths(settings: RetrievalSettings, data: TrainingData) -> tuple[np.ndarray, np.ndarray]:
    """The row lengths that training reports at its end, and those of the table that it gives."""
    heard: list[Step] = []
    with process_group(), limited_threads(1):
        trainer = RetrievalTrainer(settings, np.zeros((len(data.items), 1), dtype=np.float32), small.SEED)
        trainer.train(data.log, 2, 1.0, heard.append)
        table = trainer.trained().table.numpy()
    return heard[-1].norms["item"], np.linalg.norm(table, axis=1)


@pytest.mark.parametrize("kind", ["table_wise", "column_wise", "row_wise"])
def test_row_lengths_are_those_of_the_table_however_it_is_laid_out(kind: str, data: TrainingData) -> None:
    layout = LayoutSettings(sharding=kind, columns=4)
    reported, real = lengths(RETRIEVAL.model_copy(update={"layout": layout}), data)
    assert reported == pytest.approx(real, rel=1e-5)


def test_row_lengths_are_those_of_a_table_that_every_process_has(data: TrainingData) -> None:
    reported, real = lengths(RETRIEVAL.model_copy(update={"embedding_optimizer": "adam"}), data)
    assert reported == pytest.approx(real, rel=1e-5)


def test_row_lengths_come_at_the_end_of_every_pass(steps: dict[str, list[Step]]) -> None:
    passes = {
        "retrieval": (RETRIEVAL.epochs, {"item"}),
        "ranking": (small.SETTINGS.ranking.epochs, {"item", "category", "user"}),
        "retrieval refit": (RETRIEVAL.refit_epochs, {"item"}),
    }
    for part, (count, tables) in passes.items():
        with_norms = [step for step in steps[part] if step.norms]
        assert len(with_norms) == count, part
        assert with_norms[-1] is steps[part][-1]
        assert with_norms[-1].norms.keys() == tables


def test_every_interaction_of_a_pass_is_counted_as_a_sample(data: TrainingData, steps: dict[str, list[Step]]) -> None:
    refit = steps["retrieval refit"]
    assert sum(step.samples for step in refit) == RETRIEVAL.refit_epochs * len(data.log.rows)


def test_lengths_are_summed_up_against_the_limit() -> None:
    summary = NormSummary.of(np.array([1.0, 2.0, 3.0, 6.0], dtype=np.float32), 2.0)
    assert (summary.mean, summary.largest, summary.beyond) == (3.0, 6.0, 0.5)


def test_the_pace_counts_from_the_first_step_that_was_heard_of() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.heard("part", Step(11, 20, 1.0, 0.1, 999)) is None  # an interrupted run goes on: no time is known of it
    clock.now = 2.0
    assert pace.heard("part", Step(12, 20, 1.0, 0.1, 100)) == (50.0, 16.0)
    clock.now = 3.0
    assert pace.heard("part", Step(13, 20, 1.0, 0.1, 50)) == (50.0, 10.5)
    assert pace.heard("another part", Step(1, 1, 1.0, 0.1, 50)) is None


def test_event_files_hold_what_was_heard(steps: dict[str, list[Step]], tmp_path: Path) -> None:
    clock = Clock()
    with TensorBoardLog(tmp_path / "run", LIMIT, clock) as board:
        for part, heard in steps.items():
            for step in heard:
                clock.now += 0.5
                board.heard(part, step)
        board.finish({"retrieval_loss_last": 1.25})
    found = scalars(tmp_path / "run")
    for part, heard in steps.items():
        tag = part.replace(" ", "_")
        assert found[f"loss/{tag}"] == pytest.approx({step.number: step.loss for step in heard})
        assert found[f"learning_rate/{tag}"] == pytest.approx({step.number: step.rate for step in heard})
        samples = np.cumsum([step.samples for step in heard[1:]]) / (0.5 * np.arange(1, len(heard)))
        assert list(found[f"samples_per_second/{tag}"].values()) == pytest.approx(samples)
        for table, norms in heard[-1].norms.items():
            last = heard[-1].number
            assert found[f"norm_mean/{tag}/{table}"][last] == pytest.approx(norms.mean())
            assert found[f"norm_largest/{tag}/{table}"][last] == pytest.approx(norms.max())
            assert found[f"norm_beyond_limit/{tag}/{table}"][last] == pytest.approx((norms > LIMIT).mean())
    assert found["metrics/retrieval_loss_last"] == {0: 1.25}


def test_a_run_that_took_no_step_leaves_no_folder(tmp_path: Path) -> None:
    with TensorBoardLog(tmp_path / "run", LIMIT):
        pass
    assert not (tmp_path / "run").exists()


def test_the_model_keeps_the_length_of_its_longest_row(fitted: Fitted) -> None:
    longest = np.linalg.norm(fitted.retrieval.table.numpy(), axis=1).max()
    assert fitted.metrics["retrieval_norm_largest"] == pytest.approx(longest)
