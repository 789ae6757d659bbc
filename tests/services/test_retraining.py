"""The life of a model on a small lake: trained by the command, evaluated beside others, promoted by force."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import bentoml
import pytest
import small
from small_lake import write_lake
from typer.testing import CliRunner, Result

from features.config import LakeSettings
from models.artifact import write_artifact
from models.dataset import Tables, training_data
from models.export import artifact_parts
from models.fitting import Timer, fit
from models.gate import GateRefused, SliceOverlaps
from models.registry import ChampionChanged, Registry
from models.report import NobodyToAsk, Report
from models.slices import Later, read_slice
from models.spec import Lineage
from services.cli import app
from services.promotion import ReasonMissing, consider, promote
from services.quality.compare import Ground, compare
from streaming.namespace import Namespace

NAMESPACE = Namespace("shop")
CUT = small.CUT
SETTINGS = {"FLYWHEEL_NAMESPACE": NAMESPACE, "FLYWHEEL_MODEL__NORM_LIMIT": "0.001", **small.variables()}
MODEL = small.SETTINGS
REASON = "the lake is small"


@dataclass(frozen=True)
class Shop:
    """A home with a lake, a model that the command trained, and what the command said."""

    home: Path
    lake: LakeSettings
    trained: dict[str, Any]
    said: str

    @property
    def version(self) -> str:
        return str(self.trained["version"])

    def later(self) -> Later:
        return partial(read_slice, self.lake, NAMESPACE)


def iso(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).isoformat()


def invoke(home: Path, patch: pytest.MonkeyPatch, *arguments: str) -> Result:
    for name in [name for name in os.environ if name.startswith("FLYWHEEL_")]:
        patch.delenv(name)
    for name, value in {**SETTINGS, "FLYWHEEL_HOME": str(home)}.items():
        patch.setenv(name, value)
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    home = tmp_path_factory.mktemp("shop")
    lake = write_lake(home, NAMESPACE, small.lake_tables())
    with pytest.MonkeyPatch.context() as patch:
        # The command sets BentoML's variables for its process, which here is everybody's.
        patch.setenv("BENTOML_HOME", os.environ["BENTOML_HOME"])
        done = invoke(home, patch, "train", "--until", iso(CUT), "--json")
    assert done.exit_code == 0, done.output
    (trained,) = json.loads(done.stdout)
    return Shop(home, lake, trained, done.stderr)


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An artifact of another seed, trained on the same events: its folder and version."""
    made = small.tables()
    data = training_data(Tables(made.interactions, made.items, made.item_features, made.examples, until=CUT))
    settings = MODEL.model_copy(update={"seed": small.SEED + 1})
    fitted = fit(data, settings, Lineage({}, settings.seed, "test"), Timer(lambda _part, _step: None))
    folder = tmp_path_factory.mktemp("another")
    return folder, write_artifact(folder, artifact_parts(fitted, data))


@pytest.fixture
def registry(shop: Shop, another: tuple[Path, str], tmp_path: Path) -> Registry:
    """A registry of both models, without a champion."""
    registry = Registry(str(tmp_path / "models"), NAMESPACE)
    registry.add(*another)
    Registry(str(shop.home / "models"), NAMESPACE).fetch(shop.version, tmp_path / "trained")
    registry.add(tmp_path / "trained", shop.version)
    return registry


def evaluate(registry: Registry, version: str, lake: Later, since: int) -> Report:
    return compare(Ground(registry, lake, since, 0.02, small.SEED), version, False, lambda _name: None).comparison


def damage(registry_folder: Path, version: str) -> None:
    (registry_folder / NAMESPACE / "artifacts" / version / "ranker.onnx").write_bytes(b"damaged")


def test_training_shows_loss_pace_and_time_left_and_warns_of_long_rows(shop: Shop) -> None:
    lines = shop.said.splitlines()
    for part in ("retrieval", "ranking", "retrieval refit"):
        (last,) = (line for line in lines if line.startswith(f"{part}: step") and "0 s left" in line)
        assert "loss " in last
        assert "samples/s" in last
    assert any("rows of table 'item' are longer than 0.001" in line for line in lines)


def test_training_ends_with_an_evaluation_on_what_is_later(shop: Shop) -> None:
    model, *others = shop.trained["evaluation"]["rows"]
    assert model["name"] == shop.version
    assert {row["users"] for row in (model, *others)} == {small.USERS}
    assert {row["name"] for row in others} >= {"popularity", "popularity_30d", "item_knn"}
    # Everybody walks through the items in order: whoever learns the order is right, and popularity knows none.
    popular = next(row for row in others if row["name"] == "popularity")
    assert model["means"]["ndcg10"]["mean"] > popular["means"]["ndcg10"]["mean"]
    assert shop.trained["evaluation"]["left_out"]["champion"] == "no model was promoted yet"


def test_bentoml_shows_a_model_with_its_lineage(shop: Shop) -> None:
    model = shop.trained["bentoml_model"]
    home = Path(bentoml.models.get(model).path).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "models", "get", model, "-o", "json"],
        env={**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    lineage = shop.trained["lineage"]
    assert f"{shown['name']}:{shown['version']}" == f"shop-model:{shop.version}"
    assert shown["labels"]["seed"] == str(small.SEED)
    assert shown["labels"]["code_version"] == lineage["code_version"]
    assert {name: int(shown["labels"][f"snapshot.{name}"]) for name in lineage["snapshots"]} == lineage["snapshots"]
    assert shown["metadata"]["spec"]["trained_until"] == CUT
    assert shown["metadata"]["metrics"] == shop.trained["metrics"]


def test_the_logs_lie_where_training_says(shop: Shop) -> None:
    folder = Path(shop.trained["tensorboard"])
    assert folder.parent == shop.home / "tensorboard" / NAMESPACE
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1


def test_a_champion_stands_beside_the_model(shop: Shop, another: tuple[Path, str], registry: Registry) -> None:
    promote(registry, consider(registry, another[1], shop.later(), MODEL), True, REASON, 1)
    found = evaluate(registry, shop.version, shop.later(), CUT)
    assert [row.name for row in found.rows[:2]] == [shop.version, f"champion {another[1]}"]
    assert found.rows[0].means["ndcg10"].mean == pytest.approx(
        shop.trained["evaluation"]["rows"][0]["means"]["ndcg10"]["mean"]
    )
    assert "champion" not in found.left_out


def test_where_nothing_is_later_the_evaluation_says_so(shop: Shop, registry: Registry) -> None:
    with pytest.raises(NobodyToAsk, match="take an earlier start"):
        evaluate(registry, shop.version, shop.later(), small.NOW)


def test_a_slice_that_the_model_was_trained_on_is_refused(shop: Shop, registry: Registry) -> None:
    with pytest.raises(SliceOverlaps, match="later --since"):
        evaluate(registry, shop.version, shop.later(), CUT - 1)


def test_a_champion_that_cannot_be_read_is_left_out_of_an_evaluation(
    shop: Shop, another: tuple[Path, str], registry: Registry, tmp_path: Path
) -> None:
    promote(registry, consider(registry, another[1], shop.later(), MODEL), True, REASON, 1)
    damage(tmp_path / "models", another[1])
    found = evaluate(registry, shop.version, shop.later(), CUT)
    assert not [row.name for row in found.rows if row.name.startswith("champion")]
    assert "'ranker.onnx' is damaged" in found.left_out["champion"]


def test_a_champion_that_cannot_be_read_does_not_block_a_forced_promotion(
    shop: Shop, another: tuple[Path, str], registry: Registry, tmp_path: Path
) -> None:
    promote(registry, consider(registry, another[1], shop.later(), MODEL), True, REASON, 1)
    damage(tmp_path / "models", another[1])
    candidacy = consider(registry, shop.version, shop.later(), MODEL)
    with pytest.raises(GateRefused, match=r"cannot be compared with: model file 'ranker\.onnx' is damaged"):
        promote(registry, candidacy, False, REASON, 2)
    kept = promote(registry, candidacy, True, REASON, 2)
    assert (kept.model_version, kept.reason, kept.gate["outcome"]) == (shop.version, REASON, "unreadable")


def test_of_two_promotions_that_were_compared_with_the_same_champion_one_is_told(
    shop: Shop, another: tuple[Path, str], registry: Registry
) -> None:
    first = consider(registry, another[1], shop.later(), MODEL)
    second = consider(registry, shop.version, shop.later(), MODEL)
    promote(registry, first, True, REASON, 1)
    with pytest.raises(ChampionChanged):
        promote(registry, second, True, REASON, 2)
    assert [change.model_version for change in registry.history()] == [another[1]]


def test_the_champion_may_not_change_while_the_gate_is_asked(
    shop: Shop, another: tuple[Path, str], registry: Registry
) -> None:
    def meanwhile(start: int) -> Any:
        promote(registry, consider(registry, another[1], shop.later(), MODEL), True, REASON, 1)
        return shop.later()(start)

    late = consider(registry, shop.version, meanwhile, MODEL)
    with pytest.raises(ChampionChanged):
        promote(registry, late, True, REASON, 2)


@pytest.mark.parametrize("reason", [[], ["--reason", " "]])
def test_force_needs_a_reason(reason: list[str], shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(shop.home, monkeypatch, "promote", shop.version, "--force", *reason)
    assert isinstance(done.exception, ReasonMissing)
    assert "--force needs --reason TEXT" in str(done.exception)


def test_a_reason_without_force_does_not_pass_over_the_gate(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(shop.home, monkeypatch, "promote", shop.version, "--reason", REASON)
    assert isinstance(done.exception, GateRefused)
    assert "`--force --reason TEXT` promotes all the same" in str(done.exception)
    assert Registry(str(shop.home / "models"), NAMESPACE).champion() is None


def test_evaluate_prints_the_model_beside_the_baselines(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(shop.home, monkeypatch, "evaluate", shop.version, "--since", iso(CUT), "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"comparison": shop.trained["evaluation"], "sources": None}


def test_tune_prints_settings_that_can_be_pasted(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(shop.home, monkeypatch, "tune", "--trials", "1", "--until", iso(small.NOW))
    assert done.exit_code == 0, done.output
    pasted = dict(line.split("=") for line in done.stdout.splitlines())
    assert set(pasted) > {"FLYWHEEL_MODEL__RETRIEVAL__DIM", "FLYWHEEL_MODEL__RANKING__LEARNING_RATE"}
    for name, value in pasted.items():
        monkeypatch.setenv(name, value)
    from services.config import load_settings  # noqa: PLC0415

    assert load_settings().model.retrieval.dim == int(pasted["FLYWHEEL_MODEL__RETRIEVAL__DIM"])
