"""Why a deployment does not come about, in terms of its cause and of what to do. Pure.

Called by `headrace.deploy.deployment` and `.undeployment` with what the API server said: a refusal, a condition, what
pods and events tell. Source: the reasons and messages of knative/serving pkg/apis/serving/v1/revision_lifecycle.go,
knative/eventing pkg/reconciler/broker and of Kubernetes' kubelet, quota and webhook admission.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from headrace import status
from headrace.deploy.plan import BROKER_CLASS
from knative.answers import ClusterError, Conflict, NotFound, Refused

Object = dict[str, Any]

# Which part of Knative brings a kind; of the API groups of Kubernetes itself none can be missing.
SERVING = ("Service",)
EVENTING = ("Broker", "Trigger", "ContainerSource")

_IMAGE = re.compile(
    r"ImagePullBackOff|ErrImage|ImageInspectError|RegistryUnavailable|SignatureValidationFailed|InvalidImageName"
    r"|[Uu]nable to fetch image|failed to resolve image|[Ff]ailed to pull image|Back-off pulling image"
)
_IMAGE_NAME = re.compile(r'image "?([^\s":,]+(?::\d+/[^\s":,]+)?(?:[:@][^\s",]+)?)')
_QUOTA = re.compile(
    r"exceeded quota|must specify (?:limits|requests)|forbidden: \[?(?:maximum|minimum|\S+ max limit to request ratio)"
)
_WEBHOOK = re.compile(r'admission webhook "([^"]+)" denied the request: (.*)', re.DOTALL)
_POLICY = re.compile(r"ValidatingAdmissionPolicy '([^']+)'.* denied request: (.*)", re.DOTALL)
_WEBHOOK_DOWN = re.compile(r'failed calling webhook "([^"]+)"')
_CLAIM = re.compile(
    r'persistentvolumeclaim "([^"]+)" (?:not found|is being deleted)|unbound immediate PersistentVolumeClaims'
)
_SCHEDULE = re.compile(r"Insufficient (\S+)|didn't match (?:Pod's )?node|had untolerated taint")
_SECURITY = re.compile(r'violates PodSecurity "([^"]+)"')
_SETTING = re.compile(r'(configmap|secret) "([^"]+)" not found')
_TERMINATING = re.compile(r"namespace (\S+) because it is being terminated")
_EXIT = re.compile(
    r"Container failed with|exit(?:ed)? (?:with )?(?:code |status )?\d|CrashLoopBackOff|ExitCode\d|OOMKilled"
)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why one object is not as it should be.

    final: waiting changes nothing, somebody must do something first. follows: it comes of another object's cause, and
    goes with it.
    """

    object: str
    what: str
    todo: str = ""
    final: bool = False
    follows: bool = False

    def __str__(self) -> str:
        return f"{self.object}: {self.what}" + (f"; {self.todo}" if self.todo else "")


def label(obj: Object) -> str:
    return f"{obj['kind']} {obj['metadata']['name']}"


def of_missing(kinds: Iterable[str]) -> list[Cause]:
    """Of kinds that the cluster does not serve, one cause for each part of Knative that is absent or too old."""
    missing = list(dict.fromkeys(kinds))
    causes = []
    serving = [k for k in missing if k in SERVING]
    eventing = [k for k in missing if k in EVENTING]
    if serving:
        what = "Knative Serving is absent: the cluster does not know services of serving.knative.dev/v1"
        causes.append(Cause("cluster", what, "install Knative Serving", final=True))
    if eventing:
        what = f"Knative Eventing is absent: the cluster does not know {', '.join(eventing)}"
        causes.append(Cause("cluster", what, "install Knative Eventing 1.15 or newer", final=True))
    elif "JobSink" in missing:
        what = "Knative Eventing is too old: the cluster does not know JobSink of sinks.knative.dev/v1alpha1"
        causes.append(Cause("cluster", what, "it came with Eventing 1.15: update to that or a newer one", final=True))
    others = [k for k in missing if k not in (*SERVING, *EVENTING, "JobSink")]
    if others:
        causes.append(Cause("cluster", f"the API server does not know {', '.join(others)}", final=True))
    return causes


def of_stranger(obj: Object) -> Cause:
    """Of an object that is there under a name of ours and does not say that it is a part of Headrace."""
    todo = "choose another namespace with --namespace, or make it Headrace's with --force-conflicts"
    return Cause(label(obj), "is there already and is not Headrace's", todo, final=True)


def of_going(obj: Object) -> Cause:
    """Of an object that was deleted and is still there: of a namespace its own conditions say what keeps it."""
    told = (obj.get("status") or {}).get("conditions") or ()
    left = [str(c["message"]) for c in told if c.get("status") == "True" and "Remaining" in str(c.get("type"))]
    what = "is being removed, and nothing can be made in its place until it is gone"
    return Cause(label(obj), ": ".join((what, *left)), "deploy again then", final=True)


def of_error(obj: Object, error: ClusterError) -> Cause:
    """Of an apply or a delete that was not done."""
    who, said = label(obj), _bare(str(error))
    if isinstance(error, Conflict) and error.fields:
        fields = "; ".join(f"{field.path} is {field.manager}'s" for field in error.fields)
        todo = "let its manager give it up or set the same, or take it with --force-conflicts"
        return Cause(who, f"another manager has set what the manifest sets: {fields}", todo, final=True)
    if isinstance(error, NotFound) and "namespaces" in said:
        return Cause(who, said, final=True)
    if isinstance(error, Refused) and error.status == 403 and not _recognised(who, said):
        return Cause(who, f"no rights: {error.reason}", "ask for them, or deploy as somebody who has them", final=True)
    if isinstance(error, Refused):
        return _recognised(who, error.reason) or Cause(who, f"refused: {error.reason}", final=True)
    return _recognised(who, said) or Cause(who, said)


def of_part(obj: Object, told: Sequence[str] = ()) -> Cause:
    """Of an object that is not Ready.

    told: what else was said about what it is made of, the newest first: conditions of its revision, messages of its
    pods, warnings among the namespace's events.
    """
    who, ready = label(obj), status.condition(obj, "Ready")
    said = ": ".join(str(t).strip() for t in (ready.get("reason"), ready.get("message")) if t)
    for sentence in (said, *told):
        if found := _recognised(who, sentence):
            return found
    if obj["kind"] == "Broker" and not (obj.get("status") or {}).get("conditions"):
        return _unanswered_broker(who, obj)
    if obj["kind"] == "Broker" and re.search(r"[Cc]hannelTemplate|config", said):
        todo = "see ConfigMap config-br-defaults in knative-eventing, or name a class with --broker-class"
        return Cause(who, f"its class has no working configuration: {said}", todo)
    if obj["kind"] == "Broker" and "NoAddress" in said:
        # Its channel has none before the dead letter sink has one.
        return Cause(who, f"waits for its channel, which waits for the dead letters ({said})", follows=True)
    if obj["kind"] == "Trigger" and re.search(
        r"Broker(?:DoesNotExist|NotConfigured|Unknown|NotReady)|[Bb]roker|NoAddr", said
    ):
        return Cause(who, f"waits for its Broker ({said})", follows=True)
    if obj["kind"] == "Trigger" and re.search(r"[Ss]ubscriber", said):
        return Cause(who, f"waits for its subscriber ({said})", follows=True)
    if re.search(r"[Dd]eadLetterSink|[Dd]ead letter sink", said):
        return Cause(who, f"waits for the dead letters ({said})", follows=True)
    if not said:
        said = "nothing has looked at it yet: is Knative's controller running?"
    return Cause(who, f"not Ready: {said}" + "".join(f"; {t}" for t in told[:1]))


def _unanswered_broker(who: str, obj: Object) -> Cause:
    chosen = (obj["metadata"].get("annotations") or {}).get(BROKER_CLASS)
    if chosen is None:
        what = "the cluster has no default Broker class (ConfigMap config-br-defaults in knative-eventing)"
        return Cause(who, what, "name one that is installed with --broker-class")
    what = f"no controller answers for Broker class {chosen}"
    return Cause(
        who, what, "install that class, or name another with --broker-class (on a new Broker: it cannot change)"
    )


def _recognised(who: str, said: str) -> Cause | None:
    """A sentence of Kubernetes' or Knative's by what it means; None where it is none that is known."""
    if _QUOTA.search(said):
        return Cause(
            who, f"quota: {said}", "raise the namespace's quota or limits, or lower what is asked for", final=True
        )
    if found := _TERMINATING.search(said):
        return Cause(who, f"namespace {found[1]} is being removed", "deploy again when it is gone", final=True)
    if found := _SECURITY.search(said):
        return Cause(who, f"the namespace's Pod Security level {found[1]} refuses its pods: {said}", final=True)
    if found := _WEBHOOK.search(said):
        return Cause(who, f"webhook {found[1]} said: {found[2]}", final=True)
    if found := _POLICY.search(said):
        return Cause(who, f"ValidatingAdmissionPolicy {found[1]} said: {found[2]}", final=True)
    if found := _WEBHOOK_DOWN.search(said):
        todo = "see its pods, mostly in namespace knative-serving or knative-eventing"
        return Cause(who, f"webhook {found[1]} does not answer: {said}", todo)
    if _IMAGE.search(said):
        image = _IMAGE_NAME.search(said)
        named = f"image {image[1]}" if image else "its image"
        todo = "give one that the cluster can pull with --image, and a pull secret to its service account"
        return Cause(who, f"{named} cannot be pulled: {said}", todo, final=True)
    if found := _CLAIM.search(said):
        claim = found[1] or "a PersistentVolumeClaim"
        return Cause(who, f"its pod waits for {claim}: {said}", "bring that claim (docs/ops.md)", final=True)
    if found := _SETTING.search(said):
        return Cause(who, f"its pod waits for {found[1]} {found[2]}: {said}", f"make that {found[1]}", final=True)
    if _SCHEDULE.search(said):
        return Cause(who, f"no node takes its pod: {said}", "add a node, or ask for less")
    if _EXIT.search(said):
        return Cause(who, f"its container ends: {said}", "see its log")
    return None


def _bare(said: str) -> str:
    """The server's sentence without the request before it."""
    return re.sub(r"^(?:GET|PATCH|POST|PUT|DELETE) \S+: ", "", said)
