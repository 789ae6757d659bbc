"""Where spools lie: what was left there is found whatever the settings want now."""

from pathlib import Path

from services.config import Settings
from services.settings_serving import ServingSettings
from services.spooling import event_spool, impression_spool, spool_folder, spool_places
from streaming.records import Record


def test_spools_of_before_are_found_when_the_settings_want_none_any_more(tmp_path: Path) -> None:
    before = Settings(home=tmp_path, namespace="shop")
    for place in (event_spool(before), impression_spool(before)):
        assert place is not None
        spool = place.claim()
        spool.append([Record(place.name, b"key", b"value")]).result(10)
        spool.close()
    none = ServingSettings(event_spool_mb=0, impression_spool_mb=0)
    now = before.model_copy(update={"serving": none})
    assert (event_spool(now), impression_spool(now)) == (None, None)
    assert spool_folder(now) == tmp_path.resolve() / "spool" / "shop"
    left = [spool.remove_where(lambda _: True) for place in spool_places(now) for spool in place.left_behind()]
    assert left == [1, 1]
