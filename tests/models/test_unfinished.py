"""The training job, interrupted, and started again when the clock and the lake have moved on."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import saved
import small
from small_lake import write_lake

from features.config import LakeSettings
from features.snapshots import current_snapshot_id, open_catalog
from models.config import ModelSettings
from models.dataset import NotEnoughData
from models.divergence import TrainingDiverged
from models.progress import Step
from models.registry import Champion, Registry
from models.training import TrainedModel, train
from models.unfinished import Unfinished
from streaming.namespace import Namespace

SHOP = Namespace("shop")
LATER = small.NOW + small.DAY_MS // 2
SINCE = LATER - small.DAY_MS
SETTINGS = small.SETTINGS.model_copy(update={"checkpoint_steps": 2})


@dataclass(frozen=True)
class Shop:
    """A home with a small lake, and the parts of training that were heard of in the last one."""

    home: Path
    lake: LakeSettings
    heard: set[str]

    def train(self, until: int, stop_in: str = "", settings: ModelSettings = SETTINGS) -> TrainedModel:
        """Train on what is before `until`; raises Stop in the middle of the part `stop_in`."""
        self.heard.clear()

        def progress(part: str, step: Step) -> None:
            self.heard.add(part)
            if part == stop_in and step.share > 0.5:
                raise saved.Stop

        return train(settings.under(self.home), self.lake, SHOP, until, progress, resume_from=SINCE)

    def interrupted(self, until: int = small.NOW) -> None:
        """Train until it is interrupted in the last part; then more lands."""
        with pytest.raises(saved.Stop):
            self.train(until, "retrieval refit")
        write_lake(self.home, SHOP, {"interactions": small.lake_tables()["interactions"].slice(0, 3)})

    def cut_of_another(self, settings: ModelSettings = SETTINGS) -> int:
        """Start again half a day later and stop; returns the cut of that."""
        with pytest.raises(saved.Stop):
            self.train(LATER, "retrieval", settings)
        inputs = Unfinished(self.home / "checkpoints" / SHOP).inputs()
        assert inputs is not None
        return inputs.until


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, write_lake(tmp_path, SHOP, small.lake_tables()), set())


def test_it_is_resumed_on_its_own_cut_and_snapshots(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("uninterrupted")
    first = {table: current_snapshot_id(shop.lake, SHOP, table) for table in ("interactions", "items")}
    shop.interrupted()

    resumed = shop.train(LATER)

    assert shop.heard == {"retrieval refit"}  # all before it was done
    assert resumed.trained_until == small.NOW
    assert {table: resumed.lineage.snapshots[table] for table in first} == first
    whole = Shop(other, write_lake(other, SHOP, small.lake_tables()), set()).train(small.NOW)
    losses = {name for name in whole.metrics if "loss" in name}
    assert losses
    assert {name: resumed.metrics[name] for name in losses} == {name: whole.metrics[name] for name in losses}


def test_once_it_is_done_the_next_one_begins_anew(shop: Shop) -> None:
    shop.train(small.NOW)

    assert Unfinished(shop.home / "checkpoints" / SHOP).inputs() is None
    assert shop.cut_of_another() == LATER


def test_too_old_a_one_is_not_resumed(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.interrupted(SINCE - 1)

    assert shop.cut_of_another() == LATER
    assert "it is too old" in caplog.text


def test_with_other_settings_training_begins_anew(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.interrupted()

    assert shop.cut_of_another(SETTINGS.model_copy(update={"seed": small.SEED + 1})) == LATER
    assert "its settings were others" in caplog.text


def test_where_the_champion_has_changed_training_begins_anew(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.interrupted()
    (shop.home / "other").mkdir()
    registry = Registry(str(shop.home / "models"), SHOP)
    registry.add(shop.home / "other", "other")
    registry.promote(Champion(number=1, model_version="other", change="promote", changed_at=0, gate={}))

    assert shop.cut_of_another() == LATER
    assert "the champion has changed" in caplog.text


def test_a_training_that_has_too_little_to_begin_is_not_unfinished(tmp_path: Path) -> None:
    tables = small.lake_tables()
    lake = write_lake(tmp_path, SHOP, tables | {"examples": tables["examples"].slice(0, 0)})
    shop = Shop(tmp_path, lake, set())
    with pytest.raises(NotEnoughData):
        shop.train(small.NOW)

    assert Unfinished(tmp_path / "checkpoints" / SHOP).inputs() is None


def test_a_training_that_diverged_is_not_resumed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(losses: list[float]) -> None:
        raise TrainingDiverged(f"the loss is {losses[-1]}")

    monkeypatch.setattr("models.checkpoints.check_loss", diverge)
    with pytest.raises(TrainingDiverged):
        shop.train(small.NOW)

    assert Unfinished(shop.home / "checkpoints" / SHOP).inputs() is None


def test_where_its_snapshots_are_gone_training_begins_anew(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    first = current_snapshot_id(shop.lake, SHOP, "interactions")
    assert first is not None
    shop.interrupted()
    open_catalog(shop.lake).load_table((SHOP, "interactions")).maintenance.expire_snapshots().by_id(first).commit()

    assert shop.cut_of_another() == LATER
    assert "let go of its snapshots of interactions" in caplog.text


def test_what_cannot_be_read_is_no_unfinished_training(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.interrupted()
    (shop.home / "checkpoints" / SHOP / "training.json").write_bytes(b"{")

    assert shop.cut_of_another() == LATER
    assert "cannot be read" in caplog.text
