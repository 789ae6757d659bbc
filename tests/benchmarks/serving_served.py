"""`served`: the running recommender under closed and open loops, beside a bare uvicorn endpoint in the same run."""

import http.client
import json
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from rich.console import Group
from rich.table import Table
from serving_load import Load
from serving_process import memory_mb, used
from serving_send import send
from serving_stack import Stack
from serving_world import World

KEY = "served"
CPU_MS = 2.0
"""The most CPU-ms of the worker a request may take with every connection busy."""

_WARM_S, _RANKED = 3.0, 100
_SAMPLE = re.compile(r'^flywheel_stage_seconds_(sum|count)\{stage="(\w+)"\} (\S+)$', re.MULTILINE)


def run(stack: Stack, world: World, options: Namespace) -> dict[str, Any]:
    """Measure every route and loop one after another."""
    report: dict[str, Any] = {"ready_s": stack.ready_s, "again_s": stack.again_s, "routes": []}
    routes = list(_routes(stack, world))
    for name, load in routes:
        send(msgspec.structs.replace(load, connections=8, seconds=_WARM_S), f"warming {name}")
    report["memory_mb"] = {"start": memory_mb(stack.pids["recommender"])}
    for name, load in routes:
        report["routes"] += [_measured(name, stack, loop) for loop in _loops(load, options)]
    if options.soak:
        load = msgspec.structs.replace(routes[0][1], connections=8, seconds=86_400, requests=options.soak)
        report["routes"].append(_measured("soak", stack, load))
    report["memory_mb"]["end"] = memory_mb(stack.pids["recommender"])
    report["failed"] = list(_failed(report))
    return report


def table(report: dict[str, Any]) -> Group:
    """Return the loads, the stages, and what the processes took."""
    loads = Table(title="Loads: wall ms, and CPU-ms a request of the serving process and of all, the generator apart")
    for name in ("route", "loop", "requests", "a second", "p50", "p99", "p99.9", "CPU-ms", "all", "a core", "vs bare"):
        loads.add_column(name)
    bare = {row["loop"]: row["cpu_ms"] for row in report["routes"] if row["route"] == "bare"}
    for row in report["routes"]:
        ms, ratio = row["ms"], row["cpu_ms"] / bare[row["loop"]] if row["loop"] in bare else float("nan")
        loads.add_row(
            row["route"],
            row["loop"],
            str(row["requests"]),
            *(f"{value:.1f}" for value in (row["per_s"], ms["p50"], ms["p99"], ms["p99.9"])),
            *(f"{value:.3f}" for value in (row["cpu_ms"], row["cpu_ms_all"])),
            f"{row['per_core_s']:.0f}",
            f"{ratio:.1f}",
        )
    stages = Table(title="Stages of a recommendation, mean wall ms, by the service's own metrics")
    rows = [row for row in report["routes"] if row["route"] == "recommend"]
    stages.add_column("stage")
    for row in rows:
        stages.add_column(row["loop"])
    for stage in rows[0]["stages_ms"]:
        stages.add_row(stage, *(f"{row['stages_ms'][stage]:.3f}" for row in rows))
    memory = report["memory_mb"]
    held = "; ".join(f"{at}: RSS {memory[at]['rss']:.0f} MB, PSS {memory[at]['pss']:.0f} MB" for at in memory)
    ready = f"ready after {report['ready_s']:.1f} s from the log, after {report['again_s']:.1f} s from a snapshot"
    return Group(loads, stages, f"{ready}; then {held}")


def _loops(load: Load, options: Namespace) -> Iterator[Load]:
    for connections in (1, 8):
        yield msgspec.structs.replace(load, connections=connections, seconds=options.seconds)
    for rate in options.rates:
        yield msgspec.structs.replace(load, connections=8, seconds=options.seconds, rate=float(rate))


def _routes(stack: Stack, world: World) -> Iterator[tuple[str, Load]]:
    """Yield the routes with what to send; /v1/rank where the service has it."""
    before, users = '{"user_id":"user-', world.spec.users
    plain = Load(
        port=stack.port,
        path="/v1/recommend",
        before=before,
        after='","n":20}',
        users=users,
        connections=1,
        seconds=0,
    )
    yield "recommend", plain
    if field := _rank_field(stack.port):
        items = json.dumps(world.item_ids[:: max(len(world.item_ids) // _RANKED, 1)][:_RANKED])
        yield "rank", msgspec.structs.replace(plain, path="/v1/rank", after=f'","{field}":{items}}}')
    yield "bare", msgspec.structs.replace(plain, port=stack.bare_port, path="/")


def _rank_field(port: int) -> str | None:
    """Return the field of /v1/rank that takes the items, None without such a route."""
    document = json.loads(_get(port, "/docs.json"))
    if "/v1/rank" not in document["paths"]:
        return None
    text = json.dumps(document["paths"]["/v1/rank"]["post"]["requestBody"])
    name = text.partition("#/components/schemas/")[2].partition('"')[0]
    fields = document["components"]["schemas"][name]["properties"]
    return next((field for field in ("item_ids", "items", "candidates") if field in fields), None)


def _measured(name: str, stack: Stack, load: Load) -> dict[str, Any]:
    server = "bare" if name == "bare" else "recommender"
    stages, before = _stages(stack.port), used(stack.pids)
    heard = send(load, name)
    cpu = used(stack.pids).since(before)
    count = sum(heard.answers.values())
    cpu_ms = 1000 * cpu[server] / count
    involved = ["bare"] if server == "bare" else [part for part in cpu if part != "bare"]
    return {
        "route": name,
        "loop": f"c={load.connections}" if load.rate is None else f"{load.rate:.0f}/s",
        "requests": count,
        "per_s": count / heard.wall_s,
        "per_core_s": 1000 / cpu_ms if cpu_ms else 0.0,
        "cpu_ms": cpu_ms,
        "cpu_ms_all": 1000 * sum(cpu[part] for part in involved) / count,
        "cpu_ms_by_process": {part: 1000 * cpu[part] / count for part in involved},
        "cpu_ms_generator": 1000 * heard.cpu_s / count,
        "stages_ms": _mean_ms(stages, _stages(stack.port)),
        **msgspec.to_builtins(heard),
    }


def _stages(port: int) -> dict[str, tuple[float, float]]:
    """Return the seconds and the number of requests of each stage so far."""
    found: dict[str, dict[str, float]] = {}
    for kind, stage, value in _SAMPLE.findall(_get(port, "/metrics")):
        found.setdefault(stage, {})[kind] = float(value)
    return {stage: (values["sum"], values["count"]) for stage, values in found.items()}


def _mean_ms(before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    gone = {stage: (now[0] - before[stage][0], now[1] - before[stage][1]) for stage, now in after.items()}
    return {stage: 1000 * seconds / count for stage, (seconds, count) in gone.items() if count}


def _get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def _failed(report: dict[str, Any]) -> Iterator[str]:
    for row in report["routes"]:
        if set(row["answers"]) != {"200"} or row["fallbacks"]:
            yield f"{row['route']} {row['loop']}: answers {row['answers']}, {row['fallbacks']} with a fallback"
        if (row["route"], row["loop"]) == ("recommend", "c=8") and row["cpu_ms"] > CPU_MS:
            yield f"{row['cpu_ms']:.2f} CPU-ms a request, above {CPU_MS}"
