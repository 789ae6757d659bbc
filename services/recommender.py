"""The recommender as a BentoML service, `services.recommender:recommender`; `flywheel serve recommender` runs it.

Its process never imports torch, torchrec, feast or pyspark.
"""

import time

from prometheus_client import CollectorRegistry

from features.online import OnlineReader
from features.slate_records import SlateRecordReader, SlateRecords
from models.config import artifacts_url
from models.model_store import ModelCache
from models.registry import Registry
from services.api.auth import Gate
from services.api.bento import QUIET, FrontedService, hosted
from services.config import Settings, load_settings
from services.metrics import HttpMetrics, ImpressionMetrics, RecommendMetrics, RecordMetrics
from services.random_ids import RandomIds
from services.recommend.application import Recommender
from services.recommend.champion import ChampionWatch
from services.recommend.engine import Engine
from services.recommend.evaluation import Evaluations
from services.recommend.explanations import Explanations
from services.recommend.impressions import LINGER_MS, ImpressionLog, Impressions
from services.recommend.parts import Parts
from services.recommend.pipeline import Pipeline
from services.recommend.ranker import Ranker
from services.recommend.recorder import RecordBounds, SlateRecorder
from services.recommend.similar import find_similar
from services.recommend.snapshots import Snapshots
from services.recommend.state import LastStates, UserStates
from services.recommend.surfaces import HOME
from services.recommend.surfaces_file import SurfacesFile
from services.recommend.tails import Tails, Told
from services.recommend.upkeep import Upkeep
from services.spooling import impression_spool
from streaming.ledger import Ledger
from streaming.marks import Marker
from streaming.namespace import Namespace
from streaming.outbox import Delivery, Outbox


def build_recommender(settings: Settings, metrics_registry: CollectorRegistry) -> Recommender:
    """Wire the recommender from the settings; nothing is connected yet. Raises ErasureKeyMissing."""
    serving, kafka, topics = settings.serving, settings.kafka, settings.topics
    namespace = Namespace(settings.namespace)
    metrics, impression_metrics = RecommendMetrics(metrics_registry), ImpressionMetrics(metrics_registry)
    engine, now = Engine(), lambda: time.time_ns() // 1_000_000
    reader = OnlineReader(settings.store, namespace)
    last = LastStates(serving.last_states, time.monotonic)
    erased = Ledger(Marker(kafka, namespace))
    states = UserStates(reader, serving.store_deadline_ms / 1000, settings.store.history_length, last, erased.cut)
    delivery = Delivery(serving.acknowledge_deadline_ms, LINGER_MS, impression_spool(settings))
    outbox = Outbox(kafka, topics, delivery, impression_metrics.spool.drained)
    impressions = ImpressionLog(outbox, serving.impression_queue, impression_metrics)
    recorder = SlateRecorder(
        SlateRecords(settings.store, namespace),
        RecordBounds(serving.explain_share, serving.explain_records, serving.explain_minutes),
        RecordMetrics(metrics_registry),
        now,
    )
    explanations = Explanations(engine, recorder, SlateRecordReader(settings.store, namespace))
    shown = Impressions(impressions, serving.replay_share, recorder.offer)
    models = Registry(artifacts_url(settings.model.under(settings.home)), namespace)
    champion = ChampionWatch(models, ModelCache(models, namespace), engine, serving.champion_poll_seconds)
    snapshots = Snapshots(settings.home / "catalogue" / namespace, topics.items, topics.interactions, now)
    told = Told(champion.announced, erased)
    tails = Tails(kafka, topics, engine, metrics, told, snapshots)
    ranker = Ranker(min(serving.ranking_budget_ms, serving.request_deadline_ms) / 1000, time.perf_counter)
    surfaces = SurfacesFile(serving.surfaces_file, serving.task_weights, time.monotonic)
    parts = Parts(
        engine=engine,
        pipeline=Pipeline(engine, states, shown, metrics, time.perf_counter, ranker),
        surfaces=surfaces.current,
        similar=lambda like: engine.compute(lambda live: find_similar(live, like)),
        evaluations=Evaluations(
            engine, states, lambda: surfaces.current()[HOME], serving.evaluation_ttl_seconds, time.monotonic
        ),
        explanations=explanations,
        upkeep=Upkeep(engine, tails, champion, (impressions, explanations), reader, serving.snapshot_seconds),
        metrics=(metrics, impression_metrics),
        now=now,
        new_id=RandomIds().new,
    )
    gate = Gate(serving.api_keys_file, namespace, time.monotonic)
    return Recommender(serving, gate, HttpMetrics(metrics_registry), parts)


def now() -> int:
    """Return the time, ms UTC."""
    return time.time_ns() // 1_000_000


recommender = FrontedService(
    name="recommender", inner=hosted(lambda: build_recommender(load_settings(), CollectorRegistry())), config=QUIET
)
