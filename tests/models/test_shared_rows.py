"""Items without a row of their own are served as they were trained, known to the catalogue or not."""

import numpy as np
import pytest
import small
import torch

from features.history import History, HistoryEvent
from models.artifact import write_artifact
from models.config import VocabularySettings
from models.content import ItemContent, content_vectors
from models.dataset import TrainingData
from models.export import Fitted, artifact_parts
from models.fitting import Timer, fit
from models.inputs import gap_buckets
from models.log import KINDS
from models.scorer import Query, Scorer
from models.spec import Lineage
from models.vocabulary import hashed
from streaming.events import Kind
from streaming.ids import EventId, ItemId

SHARED, NOW = 3, small.NOW


@pytest.fixture(scope="module")
def rare(data: TrainingData) -> Fitted:
    """A model in which the rarer half of the items shares three rows."""
    counts = np.bincount(data.log.rows)
    vocabulary = VocabularySettings(admit_at=int(np.median(counts)) + 1, shared_rows=SHARED)
    settings = small.SETTINGS.model_copy(update={"vocabulary": vocabulary})
    return fit(data, settings, Lineage({}, small.SEED, "test"), Timer(lambda _name, _share: None))


@pytest.fixture(scope="module")
def served(rare: Fitted, data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    folder = tmp_path_factory.mktemp("rare")
    write_artifact(folder, artifact_parts(rare, data))
    return Scorer.load(folder)


def own(fitted: Fitted) -> dict[str, int]:
    return fitted.start.vocabulary.own_rows()


def table_vector(fitted: Fitted, item_id: str, content: np.ndarray | None) -> torch.Tensor:
    """An item's vector from the table itself: its own row or the one that it hashes to, and its content."""
    rows = own(fitted)
    row = rows.get(item_id, len(rows) + hashed("shared", item_id, SHARED))
    vector = fitted.retrieval.table[row]
    return vector if content is None else vector + fitted.retrieval.model.content(torch.from_numpy(content))


def test_the_table_has_a_row_for_each_common_item_and_the_shared_ones(rare: Fitted) -> None:
    assert 0 < len(own(rare)) < small.ITEMS
    assert rare.retrieval.table.shape == (len(own(rare)) + SHARED, small.SETTINGS.retrieval.dim)
    assert rare.retrieval.vectors.shape == (small.ITEMS + SHARED, small.SETTINGS.retrieval.dim)


def test_every_items_served_vector_is_its_row_and_its_content(rare: Fitted, data: TrainingData, served: Scorer) -> None:
    with torch.no_grad():
        expected = [
            table_vector(rare, item.item_id, content_vectors(rare.spec.content, [item])[0]).numpy()
            for item in data.items
        ]
    np.testing.assert_allclose(served._retrieval.vectors.trained, expected, atol=1e-5)


def test_what_is_served_is_what_the_table_gives_for_rare_and_new_and_unknown_items(
    rare: Fitted, data: TrainingData, served: Scorer
) -> None:
    """Three new items and three unknown ones, so that most shared rows are asked for."""
    new = [ItemContent(ItemId(f"new{number}"), categories=["c1"], attributes={"year": 1999.0}) for number in range(3)]
    rows = [served.add_item(item) for item in new]
    rare_item = next(item for item in data.items if item.item_id not in own(rare))
    known = {item.item_id: content_vectors(rare.spec.content, [item])[0] for item in (*new, rare_item)}
    names = ["unknown0", rare_item.item_id, "unknown1", "new1", "unknown2"]
    times = NOW + 1_000 * np.arange(len(names))
    events = [
        HistoryEvent(int(at), EventId(name), ItemId(name), Kind.CLICK) for at, name in zip(times, names, strict=True)
    ]
    with torch.no_grad():
        items = torch.stack([table_vector(rare, name, known.get(ItemId(name))) for name in names])[None]
        kinds = torch.full((1, len(names)), KINDS.index("click"))
        inputs = rare.retrieval.model.inputs(items, kinds, torch.from_numpy(gap_buckets(times, NOW + 60_000))[None])
        user = rare.retrieval.model.tower(inputs, torch.tensor([len(names) - 1]))[0]
        expected = [float(table_vector(rare, item.item_id, known[item.item_id]) @ user) for item in new]
    found = served.retrieve(Query(History(tuple(events)), {}, NOW + 60_000), served.size)
    scores = dict(zip(found.rows.tolist(), found.scores.tolist(), strict=True))
    assert [scores[row] for row in rows] == pytest.approx(expected, abs=1e-4)
    assert len({hashed("shared", name, SHARED) for name in (*names, "new0", "new2")}) > 1
