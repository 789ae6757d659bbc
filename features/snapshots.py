"""Reading the lake without a JVM: a table at a snapshot, as Arrow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.table import Table
from sqlalchemy import make_url

from features.config import LakeSettings, require
from streaming.errors import FlywheelError
from streaming.namespace import Namespace

_ATTEMPTS = 8
_CATALOG = "lake"  # the name under which Spark's JDBC catalogue keeps its tables


class SnapshotMissing(FlywheelError):
    """The table or the snapshot asked for is not in the lake."""


@dataclass(frozen=True)
class Snapshot:
    """A table's rows at one snapshot; `snapshot_id` is None for a table that nothing was written to."""

    snapshot_id: int | None
    arrow: pa.Table


def read_table(
    lake: LakeSettings,
    namespace: Namespace,
    table: str,
    *,
    snapshot_id: int | None = None,
    columns: Sequence[str] = ("*",),
    where: BooleanExpression | None = None,
) -> Snapshot:
    """Return `columns` of a table's rows that match `where`, as of `snapshot_id` or of now; times are UTC timestamps.

    Raises SnapshotMissing when there is no such table or snapshot, and when maintenance expires it meanwhile.
    """
    loaded = _load(lake, namespace, table)
    current = loaded.current_snapshot()
    read_at = snapshot_id if snapshot_id is not None or current is None else current.snapshot_id
    if snapshot_id is not None and loaded.snapshot_by_id(snapshot_id) is None:
        raise SnapshotMissing(f"table {table!r} of namespace {namespace!r} has no snapshot {snapshot_id} any more")
    scan = loaded.scan(
        row_filter=where if where is not None else AlwaysTrue(), selected_fields=tuple(columns), snapshot_id=read_at
    )
    try:
        return Snapshot(read_at, scan.to_arrow())
    except FileNotFoundError as error:
        raise SnapshotMissing(
            f"snapshot {read_at} of table {table!r} of namespace {namespace!r} expired while it was read, or its files "
            f"are lost: read the table again ({error})"
        ) from error


def read_batches(lake: LakeSettings, namespace: Namespace, table: str) -> Iterator[pa.RecordBatch]:
    """Yield a table's rows as of now in batches, so that memory bounds no table; raises SnapshotMissing."""
    yield from _load(lake, namespace, table).scan().to_arrow_batch_reader()


def current_snapshot_id(lake: LakeSettings, namespace: Namespace, table: str) -> int | None:
    """Return the id of the table's newest snapshot, None when nothing was written to it."""
    current = _load(lake, namespace, table).current_snapshot()
    return current.snapshot_id if current is not None else None


def snapshot_ids(lake: LakeSettings, namespace: Namespace, table: str) -> set[int]:
    """Return the snapshots at which a table can still be read; raises SnapshotMissing."""
    return {snapshot.snapshot_id for snapshot in _load(lake, namespace, table).snapshots()}


def pin_snapshot(lake: LakeSettings, namespace: Namespace, table: str, snapshot_id: int, tag: str) -> bool:
    """Tag a snapshot, so that maintenance keeps it for as long as the tag is there; a tag that is there moves.

    Returns whether there still is such a snapshot. Raises SnapshotMissing without the table, and
    pyiceberg.exceptions.CommitFailedException when it loses against other commits time after time.
    """
    for attempt in range(_ATTEMPTS):
        found = _load(lake, namespace, table)
        if found.snapshot_by_id(snapshot_id) is None:
            return False
        try:
            with found.manage_snapshots() as snapshots:
                snapshots.create_tag(snapshot_id, tag)
        except CommitFailedException:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            break
    return True


def open_catalog(lake: LakeSettings, *, create: bool = False) -> Catalog:
    """Return the Iceberg catalogue that Spark writes to; raises SnapshotMissing before anything was landed.

    With `create` an SQL catalogue that is not there is made.
    """
    properties = file_properties(lake)
    uri = require(lake.uri, "lake.uri")
    if lake.catalog == "rest":
        return load_catalog(_CATALOG, type="rest", uri=uri, **properties)
    if lake.catalog == "sqlite" and create:
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
    elif lake.catalog == "sqlite" and not Path(uri).exists():
        raise SnapshotMissing(f"there is no lake at {uri}: run `flywheel land` first")
    # Spark makes the catalogue's tables; making them here as well would race with it.
    properties["init_catalog_tables"] = str(create).lower()
    return load_catalog(_CATALOG, type="sql", uri=_sqlalchemy_url(lake, uri), **properties)


def file_properties(lake: LakeSettings) -> dict[str, str]:
    """Return pyiceberg's properties of the lake's files; raises PlaceMissing when their place is not known."""
    properties = {"warehouse": require(lake.warehouse, "lake.warehouse")}
    if lake.on_s3 and lake.s3_endpoint is not None:
        properties["s3.endpoint"] = lake.s3_endpoint
    if lake.on_s3 and lake.s3_region is not None:
        properties["s3.region"] = lake.s3_region
    return properties


def _load(lake: LakeSettings, namespace: Namespace, table: str) -> Table:
    try:
        return open_catalog(lake).load_table((namespace, table))
    except NoSuchTableError as error:
        raise SnapshotMissing(f"namespace {namespace!r} has no table {table!r}: run `flywheel land` first") from error


def _sqlalchemy_url(lake: LakeSettings, uri: str) -> str:
    if lake.catalog == "sqlite":
        return f"sqlite:///{uri}"
    url = make_url(uri.removeprefix("jdbc:")).set(drivername="postgresql+psycopg2")
    if lake.catalog_user is not None:
        url = url.set(username=lake.catalog_user)
    if lake.catalog_password is not None:
        url = url.set(password=lake.catalog_password.get_secret_value())
    return url.render_as_string(hide_password=False)
