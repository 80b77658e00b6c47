"""The kinds Headrace reads and writes, and where their objects live: what discovery would say, known beforehand.

Source: the API groups of Kubernetes 1.37, the CustomResourceDefinitions of Knative Serving and Eventing and of Kubeflow
Trainer 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Resource:
    """Where the objects of one kind live."""

    api_version: str
    """`group/version`, or `v1` for the core group."""
    plural: str
    namespaced: bool = True

    @property
    def root(self) -> str:
        """The path of its group version, where discovery lists it."""
        return ("/apis/" if "/" in self.api_version else "/api/") + self.api_version

    def path(self, namespace: str, name: str | None = None, subresource: str | None = None) -> str:
        """The path of one object, or of all without `name`; `namespace` is left out where the kind has none."""
        place = ["namespaces", namespace] if self.namespaced else []
        parts = [*place, self.plural, name, subresource]
        return self.root + "".join(f"/{quote(part, safe='')}" for part in parts if part)


# Of two kinds named Service, Knative's is meant: Headrace never touches the core one.
RESOURCES: Mapping[str, Resource] = {
    "Namespace": Resource("v1", "namespaces", namespaced=False),
    "ConfigMap": Resource("v1", "configmaps"),
    "Secret": Resource("v1", "secrets"),
    "ServiceAccount": Resource("v1", "serviceaccounts"),
    "Pod": Resource("v1", "pods"),
    "Event": Resource("v1", "events"),
    "Job": Resource("batch/v1", "jobs"),
    "CronJob": Resource("batch/v1", "cronjobs"),
    "Deployment": Resource("apps/v1", "deployments"),
    "Role": Resource("rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": Resource("rbac.authorization.k8s.io/v1", "rolebindings"),
    "NetworkPolicy": Resource("networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": Resource("policy/v1", "poddisruptionbudgets"),
    "Service": Resource("serving.knative.dev/v1", "services"),
    "Configuration": Resource("serving.knative.dev/v1", "configurations"),
    "Revision": Resource("serving.knative.dev/v1", "revisions"),
    "Route": Resource("serving.knative.dev/v1", "routes"),
    "PodAutoscaler": Resource("autoscaling.internal.knative.dev/v1alpha1", "podautoscalers"),
    "Broker": Resource("eventing.knative.dev/v1", "brokers"),
    "Trigger": Resource("eventing.knative.dev/v1", "triggers"),
    "JobSink": Resource("sinks.knative.dev/v1alpha1", "jobsinks"),
    "ContainerSource": Resource("sources.knative.dev/v1", "containersources"),
    "TrainJob": Resource("trainer.kubeflow.org/v1alpha1", "trainjobs"),
    "TrainingRuntime": Resource("trainer.kubeflow.org/v1alpha1", "trainingruntimes"),
}
