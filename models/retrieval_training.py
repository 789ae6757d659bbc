"""Training of the sequence model: windows of histories, item embeddings in a sharded EmbeddingCollection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchrec import EmbeddingCollection, EmbeddingConfig, JaggedTensor, KeyedJaggedTensor

from models.augmentation import Augmentation
from models.checkpoints import Checkpoints, Run, digest
from models.config import RetrievalSettings
from models.device_batch import DeviceBatch
from models.embedding_vocabulary import ItemRows
from models.log import Log
from models.next_seconds import NextSeconds
from models.norms import row_norms
from models.progress import Report, Step
from models.quiet import upstream_notices_muted
from models.retrieval import RetrievalModel, Shape
from models.seen import seen_since
from models.sharding import Rates, Sharded, own_part, total
from models.softmax import Choices, Seen, softmax_loss
from models.trained_retrieval import TrainedRetrieval
from models.trainer_state import TrainerState, forget_rows, put_state, take_state
from models.weights import load_weights

CATALOGUE, HISTORY = "catalogue", "history"
_TABLE = "item"
TABLE_WEIGHT = f"embeddings.embeddings.{_TABLE}.weight"
"""The table's name among the trainer's weights."""

_FINAL_RATE = 0.05
_SIZES = 8  # of windows, that are told apart

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Batch(DeviceBatch):
    """One process's part of a step.

    `rows` has those of the catalogue, int64 [items], and of the flattened windows. `kinds`, `gaps` are int64 [windows,
    length of the longest], padded at the end. Targets are flat: `places`, ascending, indexes the flattened windows,
    `targets` indexes the catalogue, among whose `corrections` (log of the chance that an item is in it) and content
    vectors it chooses; `weights` sum to 1 over all processes' parts. `since` is `seen_since` of the windows, with no
    column where the softmax also runs over what was seen.
    """

    rows: KeyedJaggedTensor
    history_content: Tensor
    kinds: Tensor
    gaps: Tensor
    places: Tensor
    targets: Tensor
    weights: Tensor
    catalogue_content: Tensor
    corrections: Tensor
    since: Tensor


class RetrievalLoss(RetrievalModel):
    """The sequence model with its loss: softmax over the catalogue, or over a sample with logQ.

    Y. Bengio and J.-S. Senecal, Quick training of probabilistic neural nets by importance sampling, AISTATS 2003.
    """

    def forward(self, embeddings: Mapping[str, JaggedTensor], batch: Batch) -> Tensor:
        """Return the weighted sum of the losses, times the number of processes, which average gradients."""
        catalogue = self.item_vectors(embeddings[CATALOGUE].values(), batch.catalogue_content)
        history = self.item_vectors(embeddings[HISTORY].values(), batch.history_content)
        inputs = self.inputs(history.reshape(*batch.kinds.shape, -1), batch.kinds, batch.gaps)
        places, of_place = torch.unique(batch.places, return_inverse=True)
        users = self.tower.at_every_place(inputs).flatten(0, 1)[places]
        length = batch.kinds.shape[1]
        seen = Seen(batch.since, places // length, places % length) if batch.since.shape[1] else None
        choices = Choices(of_place, batch.targets, batch.weights, seen)
        loss = softmax_loss(users, catalogue, batch.corrections, choices)
        return loss * torch.distributed.get_world_size()


class RetrievalTask(nn.Module):
    """Looks up the rows of a batch and gives them to the loss; nothing else, so that the lookups can be pipelined."""

    def __init__(self, shape: Shape, rows: int, content_width: int) -> None:
        super().__init__()
        self.embeddings = EmbeddingCollection(
            tables=[
                EmbeddingConfig(
                    name=_TABLE,
                    embedding_dim=shape.dim,
                    num_embeddings=rows,
                    feature_names=[CATALOGUE, HISTORY],
                    weight_init_min=-0.1 / shape.input_scale**0.5,
                    weight_init_max=0.1 / shape.input_scale**0.5,
                )
            ]
        )
        self.model = RetrievalLoss(shape, content_width)

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss."""
        loss: Tensor = self.model(self.embeddings(batch.rows), batch)
        return loss


class RetrievalTrainer:
    """Trains the sequence model; may go on with more interactions. Every process must make the same calls.

    The last `text_width` columns of the content are taken away at random, as they are not there yet of a new item.
    """

    def __init__(
        self,
        settings: RetrievalSettings,
        content: NDArray[np.float32],
        seed: int,
        rows: ItemRows | None = None,
        text_width: int = 0,
    ) -> None:
        """Take the content vectors of the catalogue's items and their rows, by default a row of its own for each."""
        torch.manual_seed(seed)
        self._settings = settings
        self._content = torch.from_numpy(np.vstack((content, np.zeros((1, content.shape[1]), np.float32))))
        self._items = len(content)
        self._rows = rows or ItemRows.own(self._items)
        # One more than items, which stands for whatever is not in the catalogue.
        self._used, self._shared = (
            np.append(of, self._rows.first_shared) for of in (self._rows.used, self._rows.shared)
        )
        self._text_width = text_width
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        task = RetrievalTask(Shape.of(settings), self._rows.size, content.shape[1])
        rates = Rates(
            settings.learning_rate,
            settings.embedding_learning_rate,
            settings.weight_decay,
            settings.average,
            settings.embedding_optimizer,
            settings.second_moment,
        )
        self._sharded = Sharded(task, task.embeddings, rates, settings.layout, settings.bfloat16)

    def train(
        self, log: Log, epochs: int, peak: float, report: Report, checkpoints: Checkpoints | None = None
    ) -> list[float]:
        """Pass over the log `epochs` times, from `peak` of the learning rates down; returns each step's loss.

        `report` hears of every step. With checkpoints the same call goes on where an interrupted one was last saved;
        raises OtherRun when they are of another call, NotSaved. Raises TrainingDiverged when the loss does.
        """
        targets = NextSeconds.of(log)
        name = self._name(log, epochs, peak) if checkpoints else ""
        run = Run(checkpoints, self._sharded, self._rng, name)
        augmentation = Augmentation(self._settings, log, self._items)
        plan = [batch for _ in range(epochs) for batch in self._epoch(log, augmentation)]

        def share(number: int) -> float:
            return peak * self._schedule(number, len(plan))

        def step(number: int, windows: list[slice]) -> tuple[Batch, float]:
            return self._batch(log, targets, augmentation, windows), share(number)

        for loss in self._sharded.losses(run.batches(plan, step)):
            run.add(total(loss) / torch.distributed.get_world_size())
            done = len(run.losses)
            ends_pass = done % (len(plan) // epochs) == 0
            report(
                Step(
                    done,
                    len(plan),
                    run.losses[-1],
                    rate=self._settings.learning_rate * share(done - 1),
                    samples=sum(window.stop - window.start for window in plan[done - 1]),
                    norms=row_norms(self._sharded.tables()) if ends_pass else {},
                    trained=self.trained,
                )
            )
        return run.losses

    def trained(self) -> TrainedRetrieval:
        """Return the servable model as it is now."""
        weights = self._sharded.weights()
        model = RetrievalModel(Shape.of(self._settings), self._content.shape[1])
        load_weights(model, weights, "model.")
        model.eval()
        table = weights[TABLE_WEIGHT]
        shared = np.arange(self._rows.first_shared, self._rows.size)
        content = functional.pad(self._content[: self._items], (0, 0, 0, len(shared)))
        with torch.no_grad():
            vectors = model.item_vectors(table[np.append(self._rows.used, shared)], content)
        return TrainedRetrieval(model, table, vectors, self._settings.length)

    def state(self) -> TrainerState:
        """Return what another training can go on from."""
        return take_state(self._sharded, TABLE_WEIGHT)

    def go_on_from(self, state: TrainerState) -> None:
        """Take over a state of the same shapes; to be called before `train`."""
        put_state(self._sharded, TABLE_WEIGHT, state)

    def forget(self, rows: Rows) -> None:
        """Set rows of the table back to nothing, their optimiser's state included."""
        forget_rows(self._sharded, TABLE_WEIGHT, rows)

    def _name(self, log: Log, epochs: int, peak: float) -> str:
        """Return a sum over everything that a call of `train` depends on."""
        # Not the layout of the tables: a checkpoint goes on in any.
        texts = (
            self._settings.model_dump_json(exclude={"layout"}),
            str((self._seed, self._text_width, epochs, peak)),
        )
        return digest(
            *texts, self._content.numpy(), self._used, self._shared, log.rows, log.times, log.kinds, log.starts
        )

    def _schedule(self, step: int, steps: int) -> float:
        """Return the share of the peak rate: up over the warm-up, then down in a line."""
        warmth = min(1.0, (step + 1) / max(1, self._settings.warmup_steps))
        return warmth * (_FINAL_RATE + (1 - _FINAL_RATE) * (1 - step / steps))

    def _epoch(self, log: Log, augmentation: Augmentation) -> list[list[slice]]:
        """Cut all histories into windows, each with an offset of its own, and these into batches."""
        length = self._settings.length
        windows: list[slice] = []
        for first, last in zip(log.starts[:-1].tolist(), log.starts[1:].tolist(), strict=True):
            offset = int(self._rng.integers(1, length + 1))
            bounds = [first, *range(first + offset, last, length), last]
            windows += [augmentation.window(slice(a, b), self._rng) for a, b in pairwise(bounds) if a < b]
        return [[windows[index] for index in batch] for batch in self._batches(windows)]

    def _batches(self, windows: Sequence[slice]) -> list[NDArray[np.int64]]:
        """Return batches of about as many events, in random order, each of windows of about one size, to pad little."""
        length = self._settings.length
        sizes = np.array([window.stop - window.start for window in windows])
        order = self._rng.permutation(len(windows))
        order = order[np.argsort(sizes[order] // (length // _SIZES + 1), kind="stable")]
        ends = np.cumsum(sizes[order])
        count = max(1, round(ends[-1] / (length * self._settings.batch_size)))
        batches = np.split(order, np.searchsorted(ends, ends[-1] * np.arange(1, count) / count))
        return [batches[number] for number in self._rng.permutation(count)]

    def _batch(self, log: Log, following: NextSeconds, augmentation: Augmentation, windows: list[slice]) -> Batch:
        length = max(window.stop - window.start for window in windows)
        unknown = self._items
        history = np.full((len(windows), length), unknown)
        kinds, gaps = np.zeros_like(history), np.zeros_like(history)
        asked = np.zeros(history.shape, dtype=np.bool_)
        for number, window in enumerate(windows):
            size, read = window.stop - window.start, augmentation.read(window, self._rng)
            history[number, :size] = read.rows
            kinds[number, :size] = log.kinds[window][read.order]
            gaps[number, :size] = following.gaps[window]
            asked[number, :size] = read.asked
        taken_for_new = self._rng.random(history.shape) < self._settings.unknown_share
        history_rows = np.where(taken_for_new, self._shared[history], self._used[history])
        history[taken_for_new] = unknown
        places, rows = following.targets(windows, length)
        places, rows = places[asked.ravel()[places]], rows[asked.ravel()[places]]
        catalogue, corrections = self._catalogue(rows)
        shown_as_new = self._rng.random(len(catalogue)) < self._settings.unknown_share
        own = own_part(len(windows))
        mine = (places >= own.start * length) & (places < own.stop * length)
        _, index, counts = np.unique(places, return_inverse=True, return_counts=True)
        weights = 1.0 / counts[index] / max(len(counts), 1)
        return Batch(
            rows=_rows(np.where(shown_as_new, self._shared[catalogue], self._used[catalogue]), history_rows[own]),
            history_content=self._content_of(history)[own].flatten(0, 1),
            kinds=torch.from_numpy(kinds[own]),
            gaps=torch.from_numpy(gaps[own]),
            places=torch.from_numpy(places[mine] - own.start * length),
            targets=torch.from_numpy(np.searchsorted(catalogue, rows[mine])),
            weights=torch.from_numpy(weights[mine]).float(),
            catalogue_content=self._content_of(catalogue),
            corrections=torch.from_numpy(corrections).float(),
            since=torch.from_numpy(self._since(log, windows[own], length, catalogue)),
        )

    def _since(self, log: Log, windows: list[slice], length: int, catalogue: Rows) -> NDArray[np.int16]:
        if self._settings.mask_seen:
            return seen_since(log, windows, length, self._items)[:, catalogue]
        return np.zeros((len(windows), 0), dtype=np.int16)

    def _content_of(self, rows: Rows) -> Tensor:
        """Return the content vectors of rows, float [*rows.shape, width]; a random share of them without text."""
        content = self._content[torch.from_numpy(rows)]
        if self._text_width:
            missing = torch.from_numpy(self._rng.random(rows.shape) < self._settings.unknown_share)
            content[..., -self._text_width :] *= ~missing[..., None]
        return content

    def _catalogue(self, targets: Rows) -> tuple[Rows, NDArray[np.float64]]:
        """Return the items that the softmax runs over, ascending, and the log of each one's chance to be there."""
        if self._items <= self._settings.full_softmax_items:
            return np.arange(self._items), np.zeros(self._items)
        uniform = self._rng.integers(0, self._items, self._settings.sampled_negatives)
        chosen = np.union1d(uniform, targets)
        drawn = np.bincount(targets, minlength=self._items)[chosen] / max(len(targets), 1)
        absent = len(targets) * np.log1p(-np.minimum(drawn, 0.999)) + len(uniform) * np.log1p(-1 / self._items)
        return chosen, np.log(-np.expm1(absent))


def _rows(catalogue: Rows, history: Rows) -> KeyedJaggedTensor:
    with upstream_notices_muted():
        return KeyedJaggedTensor.from_lengths_sync(
            keys=[CATALOGUE, HISTORY],
            values=torch.from_numpy(np.concatenate((catalogue, history.ravel()))),
            lengths=torch.tensor([len(catalogue), history.size]),
        )
