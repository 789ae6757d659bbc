"""One small model for all tests of this folder."""

from pathlib import Path

import pytest
import small

from models.artifact import write_artifact
from models.dataset import TrainingData
from models.export import Fitted, artifact_parts
from models.fitting import Timer, fit
from models.scorer import Scorer
from models.spec import Lineage


@pytest.fixture(scope="session")
def data() -> TrainingData:
    print("seed", small.SEED)  # noqa: T201
    return small.data()


@pytest.fixture(scope="session")
def fitted(data: TrainingData) -> Fitted:
    return fit(data, small.SETTINGS, Lineage({}, small.SEED, "test"), Timer(lambda _name, _share: None))


@pytest.fixture(scope="session")
def artifact(fitted: Fitted, data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact")
    write_artifact(folder, artifact_parts(fitted, data))
    return folder


@pytest.fixture
def scorer(artifact: Path) -> Scorer:
    return Scorer.load(artifact)
