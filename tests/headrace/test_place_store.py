"""Whether a place's store can be opened from here."""

from __future__ import annotations

import pytest

from headrace import place_store
from headrace.place_store import OutOfReach

S3 = {"HEADRACE_STORE": "s3://models"}
INSIDE = {**S3, "AWS_ENDPOINT_URL": "http://minio.minio.svc.cluster.local:9000", "AWS_DEFAULT_REGION": "us-east-1"}
OUTSIDE = {**S3, "AWS_ENDPOINT_URL": "https://s3.example.com"}


@pytest.mark.parametrize(
    ("values", "environ", "added"),
    [
        (S3, {}, {}),
        (OUTSIDE, {}, {"AWS_ENDPOINT_URL": "https://s3.example.com"}),
        (OUTSIDE, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}, {}),
        (OUTSIDE, {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000"}, {}),
        (INSIDE, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}, {"AWS_DEFAULT_REGION": "us-east-1"}),
        (INSIDE, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000", "AWS_REGION": "eu-1"}, {}),
        ({**INSIDE, "HEADRACE_STORE": "gs://models"}, {}, {}),
    ],
)
def test_the_callers_environment_goes_before_the_places(
    values: dict[str, str], environ: dict[str, str], added: dict[str, str]
) -> None:
    assert place_store.settings(values, environ, is_laptop=False) == added


def test_in_a_pod_of_the_cluster_the_places_own_endpoint_is_taken() -> None:
    added = place_store.settings(INSIDE, {}, is_laptop=False, in_cluster=True)
    assert added == {k: v for k, v in INSIDE.items() if k != "HEADRACE_STORE"}


def test_an_endpoint_inside_the_cluster_is_named_with_what_to_set() -> None:
    with pytest.raises(OutOfReach, match=r"minio\.minio\.svc.* answers inside the cluster alone; set AWS_ENDPOINT_URL"):
        place_store.settings(INSIDE, {}, is_laptop=False)


def test_a_folder_is_of_this_machine_on_a_laptop_alone() -> None:
    folder = {"HEADRACE_STORE": "file:///var/headrace/store"}
    assert place_store.settings(folder, {}, is_laptop=True) == {}
    with pytest.raises(OutOfReach, match="is a folder of the cluster's pods"):
        place_store.settings(folder, {}, is_laptop=False)
