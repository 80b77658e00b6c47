"""What works otherwise than it seems, though every part is Ready. Pure; `headrace deploy` tells it at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from headrace import config, reach
from headrace.deploy import network_policies, plan

Object = dict[str, Any]

SCRATCH = "/tmp"  # of each pod's own, too


def of(objects: Sequence[Object], broker: Object | None, promoter: Object | None) -> Iterator[str]:
    """Events that are sent past the Broker, and a store that each pod has for itself.

    objects: what was applied. broker: as it is, None where it is not Ready; promoter: its Service, of all that mount
    the store the one that is always there.
    """
    values: Mapping[str, str] = next((o["data"] for o in objects if _is_ours(o)), {})
    sink, store = values.get("K_SINK", ""), urlsplit(values.get("HEADRACE_STORE", ""))
    address = (((broker or {}).get("status") or {}).get("address") or {}).get("url")
    if address and sink and address.rstrip("/") != sink.rstrip("/"):
        yield f"the Broker answers at {address}, but K_SINK is {sink}: deploy with --set K_SINK={address}"
    if store.scheme not in network_policies.LOCAL or reach.is_loopback(urlsplit(sink).hostname or ""):
        return  # elsewhere, or of a laptop, whose processes share its folders
    mounts = {str(m["mountPath"]) for c in plan.containers(promoter or {}) for m in c.get("volumeMounts") or ()}
    if not any(PurePosixPath(store.path).is_relative_to(mount) for mount in mounts - {SCRATCH}):
        yield (
            f"the store {store.geturl()} is a folder of each pod's own, for no volume is mounted there: take one that "
            "all pods reach, such as s3://bucket, or a claim by deploy/kustomize/components/store-pvc"
        )


def _is_ours(obj: Object) -> bool:
    return bool(obj["kind"] == "ConfigMap" and obj["metadata"]["name"] == config.CONFIG_MAP)
