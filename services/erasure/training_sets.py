"""Which models have lost their training sets to an erasure, since the snapshots are gone: the registry says so."""

from functools import cache, partial

from features.config import LakeSettings
from features.lake_erasure import OF_USERS
from features.snapshots import snapshot_ids
from models.registry import Registry
from streaming.namespace import Namespace


def note_training_sets_gone(registry: Registry, lake: LakeSettings, namespace: Namespace, now: int) -> list[str]:
    """Record, `now` in ms, each model one of whose snapshots of users' tables is gone; returns those models.

    Maintenance may have taken a snapshot before: then this notices it too.
    """
    names = {table.name for table in OF_USERS}
    kept = cache(partial(snapshot_ids, lake, namespace))
    gone = []
    for version in registry.versions():
        if registry.training_set_gone_since(version) is None:
            trained_on = registry.training_snapshots(version)
            if all(trained_on[table] in kept(table) for table in names & trained_on.keys()):
                continue
            registry.note_training_set_gone(version, now)
        gone.append(version)
    return gone
