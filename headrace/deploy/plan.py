"""What is applied: the rooms' manifests with what one place wants otherwise put in. Pure.

Called by `headrace deploy`; the overlays of deploy/kustomize make the same objects (a test compares them).
Source: knative.dev/docs/eventing/brokers/broker-types; the ingress of each class as its controller names it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from eventing.errors import HeadraceError, Misconfigured
from functions.promoter import deployment as models
from headrace import config
from headrace.deploy import drop as drops
from headrace.deploy import network_policies
from headrace.place_store import ENDPOINTS, REGIONS
from knative import json_patch, vocabulary

Object = dict[str, Any]

BROKER_CLASS = "eventing.knative.dev/broker.class"
IMAGES = ("predictor", "functions", "trainers")  # the last words of the images' names
VALUES = "headrace.dev/values"  # of a pod template: which values of the ConfigMap its pods have read
# Keys that say which store it is, and where: one without the others is another one.
OF_THE_STORE = ("HEADRACE_STORE", *ENDPOINTS, *REGIONS, network_policies.STORE_NETWORKS)
_SECRET = re.compile(r"SECRET|PASSWORD|SESSION_TOKEN|SAS_TOKEN|ACCOUNT_KEY")  # in the name of a variable
PATCH = "HEADRACE_PREDICTOR_PATCH"  # of the manifest that the promoter makes models' Services of
KIND = "HEADRACE_TRAINING_KIND"
JOURNAL = "http://journal.{namespace}.svc.cluster.local/journal"  # as the manifest's, in any namespace


@dataclass(frozen=True, slots=True)
class BrokerClass:
    """One class of Broker that is known here.

    ingress: the URL at which a Broker of this class takes events, with `{namespace}` and `{name}`. config: what the
    Broker's `spec.config` must name, None where the class has a default of its own.
    """

    ingress: str
    config: Mapping[str, str] | None = None


BROKER_CLASSES: Mapping[str, BrokerClass] = {
    "MTChannelBasedBroker": BrokerClass("http://broker-ingress.knative-eventing.svc.cluster.local/{namespace}/{name}"),
    "Kafka": BrokerClass(
        "http://kafka-broker-ingress.knative-eventing.svc.cluster.local/{namespace}/{name}",
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "kafka-broker-config", "namespace": "knative-eventing"},
    ),
    "RabbitMQBroker": BrokerClass(
        "http://{name}-broker-ingress.{namespace}.svc.cluster.local",
        {"apiVersion": "eventing.knative.dev/v1alpha1", "kind": "RabbitmqBrokerConfig", "name": "headrace"},
    ),
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What one place wants otherwise than the manifests say."""

    namespace: str = config.NAMESPACE
    store: str | None = None
    """The fsspec URL that every pod can reach; None: the manifest's."""
    image: str | None = None
    """The image of every container."""
    images: Mapping[str, str] = field(default_factory=dict)
    """Some of `IMAGES` to the image of each; goes before `image`."""
    broker_class: str | None = None
    """None leaves it to the cluster's default."""
    drop: str | None = None
    """Where dropped files are watched for, as `drops` has it; None: the manifest's, in the store."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Further keys of the ConfigMap `headrace`."""

    def __post_init__(self) -> None:
        """Raises Misconfigured, every fault named."""
        faults = list(_faults(self))
        if len(faults) == 1:
            raise faults[0]
        if faults:
            raise HeadraceError("; ".join(map(str, faults)))


def _faults(wishes: Wishes) -> Iterator[Misconfigured]:
    if wishes.store is not None and not urlsplit(wishes.store).scheme:
        yield Misconfigured("--store", wishes.store, "an fsspec URL, e.g. s3://bucket or file:///var/headrace/store")
    if wishes.store is not None and urlsplit(wishes.store).scheme == "memory":
        yield Misconfigured("--store", wishes.store, "a store that all pods share; memory:// is one process's own")
    if wishes.store is not None and network_policies.is_no_bucket(wishes.store):
        yield Misconfigured("--store", wishes.store, "the bucket's name, e.g. s3://bucket")
    if wishes.drop is not None and not drops.is_possible(wishes.drop):
        yield Misconfigured("--drop", wishes.drop, drops.EXPECTED)
    for name in wishes.images.keys() - set(IMAGES):
        yield Misconfigured("--image", name, f"{', '.join(f'{i}=REF' for i in IMAGES)}, or REF alone for all")
    for ref in (wishes.image, *wishes.images.values()):
        # An empty one is a script's unset variable; the manifest's own, which nobody publishes, is not what it means.
        if ref is not None and (not ref or any(map(str.isspace, ref))):
            yield Misconfigured("--image", ref, "an image's reference, e.g. registry.example/headrace:0.1.0")
    try:
        models.fits(json_patch.parse(wishes.values.get(PATCH, "")))
    except json_patch.BadPatch as e:
        expected = f"a JSON patch (RFC 6902) that fits functions/manifests/predictor.yaml and predictor-grpc.yaml: {e}"
        yield Misconfigured(PATCH, wishes.values[PATCH], expected)
    if (kind := wishes.values.get(KIND, "Job")) != "Job":
        # Its Triggers would go on leading to JobSinks, whose Jobs nobody would watch any more.
        yield Misconfigured(KIND, kind, "Job; TrainJobs are made where deploy/kustomize/overlays/trainjob is applied")
    for key in filter(_SECRET.search, wishes.values):
        expected = "a key of Secret headrace-store, which is not for everybody who may read ConfigMaps: docs/ops.md"
        yield Misconfigured(key, "…", expected)  # its value is not for a log either
    yield from network_policies.faults(_store(wishes), wishes.values)
    known = wishes.broker_class is None or wishes.broker_class in BROKER_CLASSES
    if not known and "K_SINK" not in wishes.values:
        near = vocabulary.closest(str(wishes.broker_class), BROKER_CLASSES)
        meant = f" (meant {near}?)" if near else ""
        yield Misconfigured(
            "--broker-class", str(wishes.broker_class),
            f"{', '.join(BROKER_CLASSES)}{meant}; for any other say where its Broker takes events: --set K_SINK=URL",
        )  # fmt: skip


def _store(wishes: Wishes) -> str:
    """The store's URL; where nobody says one, a bucket, as in the manifest."""
    return wishes.values.get("HEADRACE_STORE") or wishes.store or "s3://"


def objects(manifests: Sequence[Object], wishes: Wishes) -> list[Object]:
    """The manifests as this place wants them, in the same order; the given ones stay as they are."""
    return [_object(copy.deepcopy(obj), wishes) for obj in manifests if drops.is_wanted(obj, wishes.drop)]


def _object(obj: Object, wishes: Wishes) -> Object:
    for node in _nodes(obj):
        # Of metadata, of references, of subjects: whatever is in our namespace moves along.
        if node.get("namespace") == config.NAMESPACE:
            node["namespace"] = wishes.namespace
    for container in containers(obj):
        room = container["image"].rpartition(":")[0].rpartition("/")[2]
        container["image"] = wishes.images.get(room) or wishes.image or container["image"]
    drops.mount(obj, wishes.drop)
    if obj["kind"] == "Namespace":
        obj["metadata"]["name"] = wishes.namespace
    if obj["kind"] == "ConfigMap" and obj["metadata"]["name"] == config.CONFIG_MAP:
        obj["data"] = _values(obj["data"], wishes)
    if obj["kind"] == "NetworkPolicy":
        network_policies.place(obj, _store(wishes), wishes.values)
    if obj["kind"] == "Broker" and wishes.broker_class:
        obj["metadata"].setdefault("annotations", {})[BROKER_CLASS] = wishes.broker_class
        known = BROKER_CLASSES.get(wishes.broker_class)
        if known and known.config:
            obj["spec"]["config"] = dict(known.config)
            if "namespace" not in known.config:
                obj["spec"]["config"]["namespace"] = wishes.namespace
    return obj


def _values(data: Mapping[str, str], wishes: Wishes) -> dict[str, str]:
    values = dict(data)
    chosen = BROKER_CLASSES.get(wishes.broker_class or "MTChannelBasedBroker")
    if chosen:
        values["K_SINK"] = chosen.ingress.format(namespace=wishes.namespace, name=config.BROKER)
    values["HEADRACE_JOURNAL"] = JOURNAL.format(namespace=wishes.namespace)
    if image := wishes.images.get("predictor") or wishes.image:
        # The promoter makes the models' Services, of a manifest that it brings along.
        step = {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}
        values[PATCH] = json.dumps([step])
    if wishes.store:
        values["HEADRACE_STORE"] = wishes.store
    values |= {**drops.values(wishes.drop), **wishes.values}
    if image and wishes.values.get(PATCH, "").strip():
        # What else somebody wants of the models' Services comes after their image.
        values[PATCH] = json.dumps([step, *json.loads(wishes.values[PATCH])])
    return values


def rolled(objects: Sequence[Object]) -> list[Object]:
    """The same objects, so marked that pods that stay are made anew when the values that they read at start change.

    Without it the source would go on with the store it was first given. A training's Job reads them when it is made.
    """
    (values,) = (o["data"] for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"] == config.CONFIG_MAP)
    mark = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
    marked = [copy.deepcopy(obj) for obj in objects]
    for obj in marked:
        if obj["kind"] in ("Service", "ContainerSource"):
            metadata = obj["spec"]["template"].setdefault("metadata", {})
            metadata["annotations"] = {**(metadata.get("annotations") or {}), VALUES: mark}
    return marked


def containers(obj: Object) -> Iterator[Object]:
    """Every container that an object describes, init containers too."""
    for node in _nodes(obj):
        for key in ("containers", "initContainers"):
            if isinstance(node.get(key), list):
                yield from node[key]


def _nodes(value: Any) -> Iterator[Object]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _nodes(item)
