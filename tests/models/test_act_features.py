from dataclasses import replace

import labelled
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.act_features import act_features
from models.acts import NotLabelled, labelled_acts
from streaming.dataset import DataSet, InteractionRecord, ItemRecord, UserRecord
from streaming.events import Kind
from streaming.ids import ItemId, UserId

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(0, 59))
def test_features_do_not_know_their_own_second_or_later(seed: int, at: int) -> None:
    acts = labelled.acts(seed)
    later = acts.times // 1000 >= acts.times[at] // 1000
    other = np.where(later, 6 - acts.values, acts.values)
    changed = replace(acts, values=other, labels=(other >= 4).astype(np.float64))
    second = acts.times // 1000 == acts.times[at] // 1000
    ours, theirs = act_features(acts).dense, act_features(changed).dense
    # Not to the last digit: sums are differences of running sums.
    np.testing.assert_allclose(ours[second], theirs[second], atol=1e-6)


@given(seeds)
def test_features_are_finite_even_of_first_acts(seed: int) -> None:
    found = act_features(labelled.acts(seed))
    assert np.isfinite(found.dense).all()
    assert np.isfinite(found.surprises).all()
    assert found.dense.shape == (60, len(found.names))


def test_an_item_without_categories_has_no_category_features() -> None:
    acts = labelled.acts(1)
    acts.content[:, : acts.categories] = 0
    found = act_features(acts)
    columns = [place for place, name in enumerate(found.names) if name.startswith("category_")]
    assert len(columns) == 4
    assert (found.dense[:, columns] == 0).all()


def test_rates_of_a_worked_example() -> None:
    # One user likes two films in one second, then rates a third: the prior of late is (2 + 5) / (2 + 10).
    acts = replace(
        labelled.acts(1, count=3),
        users=np.zeros(3, np.int64),
        items=np.array([0, 1, 2]),
        times=np.array([1_000, 1_900, 5_000]),
        values=np.array([5.0, 4.0, 1.0]),
        labels=np.array([1.0, 1.0, 0.0]),
    )
    found = act_features(acts)
    row = dict(zip(found.names, found.dense[2], strict=True))
    prior = 7 / 12
    rate = (2 + 5 * prior) / (2 + 5)
    assert row["user_rate_middle"] == pytest.approx(np.log(rate / (1 - rate)), rel=1e-5)
    assert row["item_rate_middle"] == pytest.approx(np.log(prior / (1 - prior)), rel=1e-5)
    assert row["user_acts"] == pytest.approx(np.log(3))
    assert row["item_new"] == 1
    assert row["user_gap"] == pytest.approx(np.log1p(3.1))
    assert row["user_age"] == pytest.approx(np.log1p(4.0))
    first = dict(zip(found.names, found.dense[1], strict=True))
    assert (first["user_new"], first["user_gap"], first["rate"]) == (1, 0, 0)


def test_an_interaction_without_a_value_is_named() -> None:
    act = InteractionRecord(17, UserId("u"), ItemId("i"), Kind.CLICK, None, 1_000)
    data = DataSet("small", [UserRecord(UserId("u"), {})], [ItemRecord(ItemId("i"), "", [], {})], [act])
    with pytest.raises(NotLabelled, match="interaction 17 has no finite value"):
        labelled_acts(data, 4.0)
