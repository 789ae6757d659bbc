"""Feast's registry in an object store, where every pod finds it."""

from object_store import object_store

from features.config import StoreSettings
from features.store import FeatureStore
from streaming.namespace import Namespace


def test_what_one_process_registers_in_an_object_store_another_one_finds(
    valkey: StoreSettings, namespace: Namespace
) -> None:
    with object_store("lake") as url:
        settings = valkey.model_copy(update={"registry": f"{url}/feast"})
        first = FeatureStore(settings, namespace)
        assert not first.is_applied()
        first.apply()
        assert FeatureStore(settings, namespace).is_applied()
        assert not FeatureStore(settings, Namespace("somebody")).is_applied()
