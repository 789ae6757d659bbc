"""The exact ranker: an artifact's weights in torch, what the served one must agree with. It reaches no torchrec."""

from safetensors.torch import load

from models.artifact import WEIGHTS, Artifact
from models.ranking import RankingModel
from models.weights import load_weights


def exact_ranker(artifact: Artifact) -> RankingModel:
    """Return the network as it was trained; raises CorruptArtifact when the weights are missing."""
    model = RankingModel(artifact.spec.ranking.network)
    load_weights(model, load(artifact.file(WEIGHTS)), "ranker.")
    return model.eval()
