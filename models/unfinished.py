"""What a training that was interrupted was made from, so that it can be gone on with though the clock and lake move."""

import logging
from pathlib import Path

import msgspec

from models.checkpoints import digest
from models.config import ModelSettings
from streaming.embedded.files import write_atomically

_DECIDING = {"seed", "start_from", "neighbours", "history_length", "vocabulary", "retrieval", "text", "ranking"}
_FREE = {"retrieval": {"layout"}, "ranking": {"layout"}, "text": {"cache"}}

_log = logging.getLogger(__name__)


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What decides a training: its cut, ms, and the snapshot of each table, None where nothing was written to it.

    `settings` sums up those that decide the weights; the champion may be what training starts from.
    """

    until: int
    snapshots: dict[str, int | None]
    settings: str
    code_version: str
    champion: str | None


class Unfinished:
    """The ground of the training whose checkpoints lie in `folder`; beginning another one replaces it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "training.json"

    def ground(self) -> Ground | None:
        """Return it, None when no training is unfinished or what is there cannot be read."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Ground)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("%s cannot be read, so training begins anew: %s", self._file, error)
            return None

    def begin(self, ground: Ground) -> None:
        """Keep it until `end`."""
        write_atomically(self._file, msgspec.json.encode(ground), mode=0o644)

    def end(self) -> None:
        """Forget it."""
        self._file.unlink(missing_ok=True)


def deciding(settings: ModelSettings) -> str:
    """Return a sum over the settings that decide the weights, so not over layouts and places."""
    return digest(settings.model_dump_json(include=_DECIDING, exclude=_FREE))
