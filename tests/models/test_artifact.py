import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.artifact import MANIFEST, METRICS, CorruptArtifact
from models.content import ItemContent
from models.scorer import Scorer
from streaming.ids import ItemId


@pytest.fixture
def copy(artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifact, tmp_path / "copy"))


def files() -> list[str]:
    return ["spec.json", "items.json", "weights.safetensors", "user_tower.onnx", "ranker.onnx", "index.faiss"]


@pytest.mark.parametrize("name", files())
def test_one_changed_byte_is_refused_with_the_files_name(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(CorruptArtifact, match=name):
        Scorer.load(copy)


@pytest.mark.parametrize("name", [*files(), MANIFEST])
def test_a_missing_file_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(CorruptArtifact):
        Scorer.load(copy)


def test_a_file_that_the_manifest_does_not_know_is_refused(copy: Path) -> None:
    (copy / "extra.bin").write_bytes(b"x")
    with pytest.raises(CorruptArtifact, match=r"extra\.bin"):
        Scorer.load(copy)


@pytest.mark.parametrize("distance", [-1, 1])
def test_an_artifact_of_another_format_says_what_to_do(copy: Path, distance: int) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["format_version"] += distance
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CorruptArtifact, match="train it again"):
        Scorer.load(copy)


def test_a_manifest_that_was_written_for_other_files_does_not_keep_the_version(copy: Path) -> None:
    (copy / METRICS).write_text("{}")
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["files"][METRICS] = hashlib.sha256(b"{}").hexdigest()
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CorruptArtifact, match="named for other files"):
        Scorer.load(copy)


def test_an_artifact_holds_no_pickle(artifact: Path) -> None:
    for path in artifact.iterdir():
        start = path.read_bytes()[:2]
        assert start not in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK"), path.name
    assert {path.suffix for path in artifact.iterdir()} <= {".json", ".onnx", ".safetensors", ".npy", ".faiss"}


def test_loading_and_scoring_import_neither_torch_nor_feast_nor_spark(artifact: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from models.scorer import Scorer; Scorer.load(Path(sys.argv[1])); "
        "print(sorted({'torch', 'torchrec', 'feast', 'pyspark'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(artifact)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_exact_ranker_needs_torch_without_torchrec(artifact: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from models.artifact import Artifact; "
        "from models.exact import exact_ranker; exact_ranker(Artifact.open(Path(sys.argv[1]))); "
        "print(sorted({'torch', 'torchrec', 'pyspark'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(artifact)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['torch']"


def test_an_item_added_later_gets_a_row_after_the_trained_ones_and_similar_items(scorer: Scorer) -> None:
    trained = scorer.size
    row = scorer.add_item(ItemContent(ItemId("fresh"), "Fresh", ["c1"], {"year": 1999.0}))
    assert (row, scorer.size, scorer.item_id(row)) == (trained, trained + 1, "fresh")
    similar = scorer.similar(row, 5).rows.tolist()
    assert len(similar) == 5
    assert row not in similar


def test_adding_a_trained_item_changes_nothing(scorer: Scorer) -> None:
    known = scorer.row(ItemId("i1"))
    assert scorer.add_item(ItemContent(ItemId("i1"), "Other", ["c3"])) == known
