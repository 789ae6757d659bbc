"""The surfaces file: what it may hold, how a mistake in it is told, and that a change holds without a restart."""

import logging
import os
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.config import Settings
from services.hosting import serve
from services.recommend.candidates import SOURCES
from services.recommend.surfaces import BUILT_IN, BUILT_IN_RULES, QUOTAS, in_force
from services.recommend.surfaces_file import SurfacesBroken, SurfacesFile, read_rules
from services.recommender import build_recommender
from services.settings_serving import ServingSettings
from streaming.config import KafkaSettings

README = Path(__file__).parents[2] / "README.md"
HOME = "surfaces:\n  home:\n"


def write(file: Path, text: str) -> Path:
    """Write another version of a file; its time of change differs however fast the clock."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text(text)
    os.utime(file, ns=(before + 1_000_000_000, before + 1_000_000_000))
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "surfaces.yaml"


def test_without_a_file_the_built_in_surfaces_hold() -> None:
    assert SurfacesFile(None, {}, lambda: 0.0).current() == BUILT_IN
    assert set(BUILT_IN) == {"home", "probe"}


def test_every_source_that_a_rule_may_name_exists() -> None:
    assert tuple(SOURCES) == tuple(quota.source for quota in QUOTAS)


def test_what_a_file_leaves_out_is_the_default_and_the_probe_is_always_there(file: Path) -> None:
    rules = read_rules(write(file, "surfaces: {home: {exploration: {temperature: 0.25, new_slots: 1}}, cart: }"))
    assert rules["home"] == BUILT_IN_RULES["home"]
    assert rules["cart"] == rules["probe"] == BUILT_IN_RULES["probe"]


def test_the_readme_s_example_is_a_surfaces_file(file: Path) -> None:
    [example] = re.findall(r"```yaml\n(surfaces:\n.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    home = read_rules(write(file, example))["home"]
    assert home != BUILT_IN_RULES["home"]


MISTAKES = [
    ("    sources: [{source: sequense, limit: 9}]", "home", "sources[0].source", "use one of sequence, co_visited"),
    ("    sources: [{source: new, limit: 0}]", "home", "sources[0].limit", ">= 1"),
    ("    sources: [{source: new, limit: 2001}]", "home", "sources[0].limit", "<= 2000"),
    ("    sources: []", "home", "sources", "length >= 1"),
    ("    sources: [{source: new, limit: 1}, {source: new, limit: 2}]", "home", "rules", "'new' stands twice"),
    ("    overload: home", "home", "overload", "'home' is no other surface"),
    ("    overload: cheap", "home", "overload", "'cheap' is no other surface of the file: name one of them"),
    ("    source: []", "home", "rules", "did you mean `sources`?"),
    ("    weights: {lik: 1}", "home", "weights", "use one of like, purchase"),
    ("    weights: {like: .nan}", "home", "weights[...]", "Expected"),
    ("    weights: {like: .inf}", "home", "weights[...]", "<= 100"),
    ("    filters: {seen: {kinds: [stare]}}", "home", "filters.seen.kinds[0]", "use one of view, click"),
    ("    filters: {fatigue: {}}", "home", "filters.fatigue", "`days`: add it"),
    ("    filters: {fatigue: {days: 3, kinds: [view]}}", "home", "filters.fatigue", "no negative feedback"),
    ("    filters: {attributes: [{attribute: price}]}", "home", "filters.attributes[0]", "give equals, in"),
    ("    pins: [{item_id: 7, position: 0}]", "home", "pins[0].item_id", "put the value in quotes"),
    ("    pins: [{item_id: a, position: 0}, {item_id: b, position: 0}]", "home", "rules", "position 0 stands twice"),
    ("    boosts: [{name: sale, places: 101, category: x}]", "home", "boosts[0].places", "<= 100"),
    ("    boosts: [{name: sale, places: 10}]", "home", "boosts[0]", "give category or where"),
    ("    diversity: {relevance: 1.1}", "home", "diversity.relevance", "<= 1"),
    ("    exploration: {uniform_share: 0.2}", "home", "exploration.uniform_share", "<= 0.1"),
    ("    exploration: {temperature: 0.001}", "home", "exploration", "0 or at least 0.02"),
    ("    exploration: {temperature: hot}", "home", "exploration.temperature", "Expected `float`"),
    ("  Cart: {}", "Cart", "", "a letter first"),
    ("  7: {}", "7", "", "a letter first"),
    ("  probe: {}", "probe", "", "leave it out"),
]


@pytest.mark.parametrize(("lines", "surface", "field", "told"), MISTAKES, ids=[lines for lines, _, _, _ in MISTAKES])
def test_a_mistake_is_told_in_one_sentence_with_file_surface_field_and_remedy(
    file: Path, lines: str, surface: str, field: str, told: str
) -> None:
    with pytest.raises(SurfacesBroken) as raised:
        read_rules(write(file, f"{HOME}{lines}\n"))
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert str(file) in sentence
    assert f"surface {surface!r}" in sentence or f"surface {surface}" in sentence
    assert f"field {field}: " in sentence or not field
    assert told in sentence


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "one key, `surfaces`"),
        ("surfaces: [home]", "one key, `surfaces`"),
        ("surface: {home: {}}", "one key, `surfaces`"),
        ("surfaces: {home: {}}\nmore: 1", "one key, `surfaces`"),
        ("surfaces: {cart: {}}", "no surface 'home'"),
        ("surfaces: {home: {}, home: {}}", "'home' stands twice, line 1"),
        (f"{HOME}    pins: []\n    pins: []", "'pins' stands twice, line 3"),
        ("surfaces: [", "cannot be read"),
        ("surfaces: &a {home: *a}", "surface 'home'"),
        ("\u0000", "cannot be read"),
    ],
)
def test_a_file_that_holds_no_surfaces_is_refused(file: Path, text: str, told: str) -> None:
    with pytest.raises(SurfacesBroken, match=re.escape(told)):
        read_rules(write(file, text))


def test_the_version_is_that_of_the_rules_and_not_of_their_layout(file: Path) -> None:
    def version(text: str) -> str:
        return SurfacesFile(write(file, text), {"like": 0.5}, lambda: 0.0).current()["home"].version

    first = version("surfaces: {home: {exploration: {temperature: 0.5, pool: 50}}}")
    assert re.fullmatch(r"[0-9a-f]{12}", first)
    assert (
        version("# as before\nsurfaces:\n  home:\n    exploration:\n      pool: 50\n      temperature: 0.5\n") == first
    )
    assert version("surfaces: {home: {exploration: {temperature: 0.5, pool: 51}}}") != first
    assert in_force(BUILT_IN_RULES, {"like": 0.5})["home"].version != BUILT_IN["home"].version


def test_weights_of_the_setting_hold_where_a_surface_sets_none(file: Path) -> None:
    write(file, "surfaces: {home: {}, cart: {weights: {purchase: 2}}, plain: {weights: {}}}")
    surfaces = SurfacesFile(file, {"like": 0.5}, lambda: 0.0).current()
    assert {name: surface.weights for name, surface in surfaces.items()} == {
        "home": {"like": 0.5},
        "cart": {"purchase": 2},
        "plain": {},
        "probe": {"like": 0.5},
    }


def test_a_change_of_the_file_holds_without_a_restart(file: Path) -> None:
    now = [0.0]
    surfaces = SurfacesFile(write(file, "surfaces: {home: {}}"), {}, lambda: now[0])
    before = surfaces.current()
    write(file, "surfaces: {home: {}, cart: {}}")
    assert surfaces.current() is before
    now[0] += 1.0
    after = surfaces.current()
    assert set(after) == {"home", "cart", "probe"}
    assert set(before) == {"home", "probe"}
    assert after["home"].version != before["home"].version


def test_a_broken_change_leaves_the_old_rules_and_is_told_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    surfaces = SurfacesFile(write(file, "surfaces: {home: {}}"), {}, lambda: now[0])
    before = surfaces.current()

    def later(times: int) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            for _ in range(times):
                now[0] += 1.0
                assert surfaces.current() is before
        return [record.getMessage() for record in caplog.records]

    write(file, "surfaces: {home: {pin: []}}")
    [told] = later(3)
    assert "the old surfaces stay in force" in told
    assert "did you mean `pins`?" in told
    file.unlink()
    [told] = later(3)
    assert "cannot be read" in told
    write(file, "surfaces: {home: {}, cart: {}}")
    now[0] += 1.0
    assert set(surfaces.current()) == {"home", "cart", "probe"}


def test_a_broken_file_refuses_the_start(file: Path, tmp_path: Path) -> None:
    write(file, "surfaces: {home: {pin: []}}")
    settings = Settings(
        home=tmp_path,
        kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1", erasure_key="k" * 40),
        serving=ServingSettings(surfaces_file=file),
    )
    settings = settings.model_copy(
        update={"store": settings.store.model_validate({"redis_url": "redis://127.0.0.1:1/0"})}
    )
    for start in (lambda: serve("recommender", settings, {}), lambda: build_recommender(settings, CollectorRegistry())):
        with pytest.raises(SurfacesBroken, match="did you mean `pins`") as raised:
            start()
        assert raised.value.exit_code == 2
