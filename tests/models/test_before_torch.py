"""What torch is told before it is imported, in processes of their own."""

import subprocess
import sys

from environ import without_settings

_LOAD = """
import ctypes, os, sys
from importlib.util import find_spec
from pathlib import Path
from models.before_torch import set_up_torch
environ = dict(os.environ)
if sys.argv[1] == "set up":
    set_up_torch(environ)
import fbgemm_gpu, torch
instructions = ctypes.CDLL(str(Path(find_spec("fbgemm_gpu").origin).parent / "fbgemm.so"))
# fbgemm::fbgemmInstructionSet(), whose first value stands for any processor; FBGEMM tells it nowhere else.
found = instructions._ZN6fbgemm20fbgemmInstructionSetEv() & 255
print(found > 0, torch.backends.cpu.get_cpu_capability() != "DEFAULT", environ.get("OMP_WAIT_POLICY"))
"""


def test_fbgemm_uses_the_vector_instructions_that_torch_uses() -> None:
    fbgemm, torch, waits = _loaded("set up")

    assert fbgemm == torch
    assert waits == "PASSIVE"


def test_by_itself_fbgemm_uses_none() -> None:
    # Once this fails, set_up_torch need not load a library any more.
    assert _loaded("as it comes")[0] == "False"


def _loaded(how: str) -> list[str]:
    environ = {name: value for name, value in without_settings().items() if name != "OMP_WAIT_POLICY"}
    ran = subprocess.run([sys.executable, "-c", _LOAD, how], env=environ, capture_output=True, text=True, check=True)
    return ran.stdout.split()
