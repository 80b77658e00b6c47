"""Files dropped into the bucket of a cluster: told once, trained once, whatever happens to Jobs, Secrets and pods."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest

from tests.e2e.place import Deployed, until
from tests.e2e.test_jobs import no_more_secrets

pytestmark = pytest.mark.cluster

RANDOM_FOREST = "sinks.knative.dev/job-sink-name=random-forest"


class Bucket:
    """The store, seen from here, and a dataset of this test's own."""

    def __init__(self, deployed: Deployed) -> None:
        import s3fs

        environ = deployed.environ
        keys = {"key": environ["AWS_ACCESS_KEY_ID"], "secret": environ["AWS_SECRET_ACCESS_KEY"]}
        self.files = s3fs.S3FileSystem(
            **keys, endpoint_url=environ["AWS_ENDPOINT_URL"], skip_instance_cache=True, use_listings_cache=False
        )
        self.deployed = deployed
        store: str = deployed.get("configmap", "headrace")["data"]["HEADRACE_STORE"]
        self.root = store.removeprefix("s3://")
        self.dataset = f"dropped-{uuid.uuid4().hex[:6]}"
        self.jobs_before = {job["metadata"]["name"] for job in deployed.items("jobs", RANDOM_FOREST)}

    def drop(self, name: str, rows: int = 300) -> str:
        chance = random.Random(name)
        lines = ["size,colour,target"]
        for _ in range(rows):
            size, colour = chance.gauss(0, 1), chance.choice(["red", "blue"])
            likely = size + (colour == "red") + chance.gauss(0, 0.3) > 0.4
            lines.append(f"{size:.4f},{colour},{'yes' if likely else 'no'}")
        path = f"{self.root}/drop/{self.dataset}/{name}"
        self.files.pipe_file(path, ("\n".join(lines) + "\n").encode())
        return path

    def versions(self) -> list[str]:
        folder = f"{self.root}/models/{self.dataset}"
        if not self.files.exists(folder):
            return []
        names = (PurePosixPath(path).name for path in self.files.ls(folder, detail=False, refresh=True))
        return sorted(n.removesuffix(".json") for n in names if n.endswith(".json") and n != "serving.json")

    def jobs(self) -> list[dict[str, Any]]:
        found = self.deployed.items("jobs", RANDOM_FOREST)
        return [job for job in found if job["metadata"]["name"] not in self.jobs_before]

    def succeeded(self) -> list[str]:
        return [job["metadata"]["name"] for job in self.jobs() if job["status"].get("succeeded")]


@pytest.fixture
def bucket(deployed: Deployed) -> Iterator[Bucket]:
    its = Bucket(deployed)
    yield its
    for job in its.jobs():
        deployed.kubectl("delete", "job", job["metadata"]["name"], "--wait=false", "--ignore-not-found")
    # What the promoter has made of it.
    for kind, name in (("ksvc", its.dataset), ("trigger", f"{its.dataset}-predictions")):
        deployed.kubectl("delete", kind, name, "--wait=false", "--ignore-not-found")


def test_a_file_put_into_the_bucket_is_trained_once_and_stays(bucket: Bucket) -> None:
    path = bucket.drop("a.csv")
    until("a package", bucket.versions)
    bucket.drop("a.csv")  # the same again
    bucket.files.copy(path, path.replace("a.csv", "copy.csv"))
    (name,) = until("the Job's end", bucket.succeeded)
    # Deduplication of JobSink ends with the Job, the ledger's does not.
    bucket.deployed.kubectl("delete", "job", name)
    source = bucket.deployed.items("pods", "sources.knative.dev/containerSource=folder")[0]["metadata"]["name"]
    bucket.deployed.kubectl("delete", "pod", source, "--wait=false")
    bucket.drop("b.csv", rows=301)
    until("the second package", lambda: len(bucket.versions()) == 2)
    assert len(until("the second Job's end", bucket.succeeded)) == 1
    assert bucket.files.exists(path), "what was dropped is not taken away"


def test_an_event_whose_secret_was_never_made_is_trained_in_the_end(bucket: Bucket) -> None:
    with no_more_secrets(bucket.deployed):
        bucket.drop("lost.csv")
        first = until("a Job", bucket.jobs)[0]["metadata"]
    until("another Job of that name", lambda: [j for j in bucket.jobs() if j["metadata"]["uid"] != first["uid"]])
    until("a package", bucket.versions)
    assert bucket.jobs()[0]["metadata"]["name"] == first["name"]
