"""Settings of the lake and of the online store."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from streaming.errors import FlywheelError


class LakeSettings(BaseModel):
    """Where the lake's catalogue and files are, and how Spark runs.

    Unset places lie under the home folder; `under` fills them in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    catalog: Literal["sqlite", "jdbc", "rest"] = Field(
        "sqlite", description="Iceberg catalogue; sqlite serves one machine with a local disk only"
    )
    uri: str | None = Field(
        None,
        description="address of the catalogue: a file path, a JDBC URL of PostgreSQL, or a REST URL; unset = in home",
    )
    catalog_user: str | None = Field(None, description="user of a JDBC catalogue")
    catalog_password: SecretStr | None = Field(None, description="password of a JDBC catalogue")
    warehouse: str | None = Field(None, description="folder or object store URL of the lake's files; unset = in home")
    s3_endpoint: str | None = Field(None, description="URL of an object store that speaks S3; unset = AWS")
    s3_region: str | None = Field(None, description="region of the object store; unset = as AWS's own variables say")
    checkpoints: str | None = Field(
        None, description="folder of the landing checkpoints, which may be lost at no cost; unset = in home"
    )
    spark_master: str = Field("local[2]", description="Spark master, for example spark://host:7077")
    driver_memory: str = Field("1g", pattern=r"^[1-9]\d*[mg]$", description="heap of the Spark driver")
    shuffle_partitions: int = Field(2, ge=1, le=10_000, description="partitions of a Spark shuffle")
    trigger_seconds: int = Field(30, ge=1, le=3600, description="seconds between two landing batches")
    max_records_per_batch: int = Field(500_000, ge=1, description="most records that one landing batch reads")
    audit_minutes: int = Field(60, ge=0, description="minutes between two audits of a running `land`; 0 = none")
    snapshots_kept: int = Field(20, ge=1, le=10_000, description="snapshots that maintenance keeps of a table")

    def under(self, home: Path) -> Self:
        """Return these settings with every unset place put under `home`."""
        lake = home / "lake"
        return self.model_copy(
            update={
                "uri": self.uri or (str(lake / "catalog.db") if self.catalog == "sqlite" else None),
                "warehouse": self.warehouse or (lake / "warehouse").absolute().as_uri(),
                "checkpoints": self.checkpoints or (lake / "checkpoints").absolute().as_uri(),
            }
        )

    @property
    def on_s3(self) -> bool:
        """Whether the lake's files are in an object store that speaks S3."""
        return (self.warehouse or "").startswith("s3://")


class StoreSettings(BaseModel):
    """Where the online store is and what it keeps.

    Without `redis_url` the embedded stack starts a Valkey of its own on loopback.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    redis_url: SecretStr | None = Field(None, description="redis://… of Redis or Valkey; unset = embedded Valkey")
    port: int | None = Field(None, ge=1, le=65535, description="port of the embedded Valkey; unset = a free one")
    registry: str | None = Field(None, description="path or URL of Feast's registry folder; unset = in home")
    history_length: int = Field(1000, ge=1, le=10_000, description="newest interactions kept per user")
    feature_max_age_days: int = Field(
        400, ge=1, le=36_500, description="days after which stored user features count as absent"
    )

    def under(self, home: Path) -> Self:
        """Return these settings with every unset place put under `home`."""
        return self.model_copy(update={"registry": self.registry or str((home / "feast").absolute())})


class PlaceMissing(FlywheelError):
    """A place that the settings leave to the composition root was not filled in."""


def require(value: str | None, name: str) -> str:
    """Return a place that must be known by now; raises PlaceMissing naming the setting."""
    if value is None:
        raise PlaceMissing(f"{name} is not set: set FLYWHEEL_{name.upper().replace('.', '__')} or give a home folder")
    return value


def store_url(store: StoreSettings) -> str:
    """Return the online store's URL; raises PlaceMissing when no store is known."""
    return require(store.redis_url.get_secret_value() if store.redis_url else None, "store.redis_url")
