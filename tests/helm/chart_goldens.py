"""Write the renderings that `test_rendering.py` compares with: `uv run python tests/helm/chart_goldens.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from chart import CASES, GOLDEN, rendered, values_of

if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in CASES:
        (GOLDEN / f"{name}.yaml").write_text(rendered(values_of(name)), encoding="utf-8")
