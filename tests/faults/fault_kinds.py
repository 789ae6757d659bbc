"""The faults: each does its harm to a running world, ends it, and leaves the world to recover."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from fault_checks import command
from fault_disk import filled
from fault_load import Load
from fault_world import World, wait_for
from kafka import KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from pyiceberg.expressions import EqualTo

from features.config import require
from features.snapshots import SnapshotMissing, read_table
from features.updater import group_of
from services.config import Settings
from streaming.config import client_options
from streaming.ids import UserId

Fault = Callable[["Scene"], None]


class Scene:
    """The world, the load on it, how long faults last; how many poison records were sent, the event ids of users who
    were erased, and how often a lander was killed between the lake's commit and its checkpoint's.
    """

    def __init__(self, world: World, load: Load, longest_s: float) -> None:
        self.world, self.load, self.rng, self.longest_s = world, load, world.rng, longest_s
        self.poison = 0
        self.erased: dict[UserId, list[str]] = {}
        self.between_commits = 0

    def wait(self, shortest_s: float, longest_s: float) -> None:
        """Let a random time pass in which what has ended is started again."""
        until = time.monotonic() + self.rng.uniform(shortest_s, longest_s)
        wait_for("time passes", lambda: time.monotonic() >= until, longest_s + 30, self.world.tend)

    def stay(self, times: int = 1) -> None:
        """Let the harm last, up to `times` the longest that faults last."""
        self.wait(self.longest_s / 10, self.longest_s * times)


def _killed(name: str) -> Fault:
    def fault(scene: Scene) -> None:
        scene.world.signal(name, signal.SIGKILL)
        scene.wait(0, 2)
        if name in ("broker", "store"):
            scene.world.start(name)

    return fault


def _stopped(name: str) -> Fault:
    def fault(scene: Scene) -> None:
        scene.world.signal(name, signal.SIGSTOP)
        scene.stay()
        scene.world.signal(name, signal.SIGCONT)

    return fault


def broker_unreachable(scene: Scene) -> None:
    """No client reaches the broker, eight times as long as other faults last: in the long suite up to two minutes."""
    scene.world.broker_proxy.refuse(True)
    scene.stay(8)
    scene.world.broker_proxy.refuse(False)


def connections_reset(scene: Scene) -> None:
    """Connections to broker and store are reset, several times."""
    for _ in range(5):
        scene.world.broker_proxy.reset()
        scene.world.store_proxy.reset()
        scene.wait(0, 1)


def latency(scene: Scene) -> None:
    """Broker and store answer 200 ms later in each direction."""
    for proxy in (scene.world.broker_proxy, scene.world.store_proxy):
        proxy.delay(0.2)
    scene.stay()
    for proxy in (scene.world.broker_proxy, scene.world.store_proxy):
        proxy.delay(0)


def rebalance_storm(scene: Scene) -> None:
    """Members join the updaters' group, are given partitions and leave without having committed."""
    settings = scene.world.settings
    for _ in range(4):
        member = KafkaConsumer(
            **client_options(settings.kafka),
            group_id=group_of(settings.topics.namespace),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(CooperativeStickyAssignor,),
        )
        try:
            member.subscribe([settings.topics.interactions])
            until = time.monotonic() + scene.rng.uniform(0.5, 3)
            while time.monotonic() < until:
                member.poll(timeout_ms=100)
                scene.world.tend()
        finally:
            member.close()


def two_landers(scene: Scene) -> None:
    """A second lander is started; one of the two must give way: the second, or the first where its lease ran out."""
    log = scene.world.home / "logs" / "lander.log"
    before = log.stat().st_size
    second = scene.world.command("lander", "--available-now")
    try:
        wait_for("the second lander ends", lambda: not second.running, 120, scene.world.tend)
        words = "\n".join(second.tail(20))
        first = log.read_bytes()[before:].decode(errors="replace")
        gave_way = "one is enough" in words or "one is enough" in first or "the lease of the lander ran out" in first
        assert gave_way, f"both landers were at work; the second said: {words}"
    finally:
        second.stop()


def erased_after_a_crash(scene: Scene) -> None:
    """The lander is killed once the lake has a user's events, and the user is erased before it goes on."""
    settings = scene.world.settings
    user = UserId(f"erased-{len(scene.erased)}")
    ids = [f"{user}-{number}" for number in range(20)]
    now = time.time_ns() // 1_000_000
    event = {"user_id": user, "item_id": "item-1", "kind": "click", "happened_at": now}
    _post(scene, {"events": [event | {"event_id": event_id} for event_id in ids]})
    scene.erased[user] = ids
    wait_for("the lake has what is to be erased", lambda: _has_landed(settings, user), 240, scene.world.tend)
    scene.world.signal("lander", signal.SIGKILL)
    scene.between_commits += _batch_is_open(settings)
    command(settings, "erase", user)


def poison(scene: Scene) -> None:
    """Records that do not decode, or break a rule, come into the log by another way."""
    settings = scene.world.settings
    bad = [b"\x00 not json", b"{}", b"[1, 2]", json.dumps({"type": "interaction", "event_id": 7}).encode()]
    producer = KafkaProducer(**client_options(settings.kafka), acks="all")
    try:
        for value in bad:
            producer.send(settings.topics.interactions, value=value, key=b"user-1").get(timeout=60)
            scene.poison += 1
    finally:
        producer.close()


def duplicates(scene: Scene) -> None:
    """Batches that were acknowledged are sent again, newest first."""
    for of_user in list(scene.load.log.acknowledged.values()):
        names = ("event_id", "user_id", "item_id", "kind", "happened_at")
        events = [{name: getattr(sent, name) for name in names} for sent in reversed(of_user[-20:])]
        if events:
            _post(scene, {"events": events})


def bad_requests(scene: Scene) -> None:
    """Events from the future and from long ago are refused with their field, bodies over the limit with 413."""
    now = time.time_ns() // 1_000_000
    for happened_at in (now + 3_600_000, now - 400 * 86_400_000):
        event = {"user_id": "user-0", "item_id": "item-1", "kind": "click", "happened_at": happened_at}
        answer = _post(scene, {"events": [event]})
        assert answer.status_code in (400, 422), answer.text
        assert "happened_at" in answer.text
    assert _post(scene, {"events": [{"user_id": "x" * 2_000_000}]}).status_code == 413


def clock_stepped(scene: Scene) -> None:
    """The clocks of all processes jump, forth or back, and return."""
    scene.world.clock_offset.write_text(str(scene.rng.choice((-1, 1)) * scene.rng.uniform(30, 240)))
    scene.stay()
    scene.world.clock_offset.write_text("0")


def spool_disk_full(scene: Scene) -> None:
    """The broker is away and the spool's disk is full: events are refused with 503, none is lost."""
    with filled(scene.world.home / "spool"):
        scene.world.broker_proxy.refuse(True)
        scene.stay()
        scene.world.broker_proxy.refuse(False)


def lake_disk_full(scene: Scene) -> None:
    """The lander cannot write."""
    with filled(scene.world.home / "lake"):
        scene.stay()


FAULTS: dict[str, Fault] = {
    "broker_killed": _killed("broker"),
    "broker_stopped": _stopped("broker"),
    "broker_unreachable": broker_unreachable,
    "collector_killed": _killed("collector"),
    "collector_stopped": _stopped("collector"),
    "updater_killed": _killed("updater"),
    "updater_stopped": _stopped("updater"),
    "lander_killed": _killed("lander"),
    "lander_stopped": _stopped("lander"),
    "store_killed": _killed("store"),
    "connections_reset": connections_reset,
    "latency": latency,
    "rebalance_storm": rebalance_storm,
    "two_landers": two_landers,
    "erased_after_a_crash": erased_after_a_crash,
    "poison": poison,
    "duplicates": duplicates,
    "bad_requests": bad_requests,
    "clock_stepped": clock_stepped,
}
DISK_FAULTS: dict[str, Fault] = {"spool_disk_full": spool_disk_full, "lake_disk_full": lake_disk_full}
"""Those that need small disks of their own."""


def _has_landed(settings: Settings, user: UserId) -> bool:
    lake, namespace = settings.lake.under(settings.home), settings.topics.namespace
    try:
        found = read_table(lake, namespace, "interactions", columns=("user_id",), where=EqualTo("user_id", user))
    except SnapshotMissing:  # nothing has landed yet
        return False
    return bool(found.arrow.num_rows)


def _batch_is_open(settings: Settings) -> bool:
    """Whether the landing checkpoint knows of a batch that has begun and not ended."""
    folder = require(settings.lake.under(settings.home).checkpoints, "lake.checkpoints")
    checkpoint = Path(urlsplit(folder).path) / settings.topics.namespace

    def newest(log: str) -> int:
        return max((int(path.name) for path in (checkpoint / log).glob("[0-9]*")), default=-1)

    return newest("offsets") > newest("commits")


def _post(scene: Scene, body: object) -> httpx.Response:
    answers: list[httpx.Response] = []

    def answered() -> bool:
        try:
            answer = httpx.post(f"{scene.world.collector_url}/v1/events", json=body, timeout=10)
        except httpx.HTTPError:
            return False
        answers.append(answer)
        return answer.status_code not in (429, 503, 504)

    wait_for("the collector answers", answered, 120, scene.world.tend)
    return answers[-1]
