"""The search for settings: on validation only, resumable, with the present settings as its first trial."""

from pathlib import Path

import numpy as np
import optuna
import pyarrow as pa
import pytest
import small
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial
from small_lake import write_lake

from features.config import LakeSettings
from models.config import ModelSettings, RankingSettings, RetrievalSettings
from models.progress import Step
from models.studies import Found, OtherStudy, Search, StudiesBusy, tune
from models.tuning import chosen, present, run_trial, space
from models.validation import Validation, validation
from streaming.namespace import Namespace

NAMESPACE = Namespace("shop")
LATER = small.NOW + small.DAY_MS
SETTINGS = ModelSettings(
    retrieval=RetrievalSettings(length=10, dim=16, heads=2, epochs=2, refit_epochs=1, batch_size=8),
    ranking=RankingSettings(buckets=32, epochs=1, batch_size=8),
)


def silent(_part: str, _step: Step) -> None:
    return None


def later(made: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """The same rows once more, a day after the end, with other items in reverse: what only a test slice may hold."""
    stamp = pa.timestamp("ms", "UTC")

    def moved(table: pa.Table, column: str) -> pa.Table:
        times = [int(time.timestamp() * 1000) + 2 * small.DAY_MS for time in table[column].to_pylist()]
        turned = table["item_id"].to_pylist()[::-1] if "item_id" in table.column_names else None
        moved = table.set_column(table.column_names.index(column), column, pa.array(times, stamp))
        if turned is not None:
            moved = moved.set_column(moved.column_names.index("item_id"), "item_id", pa.array(turned))
        for name in ("event_id", "group_id"):
            if name in moved.column_names:
                values = pa.array([f"later-{value}" for value in moved[name].to_pylist()])
                moved = moved.set_column(moved.column_names.index(name), name, values)
        return moved

    columns = {
        "interactions": "happened_at",
        "examples": "event_timestamp",
        "item_features": "event_timestamp",
        "user_features": "event_timestamp",
    }
    return {name: moved(made[name], column) for name, column in columns.items()}


def test_nothing_from_the_cut_on_is_in_training_or_validation() -> None:
    made = small.lake_tables()
    both = {
        name: pa.concat_tables([table, *([later(made)[name]] if name in later(made) else [])])
        for name, table in made.items()
    }
    alone, with_later = validation(made, small.NOW, 1), validation(both, small.NOW, 1)
    assert with_later.part.cases() == alone.part.cases()
    assert with_later.part.users == alone.part.users
    assert with_later.part.features == alone.part.features
    for name in ("users", "rows", "times", "kinds", "starts"):
        assert np.array_equal(getattr(with_later.data.log, name), getattr(alone.data.log, name)), name
    for name in ("users", "times", "rows", "labels"):
        assert np.array_equal(getattr(with_later.data.groups, name), getattr(alone.data.groups, name)), name
    assert np.array_equal(with_later.data.item_features.mean_value, alone.data.item_features.mean_value)


def test_training_ends_where_validation_begins() -> None:
    made = validation(small.lake_tables(), small.NOW, 1)
    times = made.data.log.times
    assert times.max() < made.part.start < small.NOW
    assert made.data.groups.times.max() < made.part.start
    total = small.USERS * small.EVENTS
    assert len(times) == pytest.approx(0.9 * total, abs=1)
    assert all(event.happened_at < made.part.start for past in made.part.users.values() for event in past.events)


class Interrupted(BaseException):
    """As Ctrl-C, without disturbing pytest."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> LakeSettings:
    return write_lake(tmp_path_factory.mktemp("lake"), NAMESPACE, small.lake_tables())


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ModelSettings:
    return SETTINGS.model_copy(update={"studies": str(tmp_path_factory.mktemp("home") / "studies" / "studies.sqlite")})


def searched(settings: ModelSettings, lake: LakeSettings, trials: int, until: int | None = small.NOW) -> Found:
    return tune(settings, lake, NAMESPACE, Search("s", trials, until, LATER), (silent, lambda _trial: None))


@pytest.fixture(scope="module")
def resumed(settings: ModelSettings, lake: LakeSettings) -> tuple[list[FrozenTrial], Found]:
    """Two trials, then one that is interrupted, then what is missing to three; the trials that were finished."""
    told: list[FrozenTrial] = []
    ears = silent, told.append
    tune(settings, lake, NAMESPACE, Search("s", 2, small.NOW, LATER), ears)

    def interrupt(_part: str, step: Step) -> None:
        if step.number == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        tune(settings, lake, NAMESPACE, Search("s", 3, small.NOW, LATER), (interrupt, told.append))
    # What was landed since then is not read: the study keeps its snapshots and its cut.
    write_lake(Path(str(lake.uri)).parents[1], NAMESPACE, later(small.lake_tables()))
    return told, tune(settings, lake, NAMESPACE, Search("s", 3, None, LATER), ears)


def test_an_interrupted_study_keeps_its_trials_and_goes_on(resumed: tuple[list[FrozenTrial], Found]) -> None:
    told, found = resumed
    assert [trial.number for trial in told] == [0, 1, 3]  # 2 was interrupted
    assert (found.trials, found.until) == (3, small.NOW)
    values = {trial.number: trial.value for trial in told if trial.value is not None}
    assert found.ndcg10 == max(values.values()) == values[found.best_trial]


def test_the_present_settings_are_the_first_trial(resumed: tuple[list[FrozenTrial], Found]) -> None:
    told, found = resumed
    assert told[0].params == present(SETTINGS, space(SETTINGS))
    assert found.present_ndcg10 == told[0].value
    assert found.ndcg10 >= told[0].value > 0


def test_a_run_that_goes_on_tries_other_settings_than_the_runs_before(
    resumed: tuple[list[FrozenTrial], Found],
) -> None:
    told, _ = resumed
    assert len({tuple(sorted(trial.params.items())) for trial in told}) == 3


def test_the_sequence_model_is_measured_at_quarters_of_its_training(resumed: tuple[list[FrozenTrial], Found]) -> None:
    told, _ = resumed
    assert told[0].intermediate_values.keys() == {1, 2, 3, 4}
    assert all(4 in trial.intermediate_values for trial in told)  # a very short one passes several at once


def test_a_study_that_has_enough_trials_only_says_what_it_found(
    resumed: tuple[list[FrozenTrial], Found], settings: ModelSettings, lake: LakeSettings
) -> None:
    assert searched(settings, lake, 1) == resumed[1]


def test_a_study_is_not_gone_on_with_on_another_cut_or_with_other_settings(
    resumed: tuple[list[FrozenTrial], Found], settings: ModelSettings, lake: LakeSettings
) -> None:
    with pytest.raises(OtherStudy, match="another cut"):
        searched(settings, lake, 4, small.NOW - 1)
    with pytest.raises(OtherStudy, match="begun with seed = 7, now it is 8"):
        searched(settings.model_copy(update={"seed": 8}), lake, 4)


def test_one_process_tunes_at_a_time_and_what_a_killed_one_left_is_not_waited_for(
    settings: ModelSettings, lake: LakeSettings
) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{settings.studies}")
    study = optuna.create_study(storage=storage, study_name=f"{NAMESPACE}/killed", direction="maximize")
    study.ask(dict(space(settings)))

    def again(_trial: FrozenTrial) -> None:
        with pytest.raises(StudiesBusy, match="another `flywheel tune`"):
            searched(settings, lake, 1)

    found = tune(settings, lake, NAMESPACE, Search("killed", 1, small.NOW, LATER), (silent, again))
    assert (found.trials, found.best_trial) == (1, 1)
    assert [trial.state.name for trial in study.get_trials()] == ["FAIL", "COMPLETE"]


def trial_of(pruner: optuna.pruners.BasePruner, **values: float) -> optuna.Trial:
    study = optuna.create_study(pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=1))
    return study.ask({f"retrieval.{name}": CategoricalDistribution([value]) for name, value in values.items()})


@pytest.fixture(scope="module")
def small_validation() -> Validation:
    return validation(small.lake_tables(), small.NOW, 1)


def test_a_trial_that_falls_behind_is_given_up_in_the_middle(small_validation: Validation) -> None:
    heard: list[tuple[str, float]] = []
    nobody_is_so_good = optuna.pruners.ThresholdPruner(lower=2.0)
    with pytest.raises(optuna.TrialPruned):
        run_trial(
            trial_of(nobody_is_so_good),
            SETTINGS,
            small_validation,
            lambda part, step: heard.append((part, step.share)),
        )
    assert {part for part, _ in heard} == {"trial 0, retrieval"}
    assert heard[-1][1] < 0.5


def test_a_trial_that_diverges_is_given_up_and_says_so(small_validation: Validation) -> None:
    absurd = trial_of(optuna.pruners.NopPruner(), learning_rate=1e9, embedding_learning_rate=1e9, epochs=20)
    with pytest.raises(optuna.TrialPruned, match="lower the learning rates"):
        run_trial(absurd, SETTINGS, small_validation, silent)
    assert "the loss of step" in absurd.user_attrs["diverged"]


def test_what_was_found_is_put_into_its_section_and_checked() -> None:
    found = chosen(SETTINGS, {"retrieval.dim": 32, "ranking.epochs": 5})
    assert (found.retrieval.dim, found.ranking.epochs) == (32, 5)
    assert found.retrieval.length == SETTINGS.retrieval.length
    with pytest.raises(ValueError, match="heads must divide dim"):
        chosen(SETTINGS, {"retrieval.heads": 3})


@pytest.mark.parametrize("heads", [1, 2, 3, 5])
def test_every_width_of_the_search_fits_the_heads(heads: int) -> None:
    base = ModelSettings(retrieval=RetrievalSettings(heads=heads, dim=60))
    dims = space(base)["retrieval.dim"]
    assert isinstance(dims, IntDistribution)
    for dim in range(dims.low, dims.high + 1, dims.step):
        assert chosen(base, {"retrieval.dim": dim}).retrieval.dim == dim


def test_settings_outside_the_search_are_not_tried() -> None:
    assert present(SETTINGS, space(SETTINGS)) is not None
    wide = SETTINGS.model_copy(update={"retrieval": SETTINGS.retrieval.model_copy(update={"dim": 200})})
    assert present(wide, space(wide)) is None
