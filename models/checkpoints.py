"""Checkpoints of a training run: sharded state by torch.distributed.checkpoint, the rest of it as JSON.

A checkpoint is a folder `step-N`, written as `step-N.partial` and renamed when it is complete. Nothing is read before
every file has the SHA-256 of the manifest; torch's own metadata is a pickle, so the folder, which all processes must
share, is trusted state of this machine or cluster and no artifact.
"""

import hashlib
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import save

from models.divergence import check_loss
from models.quiet import upstream_notices_muted
from models.resharding import read
from models.sharding import Sharded, device, is_first
from streaming.errors import FlywheelError

_MANIFEST, _PROGRESS = "manifest.json", "progress.json"
_STEP, _DATA, _PARTIAL = "step-", "data-", ".partial"
_ROOT = "trainer"

T = TypeVar("T")
B = TypeVar("B")
_log = logging.getLogger(__name__)


class OtherRun(FlywheelError):
    """A checkpoint was made with other settings, data or tables than the run that wants to go on from it."""


class NotSaved(FlywheelError):
    """A checkpoint cannot be written."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run is: the losses of the steps that are done and the random generators.

    `run` sums up settings and data, `shapes` are those of all weights. `before_plan` and `generator` are numpy's
    generator before the plan of steps was drawn and now; `torch_states` are torch's, in hex, one for each process.
    """

    run: str
    shapes: dict[str, list[int]]
    losses: list[float]
    before_plan: dict[str, Any]
    generator: dict[str, Any]
    torch_states: list[str]


class Checkpoints:
    """The checkpoints in a folder: one every `every_steps` steps and one at the end, of which the last `kept` stay.

    Every process must make the same calls, except `remove`.
    """

    def __init__(self, folder: Path, kept: int, every_steps: int) -> None:
        self._folder = folder
        self._kept = kept
        self._every = every_steps

    def part(self, name: str) -> "Checkpoints":
        """Return the checkpoints in a folder of this folder."""
        return Checkpoints(self._folder / name, self._kept, self._every)

    def of_data(self, name: str) -> "Checkpoints":
        """Return the part of the data called `name`; parts of other data cannot be gone on with and are removed."""
        own = self.part(f"{_DATA}{name}")
        if is_first():
            for other in self._of_any_data():
                if other != own._folder:
                    _log.warning("checkpoints %s are of other data and are removed: training begins anew", other)
                    shutil.rmtree(other)
        return own

    def due(self, step: int, steps: int) -> bool:
        """Whether to save after `step` of `steps` steps."""
        return step % self._every == 0 or step == steps

    def save(self, sharded: Sharded, progress: Progress) -> None:
        """Write one checkpoint and remove what is not to be kept; raises NotSaved."""
        target = self._path(len(progress.losses))
        partial = target.with_name(target.name + _PARTIAL)
        try:
            with upstream_notices_muted():
                save({_ROOT: sharded}, checkpoint_id=partial)
            if is_first():
                _complete(partial, target, progress)
                self._prune(len(progress.losses))
        except (OSError, CheckpointException) as error:
            raise NotSaved(f"checkpoint {target} cannot be written: {error}") from error
        distributed.barrier()

    def restore(self, sharded: Sharded, run: str) -> Progress | None:
        """Load the newest checkpoint that is whole and return its progress, None when there is none.

        Raises OtherRun when it is not one of `run` and of these tables.
        """
        found: list[tuple[int, Progress] | None] = [self._newest() if is_first() else None]
        distributed.broadcast_object_list(found, device=device())
        if found[0] is None:
            return None
        step, progress = found[0]
        self._refuse_other(step, progress, sharded, run)
        try:
            with upstream_notices_muted():
                read(state := sharded.state_dict(), self._path(step), _ROOT)
        except CheckpointException as error:
            raise self._other(step, "its state does not fit these tables") from error
        sharded.load_state_dict(state)
        states = progress.torch_states
        _set_torch_state(states[distributed.get_rank() % len(states)])
        return progress

    def remove(self) -> None:
        """Remove the parts of any data."""
        for part in self._of_any_data():
            shutil.rmtree(part)

    def _of_any_data(self) -> list[Path]:
        return list(self._folder.glob(f"{_DATA}*"))

    def _path(self, step: int) -> Path:
        return self._folder / f"{_STEP}{step}"

    def _steps(self) -> list[int]:
        names = [path.name.removeprefix(_STEP) for path in self._folder.glob(f"{_STEP}*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def _newest(self) -> tuple[int, Progress] | None:
        for partial in self._folder.glob(f"*{_PARTIAL}"):
            shutil.rmtree(partial)
        for step in reversed(self._steps()):
            try:
                return step, _verified(self._path(step))
            except (OSError, ValueError, msgspec.DecodeError) as error:
                _log.warning("checkpoint %s is damaged and skipped: %s", self._path(step), error)
        return None

    def _prune(self, newest: int) -> None:
        """Keep the last ones up to `newest`; later ones were skipped as damaged."""
        steps = self._steps()
        kept = [step for step in steps if step <= newest][-self._kept :]
        for step in set(steps) - set(kept):
            shutil.rmtree(self._path(step))

    def _refuse_other(self, step: int, progress: Progress, sharded: Sharded, run: str) -> None:
        shapes = sharded.shapes()
        for name in sorted(shapes.keys() | progress.shapes.keys()):
            there, here = progress.shapes.get(name), shapes.get(name)
            if there != here:
                raise self._other(step, f"{name} has shape {there} there and {here} here")
        if progress.run != run:
            raise self._other(step, "its settings or data differ")

    def _other(self, step: int, why: str) -> OtherRun:
        return OtherRun(
            f"checkpoint {self._path(step)} is of another run: {why}; go back to that run's settings, or remove "
            f"{self._folder} to begin anew"
        )


class Run:
    """One training run, saved as it goes and continued where it was; without checkpoints it only counts.

    To be made before the run's plan is drawn from `generator`.
    """

    def __init__(
        self, checkpoints: Checkpoints | None, sharded: Sharded, generator: np.random.Generator, name: str
    ) -> None:
        self.losses: list[float] = []
        self._checkpoints, self._sharded, self._generator, self._name = checkpoints, sharded, generator, name
        self._saved = checkpoints.restore(sharded, name) if checkpoints else None
        if self._saved:
            generator.bit_generator.state = self._saved.before_plan
        self._before_plan = dict(generator.bit_generator.state)
        self._drawn: deque[dict[str, Any]] = deque()  # the generator after each batch that is made and not yet done
        self._steps = 0

    def batches(self, plan: Sequence[T], make: Callable[[int, T], B]) -> Iterator[B]:
        """Yield what `make` makes of the number, from 0, and the content of each step of the plan still to be done.

        It may draw from the generator, and batches may be asked for before earlier ones are done.
        """
        self._steps = len(plan)
        if self._saved:
            self._generator.bit_generator.state = self._saved.generator
            self.losses += self._saved.losses
        done = len(self.losses)
        for number, content in enumerate(plan[done:], done):
            batch = make(number, content)
            self._drawn.append(dict(self._generator.bit_generator.state))
            yield batch

    def add(self, loss: float) -> None:
        """Note a step's loss and save if it is time to; raises TrainingDiverged rather than save a lost run."""
        self.losses.append(loss)
        check_loss(self.losses)
        drawn = self._drawn.popleft()
        if self._checkpoints and self._checkpoints.due(len(self.losses), self._steps):
            self._checkpoints.save(self._sharded, self._progress(drawn))

    def _progress(self, generator: dict[str, Any]) -> Progress:
        return Progress(
            run=self._name,
            shapes=self._sharded.shapes(),
            losses=self.losses,
            before_plan=self._before_plan,
            generator=generator,
            torch_states=_torch_states(),
        )


def digest(*parts: str | NDArray[np.generic]) -> str:
    """Return a sum over texts and arrays that names what was made from them."""
    found = hashlib.sha256()
    for part in parts:
        data = memoryview(part.encode()) if isinstance(part, str) else np.ascontiguousarray(part).data
        found.update(f"{data.nbytes} ".encode())
        found.update(data)
    return found.hexdigest()


def _complete(partial: Path, target: Path, progress: Progress) -> None:
    """Add progress and manifest, then give the folder its final name; all of it is on the disk before."""
    _write(partial / _PROGRESS, msgspec.json.encode(progress))
    sums = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
    _write(partial / _MANIFEST, msgspec.json.encode(sums))
    _sync(partial)
    shutil.rmtree(target, ignore_errors=True)  # a damaged one of the same step
    partial.rename(target)
    _sync(target.parent)


def _verified(path: Path) -> Progress:
    sums = msgspec.json.decode((path / _MANIFEST).read_bytes(), type=dict[str, str])
    for name, expected in sums.items():
        if _sha256(path / name) != expected:
            raise ValueError(f"the SHA-256 of {name} differs from the manifest's")
    return msgspec.json.decode((path / _PROGRESS).read_bytes(), type=Progress)


def _torch_states() -> list[str]:
    """Return every process's state of the generator that its dropout draws from."""
    on = device()
    state = torch.cuda.get_rng_state(on) if on.type == "cuda" else torch.get_rng_state()
    states: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(states, state.numpy().tobytes().hex())
    return states


def _set_torch_state(text: str) -> None:
    on = device()
    state = torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
    if on.type == "cuda":
        torch.cuda.set_rng_state(state, on)
    else:
        torch.set_rng_state(state)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
