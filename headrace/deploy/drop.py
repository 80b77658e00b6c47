"""Where a deployment watches for dropped files: what `deploy --drop` may say, and what it makes of the manifests. Pure.

nothing       `drop` in the store, as the manifests have it
s3://b/drop   any fsspec URL that pods reach
claim/NAME    a folder on a PersistentVolumeClaim of that name, mounted read-only
none          nothing is watched: files come by `headrace drop` alone
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from headrace.deploy import network_policies

Object = dict[str, Any]

SOURCE = "folder"  # the ContainerSource of eventing/manifests/source.yaml
NONE = "none"
SETTING = "HEADRACE_DROP"
FOLDER = "/var/headrace/drop"  # where a claim is mounted
EXPECTED = "an fsspec URL that pods reach, e.g. s3://bucket/drop, claim/NAME for a PersistentVolumeClaim, or none"

_CLAIM = re.compile(r"claim/([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)")


def is_possible(drop: str) -> bool:
    """Whether it is one of the above. A folder of a pod, or its memory, is nobody's place to drop into."""
    if drop == NONE or _CLAIM.fullmatch(drop):
        return True
    return urlsplit(drop).scheme not in ("", "file", "memory") and not network_policies.is_no_bucket(drop)


def is_wanted(obj: Object, drop: str | None) -> bool:
    """Whether the object belongs to a deployment with that `drop`."""
    return not (drop == NONE and obj["kind"] == "ContainerSource" and obj["metadata"]["name"] == SOURCE)


def values(drop: str | None) -> dict[str, str]:
    """What the ConfigMap says of it."""
    if drop is None or drop == NONE:
        return {}
    return {SETTING: FOLDER if _CLAIM.fullmatch(drop) else drop}


def mount(obj: Object, drop: str | None) -> None:
    """Puts the claim, if it is one, into the source's pod."""
    claim = _CLAIM.fullmatch(drop or "")
    if claim is None or obj["kind"] != "ContainerSource" or obj["metadata"]["name"] != SOURCE:
        return
    pod = obj["spec"]["template"]["spec"]
    source = {"claimName": claim[1], "readOnly": True}
    pod.setdefault("volumes", []).append({"name": "drop", "persistentVolumeClaim": source})
    for container in pod["containers"]:
        container.setdefault("volumeMounts", []).append({"name": "drop", "mountPath": FOLDER, "readOnly": True})
