"""What the serving process must never carry."""

import subprocess
import sys
from pathlib import Path

from environ import without_settings

_PROGRAM = """
import asyncio, sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from models.scorer import Scorer
from services.collector import build_collector
from services.config import load_settings
from services.recommend.champion import warm
from services.recommend.engine import Engine
from services.recommend.pipeline import Ask, Stopwatch, choose
from services.recommend.state import NOBODY
from services.recommend.surfaces import BUILT_IN
from services.recommender import build_recommender
import time

settings = load_settings()
build_collector(settings, CollectorRegistry())
build_recommender(settings, CollectorRegistry())
scorer = Scorer.load(Path(sys.argv[1]))
warm(scorer)
engine = Engine()
engine.swap(scorer)
ask = Ask(n=5, surface=BUILT_IN["home"], as_of=1, seed=1)
asyncio.run(engine.compute(lambda live: choose(live, ask, NOBODY, Stopwatch(time.perf_counter))))
heavy = {"torch", "torchrec", "fbgemm_gpu", "feast", "pyspark", "py4j", "pyarrow", "pyiceberg", "pandas", "scipy"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmRSS")))
"""


def test_serving_never_imports_training_spark_or_feast(artifact: tuple[Path, str], tmp_path: Path) -> None:
    environ = without_settings()
    environ |= {
        "FLYWHEEL_HOME": str(tmp_path),
        "FLYWHEEL_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "FLYWHEEL_KAFKA__ERASURE_KEY": "k" * 40,
        "FLYWHEEL_STORE__REDIS_URL": "redis://127.0.0.1:1/0",
    }
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(artifact[0])], env=environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    heavy, resident_kb = ran.stdout.splitlines()
    assert heavy == "[]"
    assert int(resident_kb) < 300_000
