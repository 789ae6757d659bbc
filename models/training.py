"""The training job: from the lake's tables at one snapshot each to an artifact in the registry."""

import importlib.metadata
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from features.config import LakeSettings
from features.snapshots import current_snapshot_id, read_table
from models.artifact import write_artifact
from models.beginning import choose_beginning
from models.checkpoints import Checkpoints, NotSaved, OtherRun
from models.config import ModelSettings, artifacts_url
from models.dataset import Tables, training_data
from models.divergence import TrainingDiverged
from models.export import artifact_parts
from models.fitting import Timer, fit
from models.progress import Progress, Step
from models.registry import Registry
from models.sharding import is_first, of_first, process_group
from models.spec import Lineage
from models.text_reading import text_reader
from models.unfinished import TrainingInputs, Unfinished, deciding, resumable
from streaming.namespace import Namespace

TRAINING_COLUMNS = {
    "interactions": ("event_id", "happened_at", "user_id", "session_id", "surface", "item_id", "kind", "value"),
    "items": ("event_id", "happened_at", "item_id", "removed", "title", "categories", "attributes", "text"),
    "item_features": ("item_id", "event_timestamp", "item_interactions_total", "item_mean_value"),
    "examples": ("*",),
}

_NOTHING = -1  # instead of the id of a table that nothing was written to; Iceberg's are positive


@dataclass(frozen=True)
class TrainedModel:
    """A model in the registry: its version, what it was made and started from, what was measured, seconds by part."""

    version: str
    trained_until: int
    lineage: Lineage
    beginning: str
    metrics: dict[str, float]
    seconds: dict[str, float]


def train(
    settings: ModelSettings,
    lake: LakeSettings,
    namespace: Namespace,
    until: int,
    progress: Progress,
    *,
    resume_from: int | None = None,
) -> TrainedModel:
    """Train on what happened before `until` (ms) and add the artifact to the registry.

    Under torchrun every process trains, and the first one writes and reports to `progress`. Checkpoints, where they are
    set, stay until the artifact is in the registry: an interrupted training whose own cut was at `resume_from` (ms)
    or later is resumed, on its own cut and snapshots, while the lake has those and the settings are the same.
    Raises SnapshotMissing without a lake, NotEnoughData when it holds too little, OtherRun when there are checkpoints
    of the same data with other settings, TrainingDiverged, NoChampion and ChampionUnfit when training is to start from
    a champion that is not there or does not fit, TextExtraMissing when text is to be read and the extra is not
    installed.
    """
    read_text = text_reader(settings.text, namespace)
    timer = Timer(_of_first(progress))
    checkpoints, unfinished = _checkpoints(settings, namespace)
    registry = Registry(artifacts_url(settings), namespace)
    with process_group():
        with timer.part("read"):
            inputs = _newest(settings, lake, namespace, registry, until)
            if is_first() and unfinished and resume_from is not None:
                inputs = resumable(unfinished.inputs(), inputs, resume_from, lake, namespace)
            until, pinned = _of_first_process(inputs)
            snapshots = {
                name: read_table(lake, namespace, name, snapshot_id=pinned[name], columns=columns)
                for name, columns in TRAINING_COLUMNS.items()
            }
            tables = {name: snapshot.arrow for name, snapshot in snapshots.items()}
            data = read_text(training_data(Tables(**tables, until=until)))
            beginning = choose_beginning(registry, settings, data.groups_from)
        if is_first() and unfinished:
            unfinished.begin(inputs)
        lineage = Lineage(
            snapshots={name: one.snapshot_id for name, one in snapshots.items() if one.snapshot_id is not None},
            seed=settings.seed,
            code_version=inputs.code_version,
            parent=beginning.parent.version if beginning.parent else None,
        )
        with _forgotten_where_it_would_fail_again(unfinished):
            fitted = fit(data, settings, lineage, timer, checkpoints, beginning.parent)
        with timer.part("export"), tempfile.TemporaryDirectory() as folder:
            parts = artifact_parts(fitted, data)
            version = write_artifact(Path(folder), parts)
            if is_first():
                registry.add(Path(folder), version)
                if checkpoints and unfinished:
                    unfinished.end()
                    checkpoints.remove()
    return TrainedModel(version, until, lineage, beginning.sentence, dict(parts.metrics), timer.seconds)


def _newest(
    settings: ModelSettings, lake: LakeSettings, namespace: Namespace, registry: Registry, until: int
) -> TrainingInputs:
    """Return what a training that begins now is made from."""
    champion = registry.champion()
    return TrainingInputs(
        until=until,
        snapshots={name: current_snapshot_id(lake, namespace, name) for name in TRAINING_COLUMNS},
        settings=deciding(settings),
        code_version=importlib.metadata.version("flywheel"),
        champion=champion.model_version if champion else None,
    )


@contextmanager
def _forgotten_where_it_would_fail_again(unfinished: Unfinished | None) -> Iterator[None]:
    """Forget a training that would fail in the same way when it is resumed."""
    try:
        yield
    except (TrainingDiverged, OtherRun):
        if unfinished and is_first():
            unfinished.end()
        raise


def _of_first_process(own: TrainingInputs) -> tuple[int, dict[str, int | None]]:
    """Return the cut and snapshots of the first process in all of them, though the clock and the lake move."""
    ids = (own.snapshots[name] for name in TRAINING_COLUMNS)
    cut, *snapshots = of_first([own.until, *(_NOTHING if one is None else one for one in ids)])
    return cut, {name: None if one == _NOTHING else one for name, one in zip(TRAINING_COLUMNS, snapshots, strict=True)}


def _of_first(progress: Progress) -> Progress:
    def report(part: str, step: Step) -> None:
        if is_first():
            progress(part, step)

    return report


def _checkpoints(settings: ModelSettings, namespace: Namespace) -> tuple[Checkpoints | None, Unfinished | None]:
    if settings.checkpoint_steps == 0:
        return None, None
    if settings.checkpoints is None:
        raise NotSaved("model.checkpoints is not set: set FLYWHEEL_MODEL__CHECKPOINTS or give a home folder")
    folder = Path(settings.checkpoints) / namespace
    return Checkpoints(folder, settings.checkpoints_kept, settings.checkpoint_steps), Unfinished(folder)
