"""What a training or a model wrote: the log of the pod that a name means."""

from __future__ import annotations

from collections.abc import Iterator

from eventing.errors import HeadraceError
from headrace import pods
from headrace.place import Place
from knative import rollout
from knative.pods import SOURCE_LABEL, newest, of_train_job


def lines(place: Place, name: str, follow: bool) -> Iterator[str]:
    """The lines of a Job or TrainJob, of a Service's or ContainerSource's newest pod, or of a model's last training.

    The last is for one that does not serve yet. Raises HeadraceError naming what there is.
    """
    cluster = place.cluster
    job = name.removeprefix("job/")
    if cluster.get("Job", job) is not None:
        return cluster.logs(job, follow)
    if cluster.get("Service", name) is not None:
        pod = newest(cluster.list("Pod", {rollout.SERVICE_LABEL: name}))
        if pod is None:
            raise HeadraceError(
                f"Service {name} is at zero: it has no pod, and no log; a request brings one{_kept(place)}"
            )
        return cluster.pod_logs(pod["metadata"]["name"], pods.container(pod), follow)
    if cluster.get("ContainerSource", name) is not None:
        pod = newest(cluster.list("Pod", {SOURCE_LABEL: name}))
        if pod is None:
            raise HeadraceError(f"ContainerSource {name} has no pod; see `headrace status`")
        return cluster.pod_logs(pod["metadata"]["name"], pods.container(pod), follow)
    found = cluster.list("Job")
    made = [each for each in found if of_train_job(each, name.removeprefix("trainjob/"))]
    if made:
        return cluster.logs(made[0]["metadata"]["name"], follow)
    training = _last_training(place, name)
    if training is not None and cluster.get("Job", training) is not None:
        return cluster.logs(training, follow)
    sources = ", ".join(sorted(o["metadata"]["name"] for o in cluster.list("ContainerSource"))) or "none"
    jobs = ", ".join(sorted(o["metadata"]["name"] for o in found)) or "none"
    services = ", ".join(sorted(o["metadata"]["name"] for o in cluster.list("Service"))) or "none"
    gone = f"; its last training, Job {training}, is gone" if training else ""
    there = f"Jobs: {jobs}; Services: {services}; sources: {sources}"
    raise HeadraceError(f"there is no Job, Service or source {name!r} here{gone}; {there}")


def _kept(place: Place) -> str:
    """Where a laptop keeps the logs of pods that are gone."""
    if not place.is_laptop or place.kubeconfig is None:
        return ""
    return f". What earlier pods wrote lies in {place.kubeconfig.parent / 'logs' / place.cluster.namespace}"


def _last_training(place: Place, model: str) -> str | None:
    """The Job that the newest event about the model names."""
    found = [e.data.get("job") for e in place.journal.read(subject=model, loop=True) if e.data.get("job")]
    return str(found[-1]) if found else None
