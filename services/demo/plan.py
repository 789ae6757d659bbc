"""What an interrupted demonstration needs to go on: its namespace, its data, its clock and what it published."""

import secrets
import shutil
from pathlib import Path

import msgspec

from streaming.namespace import Namespace
from streaming.producer import Acknowledged


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run; `now` (ms) fixes how far times are shifted. `published` counts records by topic and partition."""

    namespace: str
    data: str
    now: int
    published: list[tuple[str, int, int]] | None = None
    finished: bool = False

    @property
    def acknowledged(self) -> Acknowledged | None:
        """The acknowledged records by topic and partition, None before everything was published."""
        return None if self.published is None else {(topic, part): count for topic, part, count in self.published}


def open_plan(home: Path, data: str, now: int) -> Plan:
    """Return the plan of the run that `home` holds unfinished; else empty the folder and start a new one."""
    file = _file(home)
    if file.exists():
        plan = msgspec.json.decode(file.read_bytes(), type=Plan)
        if not plan.finished and plan.data == data:
            return plan
        shutil.rmtree(home)
    plan = Plan(namespace=Namespace(f"demo{secrets.token_hex(4)}"), data=data, now=now)
    save_plan(home, plan)
    return plan


def save_plan(home: Path, plan: Plan) -> None:
    """Write the plan in one step."""
    home.mkdir(parents=True, exist_ok=True)
    draft = _file(home).with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(plan))
    draft.replace(_file(home))


def _file(home: Path) -> Path:
    return home / "plan.json"
