"""Variables for other processes, and for libraries that read theirs when they are imported."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from services.config import PREFIX, Settings


def settings_environ(settings: Settings) -> dict[str, str]:
    """Return the variables with which another process loads these very settings."""
    return dict(_variables(settings, PREFIX))


def bentoml_environ(home: Path) -> dict[str, str]:
    """Return the variables with which BentoML keeps its state in a folder of `home`, which is made; it tells nobody."""
    folder = home / "bentoml"
    folder.mkdir(parents=True, exist_ok=True)
    return {"BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}


def _variables(section: BaseModel, prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in type(section).model_fields.items():
        value, variable = getattr(section, name), f"{prefix}{name.upper()}"
        if isinstance(value, BaseModel):
            yield from _variables(value, f"{variable}__")
        elif value != field.get_default(call_default_factory=True):
            yield variable, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, str | Path) else json.dumps(value)
