"""The chart's README is what helm-docs makes of it, and its own unit tests pass."""

import shutil
import subprocess
from pathlib import Path

import pytest
from chart import CASES, CHART, values_of
from chart_programs import program


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHART, tmp_path / "flywheel"))


def test_the_readme_is_what_its_template_and_the_values_say(copy: Path) -> None:
    """`helm-docs --chart-search-root helm` writes it."""
    subprocess.run([program("helm-docs"), "--chart-search-root", copy], check=True, capture_output=True)
    assert (copy / "README.md").read_text(encoding="utf-8") == (CHART / "README.md").read_text(encoding="utf-8")


def test_every_value_is_documented() -> None:
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    undocumented = [line for line in readme.splitlines() if line.startswith("| ") and line.endswith("|  |")]
    assert undocumented == []


@pytest.mark.parametrize("name", CASES)
def test_the_chart_passes_helms_own_lint(name: str) -> None:
    done = subprocess.run(
        [program("helm"), "lint", "--strict", CHART, "--values", values_of(name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_charts_own_unit_tests_pass(copy: Path) -> None:
    done = subprocess.run([program("helm-unittest"), copy], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    suites = len(list((CHART / "tests").glob("*_test.yaml")))
    assert f"Test Suites: {suites} passed, {suites} total" in done.stdout
