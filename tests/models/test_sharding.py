"""Two processes train what one trains: the same losses and the same weights."""

from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import small


def trained(world: int, folder: Path) -> list[dict[str, np.ndarray]]:
    """Train in `world` processes; what each of them ended with."""
    context = get_context("spawn")
    processes = [context.Process(target=small.train, args=(rank, world, str(folder))) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
        assert process.exitcode == 0
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(world)]


@pytest.mark.timeout(400)
def test_two_processes_end_with_the_weights_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (alone,) = trained(1, tmp_path / "one")
    first, second = trained(2, tmp_path / "two")
    for name in ("losses", "table", "ranker"):
        assert np.array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], alone[name], atol=2e-3, err_msg=name)
    assert np.abs(alone["table"]).max() > 0.05
