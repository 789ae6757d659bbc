"""The surfaces file: rules as YAML, checked whole before any of them holds, read again when it changes."""

import difflib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import msgspec.yaml
import yaml

from models.config import ConversionName
from services.recommend import surfaces
from services.recommend.surfaces import BUILT_IN_RULES, HOME, PROBE, Rules, SourceName, Surface, in_force
from streaming.errors import FlywheelError
from streaming.events import Kind

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
_SURFACE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,49}")
_CHOICES: Mapping[str, Sequence[str]] = {
    "source": get_args(SourceName),
    "weights": get_args(ConversionName),
    "kinds": [kind.value for kind in Kind],
}

Stamp = tuple[int, int, int]


class SurfacesBroken(FlywheelError):
    """The surfaces file cannot be read or holds a rule that is not allowed."""

    exit_code = 2


class SurfacesFile:
    """The surfaces in force. A change of the file holds within a second; a broken file leaves the old rules."""

    def __init__(self, file: Path | None, weights: Mapping[ConversionName, float], clock: Callable[[], float]) -> None:
        """Read the file; raises SurfacesBroken. Without a file the built-in surfaces hold. `clock` is in seconds.

        `weights` of conversions hold where a surface sets none.
        """
        self._file = file
        self._weights = weights
        self._clock = clock
        self._looked_at = clock()
        self._stamp: Stamp | None = None if file is None else _stamp(file)
        self._complaint: str | None = None
        self._surfaces = in_force(BUILT_IN_RULES if file is None else read_rules(file), weights)

    def current(self) -> Mapping[str, Surface]:
        """Return the surfaces by name; a later change makes another mapping and leaves this one as it is."""
        if self._file is not None and self._clock() - self._looked_at >= _LOOK_S:
            self._looked_at = self._clock()
            self._look(self._file)
        return self._surfaces

    def _look(self, file: Path) -> None:
        try:
            stamp = _stamp(file)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._surfaces = in_force(read_rules(file), self._weights)
        except SurfacesBroken as error:
            if self._complaint != str(error):  # once is enough, however long it stays broken
                self._complaint = str(error)
                _log.error("the old surfaces stay in force: %s", error)
            return
        self._complaint = None
        _log.warning("surfaces %r hold from now on", self._surfaces[HOME].version)


def read_rules(file: Path) -> Mapping[str, Rules]:
    """Return the rules of every surface in a file, and those of the probe; raises SurfacesBroken.

    Its one key `surfaces` holds the surfaces by name; `home` must be among them.
    """
    try:
        content = file.read_bytes()
        _refuse_repeated_keys(yaml.compose(content, Loader=yaml.CSafeLoader), set())
        found = msgspec.yaml.decode(content)
    except (OSError, yaml.YAMLError, msgspec.DecodeError, ValueError) as error:
        raise SurfacesBroken(f"the surfaces file {str(file)!r} cannot be read: {_one_line(error)}") from error
    if not isinstance(found, dict) or list(found) != ["surfaces"] or not isinstance(found["surfaces"], dict):
        raise SurfacesBroken(f"the surfaces file {str(file)!r} must hold one key, `surfaces`: rules by surface name")
    rules = {name: _rules(file, name, body) for name, body in found["surfaces"].items()}
    if HOME not in rules:
        raise SurfacesBroken(f"the surfaces file {str(file)!r} has no surface {HOME!r}, which is the default: add it")
    for name, one in rules.items():
        if one.overload is not None and (one.overload == name or one.overload not in rules):
            raise SurfacesBroken(
                f"the surfaces file {str(file)!r}: surface {name!r}, field overload: {one.overload!r} is no other "
                "surface of the file: name one of them, or leave it out"
            )
    return rules | {PROBE: BUILT_IN_RULES[PROBE]}


def _rules(file: Path, name: Any, body: Any) -> Rules:
    where = f"the surfaces file {str(file)!r}: surface {name!r}"
    if not isinstance(name, str) or not _SURFACE_NAME.fullmatch(name):
        raise SurfacesBroken(f"{where}: name it by up to 50 of a-z, 0-9, _ and -, a letter first")
    if name == PROBE:
        raise SurfacesBroken(f"{where} measures Flywheel itself and has no rules of its own: leave it out")
    try:
        return msgspec.convert({} if body is None else body, Rules)
    except msgspec.ValidationError as error:
        raise SurfacesBroken(f"{where}, {_explained(str(error))}") from error


def _explained(error: str) -> str:
    """Return a decoding error as: the field, what is wrong, what to do."""
    message, _, at = error.partition(" - at `")
    path = at.replace("key` in `", "").rstrip("`").removeprefix("$").lstrip(".") or "rules"
    return f"field {path}: {message}{_remedy(message, path)}"


def _remedy(message: str, path: str) -> str:
    last = re.sub(r"\[[^]]*\]$", "", path).rpartition(".")[2]
    unknown = re.search(r"unknown field `(.*)`", message)
    if unknown is not None:
        near = difflib.get_close_matches(unknown[1], _field_names() - {unknown[1]}, n=1, cutoff=0)
        return f": did you mean `{near[0]}`?"
    if last in _CHOICES and "enum" in message:
        return f": use one of {', '.join(_CHOICES[last])}"
    if "str`, got" in message:
        return ": put the value in quotes"
    if "missing required" in message:
        return ": add it"
    return ""


def _field_names() -> set[str]:
    parts = [part for part in vars(surfaces).values() if isinstance(part, type) and issubclass(part, surfaces.Part)]
    return {name for part in parts if part is not Surface for name in part.__struct_encode_fields__}


def _refuse_repeated_keys(node: yaml.Node | None, passed: set[int]) -> None:
    """Raise ValueError for a key that stands twice in one mapping, of which YAML would drop the first."""
    if id(node) in passed:  # a node can be named again, even within itself
        return
    passed.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"the key {key!r} stands twice, line {node.start_mark.line + 1}: leave one out")
        for _, value in node.value:
            _refuse_repeated_keys(value, passed)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(value, passed)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _stamp(file: Path) -> Stamp:
    try:
        status = file.stat()
    except OSError as error:
        raise SurfacesBroken(f"the surfaces file {str(file)!r} cannot be read: {error.strerror}") from error
    return status.st_mtime_ns, status.st_ino, status.st_size
