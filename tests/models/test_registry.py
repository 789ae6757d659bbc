import threading
from pathlib import Path

import pytest

from models.artifact import Artifact, CorruptArtifact
from models.registry import AnotherHistory, Champion, ChampionChanged, NothingToRollBackTo, Registry, UnknownModel
from streaming.namespace import Namespace


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(str(tmp_path / "registry"), Namespace("shop"))
    for version in ("m1", "m2", "m3"):
        artifact = tmp_path / version
        artifact.mkdir()
        (artifact / "spec.json").write_text(version)
        registry.add(artifact, version)
    return registry


def change(registry: Registry, version: str) -> Champion:
    return Champion(
        number=registry.next_number(), model_version=version, change="promote", changed_at=1, gate={"passed": True}
    )


def champion(registry: Registry) -> str | None:
    current = registry.champion()
    return current.model_version if current else None


def test_an_artifact_comes_back_as_it_was_added(registry: Registry, tmp_path: Path) -> None:
    registry.fetch("m2", tmp_path / "fetched")
    assert [path.name for path in (tmp_path / "fetched").iterdir()] == ["spec.json"]
    assert (tmp_path / "fetched" / "spec.json").read_text() == "m2"


def test_another_model_in_the_place_of_one_is_refused(registry: Registry, tmp_path: Path, artifact: Path) -> None:
    version = Artifact.open(artifact).version
    registry.add(artifact, version)
    registry.fetch(version, tmp_path / "fetched")
    registry.add(artifact, "20200101t000000-000000000000")
    with pytest.raises(CorruptArtifact, match=f"model {version} in the place of 20200101t000000-000000000000"):
        registry.fetch("20200101t000000-000000000000", tmp_path / "other")


def test_there_is_no_champion_before_the_first_promotion(registry: Registry) -> None:
    assert registry.champion() is None
    with pytest.raises(NothingToRollBackTo):
        registry.rollback(1, "nothing there")


def test_the_last_promoted_model_is_the_champion(registry: Registry) -> None:
    registry.promote(change(registry, "m1"))
    registry.promote(change(registry, "m2"))
    assert champion(registry) == "m2"
    assert [entry.number for entry in registry.history()] == [1, 2]


def test_rolling_back_twice_goes_back_two_models(registry: Registry) -> None:
    for version in ("m1", "m2", "m3"):
        registry.promote(change(registry, version))
    registry.rollback(2, "m3 is worse")
    assert champion(registry) == "m2"
    registry.rollback(3, "m2 too")
    assert champion(registry) == "m1"
    with pytest.raises(NothingToRollBackTo):
        registry.rollback(4, "and m1")


def test_nobody_is_compared_with_before_the_first_promotion(registry: Registry) -> None:
    assert registry.opponents(10) == {}


def test_the_first_champion_is_the_reference_until_the_tenth_promotion(registry: Registry) -> None:
    registry.promote(change(registry, "m1"))
    assert registry.opponents(10) == {"champion": "m1"}
    for _ in range(8):
        registry.promote(change(registry, "m2"))
        assert registry.opponents(10) == {"champion": "m2", "reference": "m1"}
    registry.promote(change(registry, "m3"))
    assert registry.opponents(10) == {"champion": "m3"}
    registry.promote(change(registry, "m2"))
    assert registry.opponents(10) == {"champion": "m2", "reference": "m3"}


def test_a_promotion_that_was_rolled_back_does_not_replace_the_reference(registry: Registry) -> None:
    for version in ("m1", "m2", "m3"):
        registry.promote(change(registry, version))
    assert registry.opponents(3) == {"champion": "m3"}
    registry.rollback(2, "m3 is worse")
    assert registry.opponents(3) == {"champion": "m2", "reference": "m1"}


def test_a_model_that_was_not_added_cannot_be_promoted(registry: Registry) -> None:
    with pytest.raises(UnknownModel, match="'m9'"):
        registry.promote(change(registry, "m9"))


def test_a_way_to_another_model_is_no_version(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"'m1/\.\./m2'"):
        registry.fetch("m1/../m2", tmp_path / "fetched")
    with pytest.raises(UnknownModel):
        registry.promote(change(registry, "m1/../m2"))


def test_a_half_copied_artifact_is_no_model(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "registry" / "shop" / "artifacts" / "m4").mkdir()
    assert registry.versions() == ["m1", "m2", "m3"]
    with pytest.raises(UnknownModel):
        registry.fetch("m4", tmp_path / "fetched")
    with pytest.raises(UnknownModel):
        registry.training_snapshots("m4")
    with pytest.raises(UnknownModel):
        registry.promote(change(registry, "m4"))


def test_of_two_that_change_the_champion_at_once_one_wins_and_one_is_told(registry: Registry) -> None:
    first, second = change(registry, "m1"), change(registry, "m2")
    ready, outcomes = threading.Barrier(2), []

    def promote(wanted: Champion) -> None:
        ready.wait()
        try:
            registry.promote(wanted)
            outcomes.append("won")
        except ChampionChanged:
            outcomes.append("told")

    threads = [threading.Thread(target=promote, args=(wanted,)) for wanted in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["told", "won"]
    assert len(registry.history()) == 1


def test_a_writer_that_died_blocks_nobody(registry: Registry, tmp_path: Path) -> None:
    registry.promote(change(registry, "m1"))
    (tmp_path / "registry" / "shop" / "champions" / "00000002.json").touch()
    assert champion(registry) == "m1"
    registry.promote(change(registry, "m2"))
    assert champion(registry) == "m2"


def test_namespaces_do_not_see_each_other(registry: Registry, tmp_path: Path) -> None:
    registry.promote(change(registry, "m1"))
    other = Registry(str(tmp_path / "registry"), Namespace("bigshop"))
    assert other.versions() == []
    assert other.champion() is None


@pytest.fixture
def copy(tmp_path: Path) -> Registry:
    return Registry((tmp_path / "backup").as_uri(), Namespace("shop"))


def test_a_copy_has_every_model_and_every_champion_and_copied_back_it_is_the_registry(
    registry: Registry, copy: Registry, tmp_path: Path
) -> None:
    for version in ("m1", "m2"):
        registry.promote(change(registry, version))
    registry.rollback(2, "m2 is worse")
    registry.note_training_set_gone("m1", 5)
    half = tmp_path / "registry" / "shop" / "artifacts" / "m4"  # one that is being added
    half.mkdir()
    (half / "spec.json").write_text("m4")
    assert registry.copy_to(copy) == ["m1", "m2", "m3"]
    back = Registry(str(tmp_path / "back"), Namespace("shop"))
    assert copy.copy_to(back) == back.versions() == ["m1", "m2", "m3"]
    assert back.history() == registry.history()
    assert (champion(back), back.training_set_gone_since("m1")) == ("m1", 5)
    back.fetch("m3", tmp_path / "fetched")
    assert (tmp_path / "fetched" / "spec.json").read_text() == "m3"


def test_a_copy_that_was_cut_off_goes_on_and_what_is_there_is_not_copied_again(
    registry: Registry, copy: Registry, tmp_path: Path
) -> None:
    registry.promote(change(registry, "m1"))
    registry.copy_to(copy)
    copied = tmp_path / "backup" / "shop"
    kept, cut_off = copied / "artifacts" / "m1" / "spec.json", copied / "artifacts" / "m2"
    written_at = kept.stat().st_mtime_ns
    (cut_off / "COMPLETE").unlink()
    (cut_off / "spec.json").write_text("m")
    (copied / "champions" / "00000001.json").write_text("")
    (copied / "gone").mkdir()
    (copied / "gone" / "m1").write_text("")
    registry.note_training_set_gone("m1", 5)
    registry.promote(change(registry, "m2"))
    registry.copy_to(copy)
    assert copy.training_set_gone_since("m1") == 5
    assert copy.history() == registry.history()
    assert (cut_off / "spec.json").read_text() == "m2"
    assert kept.stat().st_mtime_ns == written_at


def test_a_copy_never_replaces_another_history(registry: Registry, copy: Registry) -> None:
    registry.promote(change(registry, "m1"))
    registry.copy_to(copy)
    registry.promote(change(registry, "m2"))
    copy.promote(change(copy, "m3"))
    for source, target in ((registry, copy), (copy, registry)):
        history = target.history()
        with pytest.raises(AnotherHistory, match=r"00000002\.json names another champion"):
            source.copy_to(target)
        assert target.history() == history


def test_an_entry_whose_writer_died_is_not_copied_over_one_that_is_whole(registry: Registry, copy: Registry) -> None:
    registry.promote(change(registry, "m1"))
    registry.copy_to(copy)
    registry.promote(change(registry, "m2"))
    entry = registry._entry(1)
    registry._files.pipe_file(entry, b"")
    registry.copy_to(copy)
    assert [one.model_version for one in copy.history()] == ["m1", "m2"]
    copy.copy_to(registry)
    assert registry.history() == copy.history()
