"""Jobs: Pods that run to an end, tried again as the spec allows. `headrace.local.controllers.job_state` decides what
to do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime

from headrace.local.controllers import job_state
from headrace.local.controllers.controller import Context, child_name, controlled_by, is_controlled_by, random_suffix
from headrace.local.controllers.job_state import COMPLETION_INDEX, Decision
from headrace.local.objects.objects import Object, set_condition, timestamp
from headrace.local.pods import pod_status
from headrace.local.pods.process import FINALIZER

JOB_NAME, OLD_JOB_NAME = "batch.kubernetes.io/job-name", "job-name"
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
CONTROLLER_UID, OLD_CONTROLLER_UID = "batch.kubernetes.io/controller-uid", "controller-uid"


class Jobs:
    """Runs each Job's Pods. terminate: ends a Pod's process and keeps the Pod, for its log.

    A Pod deleted by somebody is a failure, one that was lost with the platform is not; both are replaced.
    """

    def __init__(
        self, context: Context, terminate: Callable[[str, str], None], backoff_s: float = job_state.BACKOFF_S
    ) -> None:
        self._objects = context.objects
        self._clock = context.clock
        self._recorder = context.recorder
        self._terminate = terminate
        self._backoff_s = backoff_s
        self._deleting: set[str] = set()  # uids of Pods that this controller deletes: no failures

    def reconcile(self, namespace: str, name: str) -> float | None:
        job = self._objects.get("Job", namespace, name)
        if job is None or "deletionTimestamp" in job["metadata"]:
            return None
        now = self._clock()
        self._begin(job, now)
        decision = job_state.decide(job, self._pods(job), now, self._backoff_s)
        if decision.delete:
            self._objects.delete("Job", namespace, name)
            return None
        for running in decision.stop:
            if decision.suspended:
                self._delete(namespace, running)
            else:
                self._terminate(namespace, running)
        self._set_status(job, decision, now)
        for index in decision.create:
            pod = self._objects.create(pod_of(job, random_suffix(), index))
            self._recorder.normal(job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        return decision.again_s

    def pod_deleted(self, pod: Object, namespace: str, name: str) -> None:
        """Remember how a Pod of this Job ended that is no longer there to be asked."""
        meta = pod["metadata"]
        job = self._objects.get("Job", namespace, name)
        if meta["uid"] in self._deleting:
            self._deleting.discard(meta["uid"])
            return
        if job is None or not is_controlled_by(pod, job) or job_state.is_finished(job) or pod_status.disrupted(pod):
            return
        end = "succeeded" if (pod.get("status") or {}).get("phase") == pod_status.SUCCEEDED else "failed"
        status: Object = job.get("status") or {}
        uids: list[str] = status.setdefault("uncountedTerminatedPods", {}).setdefault(end, [])
        if meta["uid"] not in uids:
            uids.append(meta["uid"])
            self._objects.update({**job, "status": status}, subresource="status")

    def _pods(self, job: Object) -> list[Object]:
        meta = job["metadata"]
        found = self._objects.list("Pod", meta["namespace"], {CONTROLLER_UID: meta["uid"]})
        return [pod for pod in found if is_controlled_by(pod, job) and not self._is_gone(pod)]

    def _is_gone(self, pod: Object) -> bool:
        """Deleted by us: neither active nor a failure."""
        return pod["metadata"]["uid"] in self._deleting

    def _delete(self, namespace: str, name: str) -> None:
        pod = self._objects.get("Pod", namespace, name)
        if pod is not None:
            self._deleting.add(pod["metadata"]["uid"])  # first: its end may be heard of within the call
            self._objects.delete("Pod", namespace, name)

    def _begin(self, job: Object, now: datetime) -> None:
        """Set startTime, from which activeDeadlineSeconds counts; a suspended Job has none."""
        status: Object = job.setdefault("status", {})
        if job["spec"].get("suspend"):
            status.pop("startTime", None)
        elif "startTime" not in status:
            status["startTime"] = timestamp(now)

    def _set_status(self, job: Object, decision: Decision, now: datetime) -> None:
        status: Object = job["status"]
        figures = decision.figures
        status |= {"active": figures.active, "ready": figures.ready, "terminating": figures.terminating}
        status |= {"succeeded": figures.succeeded, "failed": figures.failed}
        if job["spec"].get("completionMode") == "Indexed" and not job_state.is_finished(job):
            status["completedIndexes"] = job_state.ranges(decision.completed)
        outcome = decision.outcome
        if decision.suspended:
            set_condition(status, "Suspended", "True", "JobSuspended", "Job suspended", now=now)
        elif any(c["type"] == "Suspended" for c in status.get("conditions") or []):
            set_condition(status, "Suspended", "False", "JobResumed", "Job resumed", now=now)
        if outcome.type and not job_state.is_finished(job):
            first, last = (
                ("SuccessCriteriaMet", "Complete") if outcome.type == "Complete" else ("FailureTarget", "Failed")
            )
            set_condition(status, first, "True", outcome.reason, outcome.message, now=now)
            if decision.finished:
                set_condition(status, last, "True", outcome.reason, outcome.message, now=now)
                if outcome.type == "Complete":
                    status["completionTime"] = timestamp(now)
                    self._recorder.normal(job, "Completed", "Job completed")
                else:
                    self._recorder.warning(job, outcome.reason, outcome.message)
        self._objects.update({**job, "status": status}, subresource="status")


def pod_of(job: Object, suffix: str, index: int | None = None) -> Object:
    """A Pod of the Job. index: the completion index that it works on, of an Indexed Job. Pure."""
    meta, template = job["metadata"], job["spec"]["template"]
    template_meta = template.get("metadata") or {}
    spec = copy.deepcopy(template["spec"])
    spec.setdefault("restartPolicy", "Never")
    for described in spec.get("containers") or []:
        described.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")
    labels = {JOB_NAME: meta["name"], OLD_JOB_NAME: meta["name"]}
    labels |= {CONTROLLER_UID: meta["uid"], OLD_CONTROLLER_UID: meta["uid"]}
    annotations = dict(template_meta.get("annotations") or {})
    if index is not None:
        labels[COMPLETION_INDEX] = annotations[COMPLETION_INDEX] = str(index)
        spec["hostname"] = f"{meta['name']}-{index}"
        suffix = f"{index}-{suffix}"
        for described in spec.get("containers") or []:
            variables = described.setdefault("env", [])
            if all(variable["name"] != INDEX_VARIABLE for variable in variables):
                variables.append({"name": INDEX_VARIABLE, "value": str(index)})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": child_name(meta["name"], f"-{suffix}"),
            "namespace": meta["namespace"],
            "labels": {**(template_meta.get("labels") or {}), **labels},
            "annotations": annotations,
            "ownerReferences": controlled_by(job),
            "finalizers": [FINALIZER],
        },
        "spec": spec,
    }
