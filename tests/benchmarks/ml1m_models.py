"""The models of the leave-one-out table. A further one is a line in `MODELS`, `seeded` if its training is random."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tuning import Tuned

from models.config import RetrievalSettings
from models.ials import Ials
from models.leave_one_out import SequenceRanker
from models.sequence_baselines import Ease, ItemKnn, Markov, Popularity
from models.sequences import Sequences

Build = Callable[[Sequences, int, bool], SequenceRanker]


@dataclass(frozen=True)
class Entry:
    """How a model is made of x₁ … xₙ₋₁ of every user, a seed, and whether it has to be quick.

    `build` fits on `known.held_back(1)` and may choose by `known.questions()`; what is tested on it never gets. A
    ranker with an attribute `notes` (a mapping that JSON can hold) has it in the report. A seeded model is made once a
    seed, another one once; a slow one is left out when quick.
    """

    build: Build
    seeded: bool = False
    slow: bool = False


def _fixed(fit: Callable[[Sequences], SequenceRanker]) -> Entry:
    return Entry(lambda known, _seed, _quick: fit(known.held_back(1)))


def _tuned_knn(known: Sequences, seed: int, quick: bool) -> SequenceRanker:
    return Tuned(known, {f"k {k}": partial(ItemKnn, k=k) for k in (20, 50, 100)})


def _tuned_ease(known: Sequences, seed: int, quick: bool) -> SequenceRanker:
    return Tuned(known, {f"λ {strength}": partial(Ease, strength=strength) for strength in (100, 200, 500)})


def _tuned_markov(known: Sequences, seed: int, quick: bool) -> SequenceRanker:
    return Tuned(known, {f"window {window}": partial(Markov, window=window) for window in (5, 10, 20)})


def _tuned_ials(known: Sequences, seed: int, quick: bool) -> SequenceRanker:
    fit = partial(Ials, regularization=10.0, alpha=1.0, seed=seed)
    return Tuned(known, {f"factors {factors}": partial(fit, factors=factors) for factors in (64, 128, 256)})


_SEQUENCE = RetrievalSettings(
    length=200,
    dim=128,
    heads=4,
    blocks=2,
    dropout=0.3,
    unknown_share=0.0,
    epochs=24,
    batch_size=24,
    learning_rate=2e-3,
    embedding_learning_rate=2e-3,
    embedding_optimizer="adam",
    second_moment=0.98,
    input_scale=128**0.5,
    warmup_steps=200,
    average=0.999,
    bfloat16=True,
    mask_seen=True,
)


def _sequence(known: Sequences, seed: int, quick: bool) -> SequenceRanker:
    from models.sequence_model import fit_sequence_model  # noqa: PLC0415 - torchrec is slow to import

    settings = _SEQUENCE.model_copy(update={"epochs": 1}) if quick else _SEQUENCE
    return fit_sequence_model(known.held_back(1), settings, seed, threads=1, report=lambda _step: None)


MODELS: dict[str, Entry] = {
    "popularity": _fixed(Popularity),
    "item-knn-50": _fixed(ItemKnn),
    "ease-200": _fixed(Ease),
    "markov-5": _fixed(Markov),
    "markov-20": _fixed(partial(Markov, window=20)),
    "item-knn-tuned": Entry(_tuned_knn, slow=True),
    "ease-tuned": Entry(_tuned_ease, slow=True),
    "ials-tuned": Entry(_tuned_ials, slow=True),
    "markov-tuned": Entry(_tuned_markov, slow=True),
    "sequence": Entry(_sequence, seeded=True),
}
