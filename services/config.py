"""The composition of all settings: read once, from `FLYWHEEL_*` variables, by whatever starts a process."""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from features.config import LakeSettings, StoreSettings
from models.config import ModelSettings
from services.endpoints import read_endpoints
from services.settings_serving import ServingSettings
from streaming.config import KafkaSettings
from streaming.embedded.erasure_key import read_erasure_key
from streaming.errors import FlywheelError
from streaming.namespace import Namespace, parse_namespace
from streaming.topics import Topics

PREFIX = "FLYWHEEL_"
_DELIMITER = "__"


class ConfigurationError(FlywheelError):
    """A setting is missing, misspelt or has a value that is not allowed."""

    exit_code = 2


class Settings(BaseSettings):
    """All settings of Flywheel, one section for each folder."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=_DELIMITER,
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    namespace: Annotated[str, AfterValidator(parse_namespace)] = Field(
        "flywheel", description="prefix that keeps tenants on shared servers apart"
    )
    home: Path = Field(Path(".flywheel"), description="folder of all local state of the embedded parts")
    kafka: KafkaSettings = KafkaSettings()
    lake: LakeSettings = LakeSettings()
    store: StoreSettings = StoreSettings()
    model: ModelSettings = ModelSettings()
    serving: ServingSettings = ServingSettings()

    @property
    def topics(self) -> Topics:
        """The topic names of the namespace."""
        return Topics(Namespace(self.namespace))


def load_settings() -> Settings:
    """Read the settings from the environment; addresses that are not set come from the stack running on the home.

    Raises ConfigurationError with one sentence for each variable at fault.
    """
    _refuse_unclaimed(name for name in os.environ if name.startswith(PREFIX))
    try:
        settings = Settings()
    except (ValidationError, SettingsError) as error:
        raise ConfigurationError(_explain(error)) from error
    settings = settings.model_copy(update={"home": settings.home.resolve()})
    return _with_running_stack(settings)


def variables(model: type[BaseModel] = Settings, prefix: str = PREFIX) -> Iterator[tuple[str, Any]]:
    """Yield each variable's name and its pydantic field."""
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from variables(annotation, f"{variable}{_DELIMITER}")
        else:
            yield variable, field


def _refuse_unclaimed(found: Iterator[str]) -> None:
    claimed = [name for name, _ in variables()]
    for name in found:
        if name.upper() not in claimed:
            near = difflib.get_close_matches(name.upper(), claimed, n=1, cutoff=0)
            raise ConfigurationError(f"{name} is no setting of Flywheel: did you mean {near[0]}?")


def _explain(error: ValidationError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return f"{error}: {error.__cause__}"
    return "; ".join(
        f"{PREFIX}{_DELIMITER.join(str(part).upper() for part in problem['loc'])}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)
    )


def _with_running_stack(settings: Settings) -> Settings:
    running = read_endpoints(settings.home)
    if running is None:
        return settings
    update: dict[str, Any] = {}
    if settings.kafka.bootstrap_servers is None:
        key = settings.kafka.erasure_key or read_erasure_key(settings.home)
        found = {"bootstrap_servers": running.bootstrap_servers, "erasure_key": key}
        update["kafka"] = settings.kafka.model_copy(update=found)
    if settings.store.redis_url is None:
        update["store"] = settings.store.model_copy(update={"redis_url": SecretStr(running.redis_url)})
    return settings.model_copy(update=update)
