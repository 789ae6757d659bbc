import os
import subprocess
from pathlib import Path

import pytest

from streaming.embedded.java import java, java_home, trust_store_options, user_cache


def test_java_home_runs_java_21_and_drops_the_module_that_the_runtime_lacks(tmp_path: Path) -> None:
    executable = java_home(tmp_path) / "bin" / "java"
    argv = [str(executable), "--add-modules=jdk.incubator.vector", "-Dword=two words", "-version"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert 'version "21.' in done.stderr
    assert java_home(tmp_path) == executable.parent.parent


def test_without_a_private_ca_java_keeps_its_own_trust(tmp_path: Path) -> None:
    assert trust_store_options(tmp_path, {}) == []
    assert list(tmp_path.iterdir()) == []


def test_java_reads_the_private_ca_from_the_trust_store(tmp_path: Path) -> None:
    keys, bundle = tmp_path / "keys", tmp_path / "ca.pem"
    secret = ["-keystore", str(keys), "-storepass", "secret"]
    _keytool("-genkeypair", "-alias", "a", "-keyalg", "EC", "-dname", "CN=Shop CA", "-ext", "bc:c", *secret)
    bundle.write_text(_keytool("-exportcert", "-rfc", "-alias", "a", *secret))
    options = trust_store_options(tmp_path / "cache", {"SSL_CERT_FILE": str(bundle)})
    store = options[0].removeprefix("-Djavax.net.ssl.trustStore=")
    listed = _keytool("-list", "-v", "-keystore", store, "-storepass", "changeit")
    assert "Owner: CN=Shop CA" in listed
    assert "Entry type: trustedCertEntry" in listed


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CACHE_HOME": "/somewhere"}, Path("/somewhere/flywheel")),
        ({"XDG_CACHE_HOME": ""}, Path.home() / ".cache" / "flywheel"),
        ({}, Path.home() / ".cache" / "flywheel"),
    ],
)
def test_the_cache_is_where_the_user_keeps_caches(environ: dict[str, str], expected: Path) -> None:
    assert user_cache(environ) == expected


def _keytool(*arguments: str) -> str:
    argv = [str(java().parent / "keytool"), "-J-Duser.language=en", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True, env=os.environ).stdout
