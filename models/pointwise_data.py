"""Everything that pointwise ranking reads: acts with what is known before each of them. Numpy only."""

from dataclasses import dataclass

from models.act_features import ActFeatures, act_features
from models.acts import Acts, HashedBags, labelled_acts
from models.pairs import Pairs, pairs_before
from streaming.dataset import DataSet


@dataclass(frozen=True)
class PointwiseData:
    """Acts, and the features, pairs and hashed ids that a model reads of each."""

    acts: Acts
    features: ActFeatures
    pairs: Pairs
    bags: HashedBags


def pointwise_data(data: DataSet, wanted_from: float, places: int, buckets: int) -> PointwiseData:
    """Return a data set's interactions, labelled by "value at or above `wanted_from`".

    Each has pairs with the newest `places` before it; ids are hashed into so many buckets a table. Raises NotLabelled
    when an interaction has no value, TooManyItems when there are too many items for pairs.
    """
    acts = labelled_acts(data, wanted_from)
    features = act_features(acts)
    return PointwiseData(acts, features, pairs_before(acts, features.surprises, places), HashedBags.of(data, buckets))
