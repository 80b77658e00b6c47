"""The images, built for real: what is inside, and that it works where a cluster lets it write nothing but /tmp."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eventing import binding, contract
from eventing.contract import DatasetArrived
from functions.model import Model
from functions.store import Store
from tests import s3_server
from tests.functions import packages
from tests.images import roots
from tests.images.roots import BASE, MOUNTED, REPO, VERSION, Image, canonical
from tests.images.test_locks import IMAGES, pins
from tests.s3_server import S3
from tests.trainers.conftest import MIXED_HEADER, Sink, mixed_rows, sink  # noqa: F401

pytestmark = pytest.mark.cluster

LARGEST_PREDICTOR_BYTES = 200_000_000
COMPILERS = r"(.*-)?(cc|gcc|g\+\+|c\+\+|cpp|clang|clang\+\+|ld|as|tcc|rustc|cargo|go|make|cmake|ninja)(-[0-9.]+)?"
INSTALLED = """
import importlib.metadata, json
print(json.dumps([[d.metadata["Name"], d.version] for d in importlib.metadata.distributions()]))
"""


@pytest.fixture(scope="module")
def built() -> Iterator[dict[str, Image]]:
    """All three images, and under `base` what they are FROM."""
    if not roots.able():
        pytest.skip("needs root, and buildah, mmdebstrap, unshare and setpriv")
    if elsewhere := roots.missing(*IMAGES):
        pytest.skip(f"not here to be looked at: {', '.join(sorted(elsewhere))}")
    roots.build(*IMAGES)
    with ExitStack() as stack:
        names = {name: f"{REPO}/{name}:{VERSION}" for name in IMAGES} | {"base": BASE}
        yield {name: stack.enter_context(roots.mounted(reference)) for name, reference in names.items()}


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest, built: dict[str, Image]) -> Image:
    return built[request.param]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server.running() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that a process inside may write to."""
    place = tmp_path / "mounted"
    place.mkdir()
    place.chmod(0o777)
    return place


# ---------------------------------------------------------------- what is inside


def test_the_predictor_is_at_most_200_mb_beyond_its_python(built: dict[str, Image]) -> None:
    beyond = roots.beyond(built["predictor"].root, built["base"].root)
    assert 100_000_000 < beyond <= LARGEST_PREDICTOR_BYTES


def test_what_is_installed_is_what_is_locked_and_headrace_itself(image: Image, folder: Path) -> None:
    assert installed(image, folder) == locked(image) | {("headrace", "0.1.0")}


@pytest.mark.parametrize("name", ["predictor", "functions"])
def test_what_serves_holds_no_training_library(name: str, built: dict[str, Image]) -> None:
    forbidden = ("sklearn", "tensorflow", "keras", "skl2onnx", "tf2onnx", "pandas", "scipy")
    assert [found for found in forbidden if (built[name].site / found).exists()] == []


def test_the_predictor_holds_no_kubernetes_client(built: dict[str, Image]) -> None:
    assert not (built["predictor"].site / "kubernetes").exists()
    assert (built["functions"].site / "kubernetes").exists()


def test_there_is_no_compiler_no_header_and_no_installer(image: Image, folder: Path) -> None:
    there = roots.programs(image.root)
    assert "python" in there
    assert [
        name for name in there if re.fullmatch(COMPILERS, name) or re.fullmatch(r"(pip|uv|easy_install).*", name)
    ] == []
    assert [
        str(f) for f in image.root.glob("opt/headrace/**/*") if f.suffix in (".h", ".hpp") or "libclang" in f.name
    ] == []
    look = "import importlib.util as u; print([n for n in ('pip', 'ensurepip', 'uv') if u.find_spec(n)])"
    for python in ("python", "/usr/bin/python3"):  # the image's own, and the one below it
        status, said = image.run(python, "-c", look, folder=folder)
        assert (status, said.strip()) == (0, "[]"), python


def test_every_module_is_there_as_byte_code_of_this_python(image: Image) -> None:
    tag = f"cpython-{image.site.parent.name.removeprefix('python').replace('.', '')}"
    missing = [
        str(file.relative_to(image.site))
        for file in image.site.rglob("*.py")
        if not (file.parent / "__pycache__" / f"{file.stem}.{tag}.pyc").exists()
    ]
    assert missing == []


def test_every_file_that_a_package_records_is_there(image: Image) -> None:
    for record in image.site.glob("*.dist-info/RECORD"):
        for line in record.read_text(encoding="utf-8").splitlines():
            name = line.rsplit(",", 2)[0].strip('"')
            assert (image.site / name).exists(), (record.parent.name, name)


def test_the_sbom_inside_and_beside_lists_what_is_installed(image: Image, folder: Path) -> None:
    inside = (image.root / image.said["Labels"]["dev.headrace.sbom"].lstrip("/")).read_text(encoding="utf-8")
    assert inside == (roots.HOUSE / "build" / "images" / f"{room(image)}.cdx.json").read_text(encoding="utf-8")
    bom = json.loads(inside)
    assert (bom["bomFormat"], bom["metadata"]["component"]["name"]) == ("CycloneDX", "headrace")
    listed = {(canonical(c["name"]), c["version"]) for c in (*bom["components"], bom["metadata"]["component"])}
    assert listed == installed(image, folder)
    assert [c["name"] for c in bom["components"] if not c["purl"].startswith("pkg:pypi/")] == []


def test_the_image_says_who_it_is_and_runs_as_nobody_in_particular(image: Image) -> None:
    said = image.said
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in said["Labels"].items()}
    assert labels["title"] == f"headrace-{room(image)}"
    assert labels["version"] == VERSION
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert labels["licenses"] == "Apache-2.0"
    assert datetime.fromisoformat(labels["created"]) <= datetime.now(UTC)
    assert labels["base.name"] == BASE
    assert said["User"] == "65532:65532"


@pytest.mark.usefixtures("built")
def test_an_image_whose_steps_are_all_remembered_tells_the_version_of_this_build() -> None:
    roots.build("predictor", version="other")
    with roots.mounted(f"{REPO}/predictor:other") as other:
        assert other.said["Labels"]["org.opencontainers.image.version"] == "other"
    roots.buildah("rmi", f"{REPO}/predictor:other")


def test_nothing_of_the_build_is_left_in_an_image(image: Image) -> None:
    assert not (image.root / "build").exists()
    assert not any((image.root / "run").glob("secrets/*"))
    assert not any((image.root / "tmp").iterdir())
    assert not any((image.root / "root").glob(".cache/**/*"))


# ---------------------------------------------------------------- that it works


def test_nothing_can_be_written_but_in_tmp(image: Image, folder: Path) -> None:
    tried = (
        "for place in / /opt/headrace /tmp /var /etc; do touch $place/x 2>/dev/null && echo $place; done; id -u; id -g"
    )
    assert image.run("sh", "-c", tried, folder=folder)[1].split() == ["/tmp", "65532", "65532"]


def test_the_predictor_tests_itself_and_answers_over_http(built: dict[str, Image], folder: Path) -> None:
    package = packages.build_package(folder / "package")
    Store.open((folder / "store").as_uri()).publish(package)
    with built["predictor"].started("python", "-m", "functions.predictor", folder=folder, environ=serving()) as pod:
        url = f"http://{pod.until('listening on ')}"
        assert "self_test" in pod.until(f"{packages.VERSION} is ready")
        answer = post(f"{url}/v1/models/flights:predict", {"instances": [packages.ROWS[0]]})
        expected = Model.load(package).infer(packages.arrays(packages.ROWS[:1]))
        assert answer["predictions"][0]["label"] == int(expected["label"][0])
        pod.process.send_signal(signal.SIGTERM)
        assert pod.process.wait(roots.DEADLINE_S) == 0


def test_the_predictor_opens_its_grpc_door(built: dict[str, Image], folder: Path) -> None:
    Store.open((folder / "store").as_uri()).publish(packages.build_package(folder / "package"))
    module = "functions.predictor.grpc_server"
    with built["predictor"].started("python", "-m", module, folder=folder, environ=serving()) as pod:
        assert "self_test" in pod.until(f"{packages.VERSION} is ready")


@pytest.mark.parametrize("writer", ["functions", "trainers"])
def test_what_an_image_puts_into_a_bucket_the_predictor_serves(
    writer: str, built: dict[str, Image], folder: Path, s3: S3
) -> None:
    """Through the driver that the images hold, without what was taken out of it."""
    package = packages.build_package(folder / "package").relative_to(folder)
    code = f"""
import pathlib, s3fs
from functions.store import Store
s3fs.S3FileSystem().mkdir("{writer}")
Store.open("s3://{writer}").publish(pathlib.Path("{MOUNTED}/{package}"))
"""
    status, said = built[writer].run("python", "-c", code, folder=folder, environ=s3.environ)
    assert status == 0, said
    environ = {**serving(), **s3.environ, "HEADRACE_STORE": f"s3://{writer}"}
    with built["predictor"].started("python", "-m", "functions.predictor", folder=folder, environ=environ) as pod:
        assert "self_test" in pod.until(f"{packages.VERSION} is ready")


@pytest.mark.parametrize("module", ["functions.promoter", "functions.job_watch"])
def test_who_asks_the_cluster_misses_nothing_but_it(module: str, built: dict[str, Image], folder: Path) -> None:
    environ = {"PORT": "0", "HEADRACE_STORE": f"file://{MOUNTED}/store", "K_SINK": "http://127.0.0.1:9"}
    status, said = built["functions"].run("python", "-m", module, folder=folder, environ=environ)
    assert status == os.EX_CONFIG, said
    assert "expected a kubeconfig with a current context" in said


@pytest.mark.parametrize("module", ["functions.drift_watch", "functions.dead_letters"])
def test_each_function_listens(module: str, built: dict[str, Image], folder: Path) -> None:
    environ = {"PORT": "0", "HEADRACE_STORE": f"file://{MOUNTED}/store", "K_SINK": "http://127.0.0.1:9"}
    with built["functions"].started("python", "-m", module, folder=folder, environ=environ) as pod:
        pod.until("listening on ")


@pytest.mark.parametrize("trainer", ["random_forest", "neural_net"])
def test_a_trainer_trains_proves_and_tells(
    trainer: str,
    built: dict[str, Image],
    folder: Path,
    sink: Sink,  # noqa: F811
) -> None:
    store = Store.open((folder / "store").as_uri())
    (folder / "event").write_bytes(binding.to_structured(arrived(store, folder, trainer)).body)
    environ = {"HEADRACE_STORE": f"file://{MOUNTED}/store", "K_SINK": sink.url, "K_EVENT_PATH": MOUNTED}
    for file in (folder, *folder.rglob("*")):
        file.chmod(0o777)
    status, said = built["trainers"].run("python", "-m", "trainers.job", folder=folder, environ=environ)
    assert status == 0, said
    (trained,) = sink.of("model.trained")
    assert trained["data"]["parity"]["label_flips"] == 0
    assert store.versions("doors") == (trained["data"]["version"],)


# ---------------------------------------------------------------- helpers


def room(image: Image) -> str:
    return image.name.rpartition("/")[2].partition(":")[0]


def locked(image: Image) -> set[tuple[str, str]]:
    return {(name, version) for name, (version, _, _) in pins(room(image)).items()}


def installed(image: Image, folder: Path) -> set[tuple[str, str]]:
    status, said = image.run("python", "-c", INSTALLED, folder=folder)
    assert status == 0, said
    return {(canonical(name), version) for name, version in json.loads(said)}


def serving() -> dict[str, str]:
    """The environment of a predictor of the package that is in the folder's store."""
    return {
        "PORT": "0",
        "HEADRACE_STORE": f"file://{MOUNTED}/store",
        "HEADRACE_MODEL": "flights",
        "HEADRACE_MODEL_VERSION": packages.VERSION,
        "HEADRACE_DRAIN_S": "0.2",
    }


def post(url: str, body: Any) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode()), timeout=60) as response:
        return json.load(response)


def arrived(store: Store, folder: Path, trainer: str) -> Any:
    """The event of a file that is in the store, as it is seen from inside."""
    content = ("\n".join([MIXED_HEADER, *mixed_rows(300)]) + "\n").encode()
    sha256 = hashlib.sha256(content).hexdigest()
    path = f"datasets/doors/{sha256}.csv"
    (folder / "dropped").write_bytes(content)
    store.put_file(path, folder / "dropped")
    uri, at = f"file://{MOUNTED}/store/{path}", "2026-01-01T00:00:00+00:00"
    store.write_json(path.replace(".csv", ".json"), {"uri": uri, "name": "a.csv", "bytes": len(content), "at": at})
    told = DatasetArrived("doors", uri, sha256, len(content), target="kind", trainer=trainer)
    return told.to_event(
        source="/headrace/eventing/source",
        id=contract.derived_id("test", trainer),
        time=datetime(2026, 1, 1, 0, 1, tzinfo=UTC),
    )
