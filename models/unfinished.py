"""What a training that was interrupted was made from, so that it can be resumed though clock and lake move."""

import logging
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from features.config import LakeSettings
from features.snapshots import snapshot_ids
from models.checkpoints import digest
from models.config import ModelSettings
from streaming.embedded.files import write_atomically
from streaming.namespace import Namespace

_DECIDING = {"seed", "start_from", "neighbours", "history_length", "vocabulary", "retrieval", "text", "ranking"}
_FREE = {"retrieval": {"layout"}, "ranking": {"layout"}, "text": {"cache"}}

_log = logging.getLogger(__name__)


class TrainingInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What decides a training: its cut, ms, and the snapshot of each table, None where nothing was written to it.

    `settings` sums up those that decide the weights; the champion may be what training starts from.
    """

    until: int
    snapshots: dict[str, int | None]
    settings: str
    code_version: str
    champion: str | None


class Unfinished:
    """What the training was made from whose checkpoints lie in `folder`; beginning another one replaces it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "training.json"

    def inputs(self) -> TrainingInputs | None:
        """Return it, None when no training is unfinished or what is there cannot be read."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=TrainingInputs)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("%s cannot be read, so training begins anew: %s", self._file, error)
            return None

    def begin(self, inputs: TrainingInputs) -> None:
        """Keep it until `end`."""
        write_atomically(self._file, msgspec.json.encode(inputs), mode=0o644)

    def end(self) -> None:
        """Forget it."""
        self._file.unlink(missing_ok=True)


def deciding(settings: ModelSettings) -> str:
    """Return a sum over the settings that decide the weights, so not over layouts and places."""
    return digest(settings.model_dump_json(include=_DECIDING, exclude=_FREE))


def resumable(
    kept: TrainingInputs | None, new: TrainingInputs, since: int, lake: LakeSettings, namespace: Namespace
) -> TrainingInputs:
    """Return what an interrupted training was made from where it can be resumed, else the `new` inputs.

    Its cut must be at `since`, ms, or later, its settings, code and champion those of now, and its snapshots still in
    the lake. Raises SnapshotMissing without a lake.
    """
    if kept is None:
        return new
    gone = [name for name in new.snapshots if not _can_be_read(kept, new, lake, namespace, name)]
    reasons = {
        "it is too old": kept.until < since,
        "its settings were others": kept.settings != new.settings,
        "its code was another": kept.code_version != new.code_version,
        "the champion has changed": kept.champion != new.champion,
        f"the lake has let go of its snapshots of {', '.join(gone)}": bool(gone),
    }
    for reason, holds in reasons.items():
        if holds:
            _log.warning("an interrupted training is not resumed: %s", reason)
            return new
    until = datetime.fromtimestamp(kept.until / 1000, UTC).isoformat()
    _log.warning("resuming the interrupted training on what happened before %s", until)
    return kept


def _can_be_read(
    kept: TrainingInputs, new: TrainingInputs, lake: LakeSettings, namespace: Namespace, table: str
) -> bool:
    """Whether a table can still be read as it was; one that was empty only while it is."""
    snapshot = kept.snapshots.get(table)
    if snapshot is None:
        return new.snapshots[table] is None
    return snapshot in snapshot_ids(lake, namespace, table)
