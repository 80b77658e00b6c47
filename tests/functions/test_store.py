"""functions.store: whole or absent, whatever dies, whoever else writes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from eventing.errors import Misconfigured, Rejected, RetryLater
from functions import package
from functions.store import Serving, Store
from tests.functions import packages

MODEL, VERSION = "flights", packages.VERSION


@pytest.fixture(params=["file", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store's URL, on this machine's disk, where fsspec reaches, and in a bucket of a real S3 server."""
    if request.param == "file":
        yield (tmp_path / "store").as_uri()
        return
    if request.param == "s3":
        yield request.getfixturevalue("s3_url")
        return
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def built(tmp_path: Path) -> Path:
    return packages.build_package(tmp_path / "built")


def test_a_published_package_is_fetched_whole(url: str, built: Path, tmp_path: Path) -> None:
    store = Store.open(url)
    published = store.publish(built)
    fetched = store.fetch(MODEL, VERSION, tmp_path / "into")
    assert (published.model, published.version) == (MODEL, VERSION)
    assert published.uri == f"{url}/models/{MODEL}/{VERSION}"
    assert published.sha256 == package.verify(fetched)
    assert {p.name: p.read_bytes() for p in fetched.iterdir()} == {p.name: p.read_bytes() for p in built.iterdir()}


def test_publishing_the_same_package_twice_is_publishing_it_once(url: str, built: Path) -> None:
    store = Store.open(url)
    first, files = store.publish(built), store.list("models")
    assert store.publish(built) == first
    assert store.list("models") == files


def test_another_package_under_a_version_that_is_taken_is_rejected(url: str, built: Path, tmp_path: Path) -> None:
    store = Store.open(url)
    store.publish(built)
    with pytest.raises(Rejected, match="a version is given once"):
        store.publish(packages.build_package(tmp_path / "other", seed=1))
    store.fetch(MODEL, VERSION, tmp_path / "into")


def test_a_package_that_is_not_what_its_sums_say_is_not_published(url: str, built: Path) -> None:
    (built / "model.onnx").write_bytes(b"another")
    store = Store.open(url)
    with pytest.raises(Rejected, match=r"model\.onnx has digest"):
        store.publish(built)
    assert store.models() == ()


def test_a_folder_that_is_not_whole_is_not_published(url: str, built: Path) -> None:
    (built / "sample.json").unlink()
    with pytest.raises(Rejected, match=r"sample\.json is missing"):
        Store.open(url).publish(built)


def test_models_and_versions_are_those_that_are_whole(url: str, built: Path, tmp_path: Path) -> None:
    store = Store.open(url)
    store.publish(packages.build_package(tmp_path / "later", version=packages.OTHER_VERSION))
    store.publish(built)
    store.set_serving(MODEL, Serving(VERSION, None, "2026-01-01T00:00:00+00:00", "first"))
    store.put_file("models/half/v1/model.onnx", built / "model.onnx")
    assert store.models() == (MODEL,)
    assert store.versions(MODEL) == (VERSION, packages.OTHER_VERSION)
    assert store.versions("nobody") == ()


def test_an_absent_package_is_asked_for_again(url: str, tmp_path: Path) -> None:
    store = Store.open(url)
    with pytest.raises(RetryLater, match="not in the store"):
        store.fetch(MODEL, VERSION, tmp_path)
    with pytest.raises(RetryLater):
        store.manifest(MODEL, VERSION)


def test_a_half_copied_package_is_asked_for_again(url: str, built: Path, tmp_path: Path) -> None:
    store = Store.open(url)
    store.publish(built)
    store.delete(f"models/{MODEL}/{VERSION}/model.onnx")
    with pytest.raises(RetryLater, match=r"model\.onnx is missing"):
        store.fetch(MODEL, VERSION, tmp_path / "into")


def test_a_file_that_was_changed_in_the_store_is_rejected(url: str, built: Path, tmp_path: Path) -> None:
    store = Store.open(url)
    store.publish(built)
    store.put_file(f"models/{MODEL}/{VERSION}/sample.json", built / "model.json")
    with pytest.raises(Rejected, match=r"sample\.json has digest"):
        store.fetch(MODEL, VERSION, tmp_path / "into")


def test_a_file_that_was_added_in_the_store_is_rejected(url: str, built: Path, tmp_path: Path) -> None:
    store = Store.open(url)
    store.publish(built)
    store.put_file(f"models/{MODEL}/{VERSION}/stranger.bin", built / "model.json")
    with pytest.raises(Rejected, match=r"stranger\.bin is not listed"):
        store.fetch(MODEL, VERSION, tmp_path / "into")


def test_sums_rewritten_after_publishing_are_rejected(url: str, built: Path, tmp_path: Path) -> None:
    """Whoever changes a file and its sum alike still meets the digest in the pointer."""
    store = Store.open(url)
    store.publish(built)
    other = packages.build_package(tmp_path / "other", seed=3)
    for file in other.iterdir():
        store.put_file(f"models/{MODEL}/{VERSION}/{file.name}", file)
    with pytest.raises(Rejected, match="SHA256SUMS has digest"):
        store.fetch(MODEL, VERSION, tmp_path / "into")


def test_a_damaged_copy_on_this_machine_is_fetched_anew(built: Path, tmp_path: Path) -> None:
    store = Store.open(f"memory://{tmp_path.name}")
    store.publish(built)
    copy = store.fetch(MODEL, VERSION, tmp_path / "into")
    (copy / "model.onnx").write_bytes(b"")
    assert package.verify(store.fetch(MODEL, VERSION, tmp_path / "into")) == package.verify(built)


def test_the_manifest_is_read_without_the_model(url: str, built: Path) -> None:
    store = Store.open(url)
    store.publish(built)
    assert store.manifest(MODEL, VERSION) == packages.manifest()


def test_who_serves_is_remembered(url: str) -> None:
    store = Store.open(url)
    assert store.serving(MODEL) is None
    serving = Serving(packages.OTHER_VERSION, VERSION, "2026-02-01T00:00:00+00:00", "better by 0.01")
    store.set_serving(MODEL, serving)
    assert store.serving(MODEL) == serving


def test_json_files_and_plain_files_go_in_and_out(url: str, tmp_path: Path) -> None:
    store = Store.open(url)
    assert store.read_json("runs/a.json") is None
    store.write_json("runs/a.json", {"ü": [1, None]})
    store.write_json("runs/a.json", {"ü": [2, None]})
    assert store.read_json("runs/a.json") == {"ü": [2, None]}
    (tmp_path / "f").write_bytes(b"rows")
    store.put_file("heldout/flights/v.npz", tmp_path / "f")
    store.get_file("heldout/flights/v.npz", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == b"rows"
    assert store.list("heldout") == ("heldout/flights/v.npz",)
    store.delete("heldout/flights/v.npz")
    store.delete("heldout/flights/v.npz")
    assert store.list("heldout") == ()
    with pytest.raises(RetryLater):
        store.get_file("heldout/flights/v.npz", tmp_path / "h")


def test_a_file_that_holds_no_json_object_is_rejected(url: str, tmp_path: Path) -> None:
    store = Store.open(url)
    (tmp_path / "f").write_text("[1]")
    store.put_file("runs/a.json", tmp_path / "f")
    with pytest.raises(Rejected):
        store.read_json("runs/a.json")


def test_datasets_come_in_the_order_they_were_dropped(url: str, tmp_path: Path) -> None:
    store = Store.open(url)
    for day, letter in (("02", "a"), ("01", "b")):
        record = {"uri": f"x/{letter}.csv", "name": f"{letter}.csv", "bytes": 3, "at": f"2026-01-{day}T00:00:00+00:00"}
        store.write_json(f"datasets/flights/{letter * 64}.json", record)
    (tmp_path / "f").write_bytes(b"half a file without its sidecar")
    store.put_file(f"datasets/flights/{'c' * 64}.csv", tmp_path / "f")
    assert [record.sha256[0] for record in store.datasets("flights")] == ["b", "a"]
    assert store.datasets("flights")[0].uri == "x/b.csv"
    assert store.datasets("nothing") == ()


def test_a_store_that_was_put_back_in_another_place_tells_where_its_files_lie_now(tmp_path: Path) -> None:
    sha256 = "ab" * 32
    path = f"datasets/flights/{sha256}"
    for place in ("then", "now"):
        store = Store.open((tmp_path / place).as_uri())
        store.write_json(f"{path}.json", {"uri": (tmp_path / "then" / f"{path}.csv").as_uri(), "bytes": 1, "at": "1"})
    assert [record.uri for record in store.datasets("flights")] == [(tmp_path / "now" / f"{path}.csv").as_uri()]


def test_a_dataset_is_given_only_with_the_digest_it_was_dropped_with(url: str, tmp_path: Path) -> None:
    store = Store.open(url)
    (tmp_path / "jan.csv").write_bytes(b"a,b\n1,2\n")
    sha256 = package.sha256_of(tmp_path / "jan.csv")
    path = f"datasets/flights/{sha256}.csv"
    with pytest.raises(RetryLater):
        store.download(store.uri(path), tmp_path / "into", sha256)
    store.put_file(path, tmp_path / "jan.csv")
    assert store.download(store.uri(path), tmp_path / "into", sha256).read_bytes() == b"a,b\n1,2\n"
    with pytest.raises(Rejected, match="changed after it was dropped"):
        store.download(store.uri(path), tmp_path / "into", "0" * 64)


@pytest.mark.parametrize("url", ["", "/var/lib", "file://relative/path", "nosuch://x", "store"])
def test_a_url_that_cannot_be_a_store_is_refused_with_its_key(url: str) -> None:
    with pytest.raises(Misconfigured, match="HEADRACE_STORE"):
        Store.open(url)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 300])
def test_a_name_that_would_leave_its_folder_is_rejected(name: str, tmp_path: Path) -> None:
    store = Store.open(tmp_path.as_uri())
    with pytest.raises(Rejected):
        store.versions(name)
    with pytest.raises(Rejected):
        store.fetch(MODEL, name, tmp_path)


def test_a_path_that_climbs_out_of_the_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"):
        Store.open(tmp_path.as_uri()).read_json("../secret.json")


def test_importing_the_store_imports_neither_numpy_nor_onnxruntime_nor_a_bucket_client() -> None:
    code = "import sys, functions.store; sys.exit(len({'numpy', 'onnxruntime', 'fsspec', 'flask'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_writers_of_the_same_package_at_once_are_one(url: str, built: Path, tmp_path: Path) -> None:
    results: list[object] = []
    barrier = threading.Barrier(4)

    def publish() -> None:
        barrier.wait()
        results.append(Store.open(url).publish(built))

    _all(publish, 4)
    assert len(results) == 4
    assert len(set(results)) == 1
    Store.open(url).fetch(MODEL, VERSION, tmp_path / "into")


def test_of_two_packages_published_under_one_version_at_once_one_is_whole(url: str, tmp_path: Path) -> None:
    folders = [packages.build_package(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    wins, refusals = [], []
    barrier = threading.Barrier(2)

    def publish() -> None:
        folder = folders.pop()
        barrier.wait()
        try:
            wins.append(Store.open(url).publish(folder).sha256)
        except Rejected as e:
            refusals.append(e)

    _all(publish, 2)
    assert (len(wins), len(refusals)) == (1, 1)
    assert package.verify(Store.open(url).fetch(MODEL, VERSION, tmp_path / "into")) == wins[0]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    store = Store.open(tmp_path.as_uri())
    texts = ["a" * 200_000, "b" * 200_000]
    store.write_json("x.json", {"text": texts[0]})
    done = threading.Event()

    def write() -> None:
        for turn in range(60):
            store.write_json("x.json", {"text": texts[turn % 2]})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        value = store.read_json("x.json")
        assert value is not None
        assert value["text"] in texts
    writer.join()


def test_a_writer_killed_at_any_moment_leaves_the_package_whole_or_absent(tmp_path: Path) -> None:
    """Ten real processes, killed at random moments of publishing; the next one finishes what they began."""
    built = packages.build_package(tmp_path / "built")
    url = (tmp_path / "store").as_uri()
    code = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from functions.store import Store
        store = Store.open({url!r})
        sys.stdout.write("ready"); sys.stdout.flush()
        while True:
            store.publish(Path({str(built)!r}))
            store.delete("models/{MODEL}/{VERSION}.json")
    """)
    store, chance = Store.open(url), random.Random(5)
    for _ in range(10):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.read(5) == b"ready"
        time.sleep(chance.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        whole = store.versions(MODEL) == (VERSION,)
        if whole:
            store.fetch(MODEL, VERSION, tmp_path / "into")
        else:
            with pytest.raises(RetryLater):
                store.fetch(MODEL, VERSION, tmp_path / "into")
    store.publish(built)
    assert package.verify(store.fetch(MODEL, VERSION, tmp_path / "into")) == package.verify(built)
    assert all("/." not in path for path in store.list("models"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is played by a small mount of Linux")
def test_a_full_disk_is_retry_later_with_nothing_half_written(built: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    size = (built / "model.onnx").stat().st_size // 2
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(small)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        store = Store.open(small.as_uri())
        with pytest.raises(RetryLater, match="no room left"):
            store.publish(built)
        assert store.models() == ()
        assert not list(small.rglob("*.part"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_disk_that_is_full_by_its_own_word_is_retry_later(tmp_path: Path) -> None:
    """The same promise where nobody may mount: a file size limit makes the kernel refuse the write."""
    code = textwrap.dedent(f"""
        import resource, signal, sys
        from eventing.errors import RetryLater
        from functions.store import Store
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        store = Store.open({tmp_path.as_uri()!r})
        try:
            store.write_json("x.json", {{"text": "a" * 5000}})
        except RetryLater:
            sys.exit(3)
    """)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_away_is_retry_later(tmp_path: Path) -> None:
    loop = tmp_path / "store"
    loop.symlink_to(loop)  # every access fails with ELOOP, as a broken mount fails with its own errors
    store = Store.open(loop.as_uri())
    for call in (lambda: store.read_json("a.json"), lambda: store.write_json("a.json", {}), lambda: store.models()):
        with pytest.raises(RetryLater, match="cannot be reached"):
            call()


def test_what_a_writer_that_died_left_of_a_package_is_removed_by_the_next_one(url: str, tmp_path: Path) -> None:
    """A day after its claim was last renewed; a living writer keeps its files, also one whose clock is hours behind."""
    store = Store.open(url)
    (tmp_path / "f").write_bytes(b"half")
    for version, hours in (("v1", 25), ("v2", 12)):
        at = datetime.now(UTC) - timedelta(hours=hours)
        store.write_json(f"claims/{MODEL}/{version}.json", {"sha256": "0" * 64, "at": at.isoformat()})
        store.put_file(f"models/{MODEL}/{version}/model.onnx", tmp_path / "f")
    store.publish(packages.build_package(tmp_path / "built"))
    assert store.list("claims") == (f"claims/{MODEL}/v2.json",)
    assert store.list(f"models/{MODEL}/v1") == ()
    assert store.list(f"models/{MODEL}/v2") == (f"models/{MODEL}/v2/model.onnx",)


def test_a_claim_left_behind_by_a_whole_package_takes_nothing_along(url: str, built: Path, tmp_path: Path) -> None:
    store = Store.open(url)
    store.publish(built)
    long_ago = {"sha256": "0" * 64, "at": "2026-01-01T00:00:00+00:00"}
    store.write_json(f"claims/{MODEL}/{VERSION}.json", long_ago)
    store.publish(packages.build_package(tmp_path / "later", version=packages.OTHER_VERSION))
    assert store.list("claims") == ()
    store.fetch(MODEL, VERSION, tmp_path / "into")


def test_a_copy_that_died_on_its_way_here_is_removed_by_the_next_one(built: Path, tmp_path: Path) -> None:
    store = Store.open(f"memory://{tmp_path.name}")
    store.publish(built)
    half = tmp_path / "into" / ".flights-v1.abc.part"
    half.mkdir(parents=True)
    os.utime(half, (0, 0))
    store.fetch(MODEL, VERSION, tmp_path / "into")
    assert not half.exists()


def _all(target: object, count: int) -> None:
    threads = [threading.Thread(target=target) for _ in range(count)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
