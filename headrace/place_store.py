"""Whether the store of a place can be opened from here, and what its driver must be told. Pure.

The keys are the caller's own, wherever their driver looks for them; what a place's pods are given stays there.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from eventing.errors import HeadraceError
from knative import inside

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # the more particular one first, as botocore reads them
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


class OutOfReach(HeadraceError):
    """The store is not to be had from this machine."""


def settings(
    values: Mapping[str, str], environ: Mapping[str, str], is_laptop: bool, in_cluster: bool = False
) -> dict[str, str]:
    """What to add to the environment before the store is opened.

    values: the ConfigMap `headrace`. environ: of this process; what it says goes before. in_cluster: it runs in a pod
    of the place. Raises OutOfReach with what to do: for a folder of the cluster's, or an endpoint for its pods alone.
    """
    url = values.get("HEADRACE_STORE", "")
    if is_laptop:
        return {}
    if urlsplit(url).scheme == "file" and not in_cluster:
        raise OutOfReach(
            f"the store {url} is a folder of the cluster's pods, on a claim, and not of this machine; put a file on "
            "the drop folder's claim to have it learned, ask `headrace events` and `headrace status` for models, or "
            "deploy with a store that is reached from everywhere, such as s3://bucket"
        )
    if not url.startswith("s3://"):
        return {}
    added = {key: values[key] for key in REGIONS if key in values and not any(environ.get(k) for k in REGIONS)}
    if any(environ.get(key) for key in ENDPOINTS):
        return added
    endpoint = next((values[key] for key in ENDPOINTS if values.get(key)), None)
    if endpoint is None:
        return added
    if inside.of(endpoint) is not None and not in_cluster:
        raise OutOfReach(
            f"the store {url} is at {endpoint}, which answers inside the cluster alone; set AWS_ENDPOINT_URL to an "
            "address of it that answers here, and AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to keys for it"
        )
    return {**added, "AWS_ENDPOINT_URL": endpoint}
