"""How the columns of a file become the fields of events."""

import codecs
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from streaming.errors import FlywheelError
from streaming.events import Interaction, ItemUpserted, Kind, UserUpserted

Entity = Literal["interactions", "items", "users"]
EVENT_TYPES: dict[str, type[Interaction | ItemUpserted | UserUpserted]] = {
    "interactions": Interaction,
    "items": ItemUpserted,
    "users": UserUpserted,
}

_GIVEN = frozenset({"received_at", "producer", "schema_version"})  # by us


class MappingBroken(FlywheelError):
    """A mapping file cannot be read or names what is not there."""

    exit_code = 2


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each row of a file is.

    `fields` names the column of each field, `constants` what is the same for every row, `kinds` which kind of
    interaction a value means, `attributes` the columns that become attributes under their own names. Numbers as times
    are in `time_unit`; text is ISO 8601. `columns` names the columns of a file without a header.
    """

    entity: Entity
    fields: dict[str, str] = {}
    constants: dict[str, str | float | bool] = {}
    kinds: dict[str, Kind] = {}
    attributes: list[str] = []
    time_unit: Literal["seconds", "milliseconds"] = "milliseconds"
    separator: str = ","
    list_separator: str = "|"
    columns: list[str] = []
    encoding: str = "utf-8"


def read_mapping(file: Path) -> Mapping:
    """Read a mapping from a YAML file; raises MappingBroken with a sentence that names the field."""
    try:
        mapping = msgspec.convert(yaml.safe_load(file.read_text(encoding="utf-8")), Mapping)
        codecs.lookup(mapping.encoding)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError, LookupError) as error:
        raise MappingBroken(f"the mapping {file} cannot be used: {' '.join(str(error).split())}") from error
    known = {*EVENT_TYPES[mapping.entity].__struct_fields__} - _GIVEN
    unknown = sorted({*mapping.fields, *mapping.constants} - known)
    if unknown:
        raise MappingBroken(
            f"the mapping {file} names {unknown[0]!r}, which {mapping.entity} do not have: "
            f"use {', '.join(sorted(known))}"
        )
    if not mapping.separator:
        raise MappingBroken(f"the mapping {file} has an empty separator: leave it out for a comma")
    return mapping
