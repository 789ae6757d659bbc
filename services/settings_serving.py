"""Settings of the HTTP services."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.config import ConversionName

AccessLogMode = Literal["off", "errors", "all"]


class ServingSettings(BaseModel):
    """Where the services listen, who may call them, and the bounds that keep them answering."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on; any other than loopback needs api_keys_file")
    recommender_port: int | None = Field(None, ge=1, le=65535, description="port of the recommender; unset = any free")
    collector_port: int | None = Field(None, ge=1, le=65535, description="port of the collector; unset = any free")
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="port of /metrics and /livez of `update-history` and `land`; unset = none"
    )
    recommender_workers: int = Field(1, ge=1, le=256, description="recommender processes; evaluation needs exactly 1")
    collector_workers: int = Field(
        1, ge=1, le=256, description="collector processes, each with a spool and a memory of ids of its own"
    )
    api_keys_file: Path | None = Field(None, description="file of hashed API keys; unset = no keys, loopback only")
    cors_origins: tuple[Annotated[str, Field(pattern=r"^https?://[^/*\s]+$")], ...] = Field(
        (), description='origins whose web pages may send events, as JSON such as ["https://shop.example"]'
    )

    max_body_bytes: int = Field(1_048_576, ge=1024, description="largest request body; larger ones get 413")
    max_in_flight: int = Field(256, ge=1, description="requests a process works on at once; more get 429")
    background_in_flight: int = Field(
        128, ge=1, description="requests in progress from which on those of low priority (`priority: u=5` up) get 429"
    )
    overload_in_flight: int = Field(
        192, ge=1, description="requests in progress beyond which slates are made cheaper: by the surface's `overload`"
    )
    request_deadline_ms: int = Field(5_000, ge=1, description="time for one request, evaluations aside; then 504")
    store_deadline_ms: int = Field(100, ge=1, description="time for reading the user's state; then its fallback")
    ranking_budget_ms: int = Field(
        1_000, ge=1, description="time from a request's start to its ranked candidates; else they stay as retrieved"
    )
    last_states: int = Field(
        1_000, ge=0, description="user states a process remembers for 15 minutes, for while the store is away"
    )

    impression_queue: int = Field(
        10_000, ge=1, description="impressions held in memory until they are in Kafka or in the spool; more are lost"
    )
    replay_share: float = Field(
        0.01, ge=0, le=1, description="share of impressions that carry the whole history, for `flywheel replay`"
    )
    explain_share: float = Field(
        1.0, ge=0, le=1, description="share of requests whose record is kept, for `GET /v1/explain`"
    )
    explain_records: int = Field(
        10_000, ge=0, description="newest records that a process keeps in the store, at most 32 KiB each; 0 = none"
    )
    explain_minutes: int = Field(15, ge=1, le=1_440, description="minutes that a record is kept")
    acknowledge_deadline_ms: int = Field(
        4_000,
        ge=50,
        description="time for Kafka to acknowledge an event or impression; then the spool, without one 503",
    )
    spool_folder: Path | None = Field(
        None, description="folder of the spools, on a disk that outlives the process; unset = in home"
    )
    event_spool_mb: int = Field(
        256, ge=0, description="most MB of events a collector keeps on disk while Kafka is away; 0 = none: 503"
    )
    impression_spool_mb: int = Field(
        256, ge=0, description="most MB of impressions a recommender process keeps on disk then; 0 = none: lost"
    )
    recent_events: int = Field(
        100_000, ge=0, description="event ids a collector process remembers, to call what comes again a duplicate"
    )
    event_max_age_hours: int = Field(24 * 7, ge=1, description="oldest happened_at that the collector accepts")
    event_max_ahead_seconds: int = Field(300, ge=0, description="how far ahead of our clock happened_at may be")

    access_log: AccessLogMode = Field(
        "errors", description="answers that get a JSON line on standard error: `off`, `errors` (status 500 up), `all`"
    )
    otlp_endpoint: str | None = Field(
        None, description="URL that takes OpenTelemetry traces over HTTP, such as http://host:4318/v1/traces"
    )
    trace_share: float = Field(
        0.01, ge=0, le=1, description="share of requests that are traced beside those whose caller asks for it"
    )

    task_weights: dict[ConversionName, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        {}, description='weights of conversions in the score beside the click, as JSON such as {"purchase": 0.5}'
    )
    surfaces_file: Path | None = Field(
        None, description="YAML file of the surfaces' rules, read again when it changes; unset = the built-in surfaces"
    )
    champion_poll_seconds: float = Field(10.0, gt=0, description="how often the champion is looked up")
    snapshot_seconds: float = Field(
        300.0, gt=0, description="how often what was read of the log is kept in home, for a start to go on from"
    )
    evaluation_ttl_seconds: int = Field(1_800, ge=1, description="an evaluation that is not used is dropped after this")
