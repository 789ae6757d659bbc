"""The exact ranker: an artifact's weights in torch, what the served one must agree with. It reaches no torchrec."""

from safetensors.torch import load

from models.artifact import WEIGHTS, Artifact
from models.ranking import RankingModel

_PREFIX = "ranker."


def exact_ranker(artifact: Artifact) -> RankingModel:
    """Return the network as it was trained; raises CorruptArtifact when the weights are missing."""
    model = RankingModel(artifact.spec.ranking.network)
    weights = load(artifact.file(WEIGHTS))
    model.load_state_dict(
        {name.removeprefix(_PREFIX): value for name, value in weights.items() if name.startswith(_PREFIX)}
    )
    return model.eval()
