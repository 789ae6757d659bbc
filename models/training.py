"""The training job: from the lake's tables at one snapshot each to an artifact in the registry."""

import importlib.metadata
import tempfile
from dataclasses import dataclass
from pathlib import Path

from features.config import LakeSettings
from features.snapshots import current_snapshot_id, read_table
from models.artifact import write_artifact
from models.beginning import choose_beginning
from models.checkpoints import Checkpoints, NotSaved
from models.config import ModelSettings, artifacts_url
from models.dataset import Tables, training_data
from models.export import artifact_parts
from models.fitting import Timer, fit
from models.progress import Progress, Step
from models.registry import Registry
from models.sharding import is_first, of_first, process_group
from models.spec import Lineage
from models.text_reading import text_reader
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
    settings: ModelSettings, lake: LakeSettings, namespace: Namespace, until: int, progress: Progress
) -> TrainedModel:
    """Train on what happened before `until` (ms) and add the artifact to the registry.

    Under torchrun every process trains, and the first one writes and reports to `progress`. Checkpoints, where they are
    set, stay until the artifact is in the registry. Raises SnapshotMissing without a lake, NotEnoughData when it holds
    too little, OtherRun when there are checkpoints of the same data with other settings, TrainingDiverged, NoChampion
    and ChampionUnfit when training is to start from a champion that is not there or does not fit, TextExtraMissing when
    text is to be read and the extra is not installed.
    """
    read_text = text_reader(settings.text, namespace)
    timer = Timer(_of_first(progress))
    checkpoints = _checkpoints(settings, namespace)
    registry = Registry(artifacts_url(settings), namespace)
    with process_group():
        with timer.part("read"):
            until, pinned = _ground(lake, namespace, until)
            snapshots = {
                name: read_table(lake, namespace, name, snapshot_id=pinned[name], columns=columns)
                for name, columns in TRAINING_COLUMNS.items()
            }
            tables = Tables(**{name: snapshot.arrow for name, snapshot in snapshots.items()}, until=until)
            data = read_text(training_data(tables))
            beginning = choose_beginning(registry, settings, data.groups_from)
        lineage = Lineage(
            snapshots={name: one.snapshot_id for name, one in snapshots.items() if one.snapshot_id is not None},
            seed=settings.seed,
            code_version=importlib.metadata.version("flywheel"),
            parent=beginning.parent.version if beginning.parent else None,
        )
        fitted = fit(data, settings, lineage, timer, checkpoints, beginning.parent)
        with timer.part("export"), tempfile.TemporaryDirectory() as folder:
            parts = artifact_parts(fitted, data)
            version = write_artifact(Path(folder), parts)
            if is_first():
                registry.add(Path(folder), version)
                if checkpoints:
                    checkpoints.remove()
    return TrainedModel(version, until, lineage, beginning.sentence, dict(parts.metrics), timer.seconds)


def _ground(lake: LakeSettings, namespace: Namespace, until: int) -> tuple[int, dict[str, int | None]]:
    """Return the cut and the snapshot of each table, the same in all processes though the clock and the lake move."""
    newest = [current_snapshot_id(lake, namespace, name) for name in TRAINING_COLUMNS]
    cut, *snapshots = of_first([until, *(_NOTHING if one is None else one for one in newest)])
    pinned = {name: None if one == _NOTHING else one for name, one in zip(TRAINING_COLUMNS, snapshots, strict=True)}
    return cut, pinned


def _of_first(progress: Progress) -> Progress:
    def report(part: str, step: Step) -> None:
        if is_first():
            progress(part, step)

    return report


def _checkpoints(settings: ModelSettings, namespace: Namespace) -> Checkpoints | None:
    if settings.checkpoint_steps == 0:
        return None
    if settings.checkpoints is None:
        raise NotSaved("model.checkpoints is not set: set FLYWHEEL_MODEL__CHECKPOINTS or give a home folder")
    return Checkpoints(Path(settings.checkpoints) / namespace, settings.checkpoints_kept, settings.checkpoint_steps)
