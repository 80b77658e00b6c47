"""A model's companion Service, made and brought after the model's own: `knative.companion` decides, here it is done.

Used by whoever moves the model's Service: the promoter, at each look at it, and `headrace promote` and `rollback`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from knative import client, companion, rollout
from knative.client import Cluster, Object

log = logging.getLogger(__name__)


def follow(cluster: Cluster, leader: Object, template: Callable[[], Object] | None = None) -> Object | None:
    """Bring the companion of `leader`, as it was just read or written, one step after it; the companion as it is then.

    template: gives the manifest of which a missing one is made; None: none is made. None comes back where there is no
    companion. What Kubernetes refuses is logged: the model answers over HTTP all the same. Raises Conflict when the
    companion was changed meanwhile, Unreachable.
    """
    model = leader["metadata"]["name"]
    name = companion.name_of(model)
    found = cluster.get("Service", name)
    if found is None and template is None:
        return None
    if found is not None and not companion.is_companion(found, model):
        log.warning("there is a Service %s that is not of %s: the model has no gRPC Service", name, model)
        return None
    leading = cluster.list("Revision", {rollout.SERVICE_LABEL: model})
    try:
        if found is None and template is not None:
            version = companion.serving_version(leader, leading)
            return None if version is None else cluster.create(companion.first(template(), leader, version))
        assert found is not None
        following = cluster.list("Revision", {rollout.SERVICE_LABEL: name})
        patch = companion.following_patch(leader, leading, found, following)
        return found if patch is None else cluster.patch("Service", name, patch)
    except client.Refused as e:
        log.error("Service %s: %s", name, e)
        return found
