"""What the scorers and the evaluation import: the served one no torch, the exact one torch without torchrec."""

import subprocess
import sys

import pytest

_HEAVY = ("torch", "torchrec", "fbgemm_gpu", "pyspark", "feast", "bentoml")

SERVED = ("models.scorer", "models.served", "models.index", "models.inputs", "models.ranking_features")
EXACT = ("models.retrieval", "models.ranking", "models.softmax")
EVALUATION = ("models.leave_one_out", "models.offline", "models.report", "models.slice_baselines", "models.gate")
REPORTS = ("services.quality.compare", "services.quality.sources", "services.quality.tables")


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [(SERVED, []), (EXACT, ["torch"]), (EVALUATION, []), (REPORTS, [])],
    ids=["served scorer", "exact networks", "evaluation", "reports"],
)
def test_imports_reach_no_more_than_they_need(modules: tuple[str, ...], heavy: list[str]) -> None:
    program = f"import {', '.join(modules)}, sys; print(sorted(set({_HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(heavy)
