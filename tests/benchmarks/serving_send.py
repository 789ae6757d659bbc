"""Sending a load from a process of its own, so that the generator's CPU is counted apart."""

import subprocess
import sys
from pathlib import Path

import msgspec
from serving_load import Heard, Load

PROGRAM = str(Path(__file__).with_name("serving_load.py"))


def send(load: Load, name: str) -> Heard:
    """Return what came back; raises RuntimeError when the load broke off."""
    argument = msgspec.json.encode(load).decode()
    done = subprocess.run([sys.executable, PROGRAM], input=argument, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the load on {name} broke off: {done.stderr.strip().splitlines()[-1]}")
    return msgspec.json.decode(done.stdout, type=Heard)
