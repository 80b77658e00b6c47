"""The kinds that the laptop's Kubernetes API serves: those of our manifests, and what they turn into.

One row each, used by the store (is it namespaced?), discovery, the OpenAPI document and the printer. Plurals, short
names and categories are those of Kubernetes 1.32 and of the CRDs of Knative Serving and Eventing.
"""

from __future__ import annotations

from dataclasses import dataclass

READ = ("get", "list", "watch")
WRITE = ("create", "delete", "deletecollection", "patch", "update")


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of the API.

    group: "" for the core group. status: has a `/status` subresource. builtin: Kubernetes' own, which kubectl patches
    strategically; the others are custom resources, which it patches by JSON merge.
    """

    group: str
    version: str
    kind: str
    plural: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    status: bool = True
    builtin: bool = False
    subresources: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`jobs.batch`, `pods`: how messages name the resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def root(self) -> str:
        """The group version's path: `/api/v1`, `/apis/batch/v1`."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def collection(self) -> str:
        """The path of all its objects, with `{namespace}` where the kind has one."""
        return (
            f"{self.root}/namespaces/{{namespace}}/{self.plural}" if self.namespaced else f"{self.root}/{self.plural}"
        )


_RBAC = "rbac.authorization.k8s.io"
_SERVING, _EVENTING = "serving.knative.dev", "eventing.knative.dev"
_KNATIVE = ("all", "knative")

KINDS: tuple[Kind, ...] = (
    Kind("", "v1", "Namespace", "namespaces", ("ns",), namespaced=False, builtin=True),
    Kind("", "v1", "ConfigMap", "configmaps", ("cm",), status=False, builtin=True),
    Kind("", "v1", "Secret", "secrets", status=False, builtin=True),
    Kind("", "v1", "ServiceAccount", "serviceaccounts", ("sa",), status=False, builtin=True),
    Kind("", "v1", "Pod", "pods", ("po",), ("all",), builtin=True, subresources=("log",)),
    Kind("", "v1", "Event", "events", ("ev",), status=False, builtin=True),
    Kind("batch", "v1", "Job", "jobs", categories=("all",), builtin=True),
    Kind(_RBAC, "v1", "Role", "roles", status=False, builtin=True),
    Kind(_RBAC, "v1", "RoleBinding", "rolebindings", status=False, builtin=True),
    Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", ("netpol",), status=False, builtin=True),
    Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", ("pdb",), builtin=True),
    Kind(_SERVING, "v1", "Service", "services", ("kservice", "ksvc"), (*_KNATIVE, "serving")),
    Kind(_SERVING, "v1", "Configuration", "configurations", ("config", "cfg"), (*_KNATIVE, "serving")),
    Kind(_SERVING, "v1", "Revision", "revisions", ("rev",), (*_KNATIVE, "serving")),
    Kind(_SERVING, "v1", "Route", "routes", ("rt",), (*_KNATIVE, "serving")),
    Kind(
        "autoscaling.internal.knative.dev",
        "v1alpha1",
        "PodAutoscaler",
        "podautoscalers",
        ("kpa", "pa"),
        ("knative-internal", "autoscaling"),
        subresources=("decision",),  # no cluster has it: what `headrace status` shows beyond the object
    ),
    Kind(_EVENTING, "v1", "Broker", "brokers", categories=(*_KNATIVE, "eventing")),
    Kind(_EVENTING, "v1", "Trigger", "triggers", categories=(*_KNATIVE, "eventing")),
    Kind("sinks.knative.dev", "v1alpha1", "JobSink", "jobsinks", categories=(*_KNATIVE, "eventing", "sinks")),
    Kind("sources.knative.dev", "v1", "ContainerSource", "containersources", categories=(*_KNATIVE, "sources")),
)

_BY_KIND = {kind.kind: kind for kind in KINDS}
_BY_PATH = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}


def by_kind(kind: str) -> Kind | None:
    """The row of a kind; kinds have distinct names here (core v1 Service is not served)."""
    return _BY_KIND.get(kind)


def by_path(group: str, version: str, plural: str) -> Kind | None:
    return _BY_PATH.get((group, version, plural))


def group_versions() -> tuple[tuple[str, str], ...]:
    """Each (group, version) served, in the order of `KINDS`."""
    return tuple(dict.fromkeys((kind.group, kind.version) for kind in KINDS))


def is_namespaced(kind: str) -> bool:
    row = _BY_KIND.get(kind)
    return row is None or row.namespaced


def qualified(kind: str) -> str:
    row = _BY_KIND.get(kind)
    return row.qualified if row else kind.lower() + "s"
