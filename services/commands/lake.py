"""Commands of the slow path: landing, features, materialisation, accounting, maintenance."""

import sys
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from services.commands.common import (
    INTERRUPTED,
    AsJson,
    console,
    moment,
    need_lake,
    open_lake,
    show,
    show_found,
    stop_on_signal,
)

if TYPE_CHECKING:
    from features.batch import Landing
    from features.skew import FeatureSkew

AsOf = Annotated[str | None, typer.Option(help="Moment that decides what is known, ISO 8601 with zone; now if unset.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("land")(land)
    app.command("build-features")(build_features)
    app.command("materialise")(materialise)
    app.command("skew")(skew)
    app.command("audit")(audit)
    app.command("maintain")(maintain)
    app.command("migrate")(migrate)


def land(
    available_now: Annotated[bool, typer.Option("--available-now", help="Land what is there, then end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Land Kafka's topics in the lake, until stopped or with --available-now."""
    from features.lease import LANDER, refuse_while_held
    from services.config import load_settings

    asked = load_settings()
    refuse_while_held(asked.store, asked.topics.namespace, LANDER)  # before Spark starts
    from prometheus_client import CollectorRegistry

    from features.landing import Lander
    from features.landing import land as run
    from features.recent import RecentItems
    from services.auditing import Auditor, auditing
    from services.landing_metrics import LandingMetrics
    from services.metrics_server import metrics_server

    settings, spark = open_lake()
    stop = threading.Event()
    stop_on_signal(stop)
    lander = Lander(
        spark,
        settings.kafka,
        settings.lake.under(settings.home),
        settings.store.under(settings.home),
        settings.topics,
        lambda: time.time_ns() // 1_000_000,
        RecentItems(settings.store.under(settings.home), settings.topics.namespace),
    )

    registry = CollectorRegistry()
    metrics = LandingMetrics(registry)

    def progress(landings: "list[Landing]") -> None:
        metrics.landed(landings)
        records, inserted = sum(part.records for part in landings), sum(part.inserted for part in landings)
        console().print(f"landed {inserted} of {records} records", highlight=False)

    serving, auditor = settings.serving, Auditor(lander, metrics, 60.0 * settings.lake.audit_minutes)
    # A query that fails ends the process, so as long as it answers it is alive.
    port = None if available_now else serving.metrics_port
    with metrics_server(serving.host, port, registry, lambda: True), auditing(auditor):
        result = run(lander, available_now=available_now, stop=stop, progress=progress)
    show("Landed", [msgspec.to_builtins(landing) for landing in result.landings], as_json)
    if available_now and stop.is_set():
        raise typer.Exit(INTERRUPTED)


def build_features(as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Recompute the feature tables and the training examples with their features as of their time."""
    from services.derived import applied_store, write_features

    now = moment(as_of)
    settings, spark = open_lake()
    written = write_features(settings, spark, applied_store(settings), now)
    rows = [
        {"table": name, "rows": table.rows, "snapshot_id": str(table.snapshot_id)} for name, table in written.items()
    ]
    show("Written", rows, as_json)


def materialise(as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Write every user's and item's newest features into the online store."""
    from services.derived import applied_store
    from services.derived import materialise as run

    now = moment(as_of)
    settings, spark = open_lake()
    counts = run(settings, spark, applied_store(settings), now)
    show("Materialised", [{"view": view, "rows": rows} for view, rows in counts.items()], as_json)


def skew(
    hours: Annotated[float, typer.Option(min=0.01, help="How far back the requests go.")] = 24.0,
    as_of: AsOf = None,
    limit: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit 1 when a feature differs in a larger share.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the user features that requests were served with to what training joins for them, feature by feature."""
    from services.config import load_settings

    until = moment(as_of)
    need_lake(load_settings())
    from features.skew import Served, measure_skew
    from services.derived import applied_store
    from services.recommend.state import STORE_DOWN

    settings, spark = open_lake()
    served = Served(until - timedelta(hours=hours), until, (STORE_DOWN,))
    found = measure_skew(spark, settings.topics.namespace, applied_store(settings), served)
    rows = [msgspec.to_builtins(one) if as_json else _in_short(one) for one in found]
    show(f"Skew over {found[0].requests} requests", rows, as_json)
    if limit is not None and any(one.share is not None and one.share > limit for one in found):
        sys.exit(1)


def audit(
    until: Annotated[
        str | None, typer.Option(help="Balance what was appended before, ISO 8601 with zone; all of it if unset.")
    ] = None,
    settled: Annotated[
        bool, typer.Option("--settled", help="Balance what was appended up to ten minutes ago and should have landed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Balance what is in Kafka with what is in the lake, and list what differs by offset; exit 1 on any difference."""
    if until is not None and settled:
        raise typer.BadParameter("--until and --settled both say what is balanced: leave one out")
    from features.accounting import audit as balance
    from services.auditing import settled_until

    before = None if until is None else int(moment(until).timestamp() * 1000)
    if settled:
        before = settled_until(time.time_ns() // 1_000_000)
    settings, spark = open_lake()
    accounting = balance(spark, settings.kafka, settings.topics, before)
    if as_json:
        differences = [msgspec.to_builtins(one) for one in accounting.differences]
        show_found({"partitions": accounting.rows(), "differences": differences}, str, as_json)
    else:
        show("Audit", accounting.rows(), as_json)
        if accounting.differences:
            show("Differences", [msgspec.to_builtins(one) for one in accounting.differences], as_json)
    accounting.check()


def maintain(as_json: AsJson = False) -> None:
    """Compact the lake's small files, expire old snapshots and remove what nothing points to."""
    from features.maintenance import maintain as run

    settings, spark = open_lake()
    kept = settings.lake.snapshots_kept
    show("Maintained", run(spark, settings.topics.namespace, kept), as_json)


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the lake's tables to this release: create what is missing, add columns, set properties; remove nothing."""
    from features.lake import changed_properties, missing_parts

    settings, spark = open_lake()
    namespace = settings.topics.namespace
    rows = []
    for find in (missing_parts, changed_properties):
        for change in find(spark, namespace):
            rows.append({"table": change.table, "change": change.what})
            if not dry_run:
                spark.sql(change.statement)
    show("Would change" if dry_run else "Changed", rows, as_json)


def _in_short(skew: "FeatureSkew") -> dict[str, str]:
    """Return a row that fits a terminal."""
    share, difference = ("-" if value is None else f"{value:.4g}" for value in (skew.share, skew.mean_difference))
    return {
        "feature": skew.feature,
        "differ": f"{skew.differing} of {skew.compared}",
        "share": share,
        "one_side": str(skew.only_served + skew.only_joined),
        "mean_difference": difference,
    }
