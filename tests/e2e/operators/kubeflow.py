"""Kubeflow Trainer with its JobSet in a cluster of the kit's: programs, manifests and webhooks as they publish them.

The programs are built of their Go modules (`trainer/build`), once per machine. The manifests lie in the same modules;
what is changed of them is the image, which a cluster of this machine's own is given, and how much processor is asked
for.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.kit import Kit, KitFailed
from tests.e2e.operators.programs import built
from tests.e2e.place import until

Object = dict[str, Any]

HERE = Path(__file__).with_name("trainer")
TRAINER, JOBSET = "github.com/kubeflow/trainer/v2", "sigs.k8s.io/jobset"
NAMESPACES = {TRAINER: "kubeflow-system", JOBSET: "jobset-system"}
IMAGES = {TRAINER: "dev.local/kubeflow/trainer", JOBSET: "dev.local/kubeflow/jobset"}
DELETE_S, READY_S = 180.0, 180.0
# What refuses, and what objects are of, goes while the managers still run: they take their finalizers away.
FIRST_TO_GO = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "CustomResourceDefinition")


@dataclass(frozen=True)
class Kubeflow:
    """What is installed."""

    kubeconfig: Path
    versions: dict[str, str]
    """By module."""

    def kubectl(self, *words: str, given: str = "", within_s: float = DELETE_S) -> str:
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), *words]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=within_s + 30)
        if done.returncode:
            raise KitFailed(f"kubectl {' '.join(words)} ended with {done.returncode}:\n{done.stderr.strip()[-4000:]}")
        return done.stdout


@contextmanager
def installed(kit: Kit, kubeconfig: Path, folder: Path) -> Iterator[Kubeflow]:
    """Both, their webhooks answering; taken away afterwards, definitions too. `folder`: for what is rendered."""
    modules = {name: _module(name) for name in (TRAINER, JOBSET)}
    kubeflow = Kubeflow(kubeconfig, {name: str(module["Version"]) for name, module in modules.items()})
    if there := kubeflow.kubectl("get", "crd", "-o", "name", "--ignore-not-found", *definitions()):
        raise KitFailed(f"installed here already, and would be taken away at the end: {there}")
    images = _images(kit, kubeflow.versions)
    objects = [
        *_objects(Path(modules[JOBSET]["Dir"]) / "config/default", images[JOBSET]),
        *_objects(_trainer(Path(modules[TRAINER]["Dir"]) / "manifests/base", folder), images[TRAINER]),
    ]
    try:
        kubeflow.kubectl("apply", "--server-side", "-f", "-", given=_list(objects))
        for module, namespace in NAMESPACES.items():
            words = ("-n", namespace, "rollout", "status", "deployment", f"--timeout={READY_S:.0f}s")
            kubeflow.kubectl(*words, within_s=READY_S)
            until(f"webhooks of {module}", lambda namespace=namespace: _webhooks_answer(kubeflow, namespace))
        yield kubeflow
    finally:
        _remove(kubeflow, objects)


def definitions() -> tuple[str, ...]:
    """The names of what they define."""
    kinds = ("clustertrainingruntimes", "trainingruntimes", "trainjobs")
    return (*(f"{kind}.trainer.kubeflow.org" for kind in kinds), "jobsets.jobset.x-k8s.io")


def _module(name: str) -> Object:
    """What `go` knows of a module of trainer/go.mod: its version, and the folder in the module cache."""
    # Fetched where it is not there, hashed as go.sum says.
    done = subprocess.run(["go", "mod", "download", "-json", name], cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        raise KitFailed(f"module {name} is not to be had: {done.stderr.strip() or done.stdout.strip()}")
    return dict(json.loads(done.stdout))


def _images(kit: Kit, versions: dict[str, str]) -> dict[str, str]:
    """Their programs as images in the cluster; references by module."""
    programs = built(HERE / "build", "trainer", [HERE / "go.mod", HERE / "go.sum"])
    references = {module: f"{IMAGES[module]}:{version}" for module, version in versions.items()}
    kit.image(references[TRAINER], "--bin", str(programs / "trainer-controller-manager"))
    # Its manifest calls the program by this name.
    kit.image(references[JOBSET], "--add", f"{programs / 'jobset'}:/manager")
    return references


def _trainer(base: Path, folder: Path) -> Path:
    """The folder of a kustomization that is Trainer's own overlay `manager` without its JobSet, which it takes from the
    network.
    """
    overlay = yaml.safe_load((base.parent / "overlays/manager/kustomization.yaml").read_text(encoding="utf-8"))
    local = [name for name in overlay["resources"] if name.startswith("../../base/")]
    overlay["resources"] = [
        "namespace.yaml",
        *(os.path.relpath(base / Path(name).relative_to("../../base"), folder.resolve()) for name in local),
    ]
    (folder / "namespace.yaml").write_text((base.parent / "overlays/manager/namespace.yaml").read_text())
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return folder


def _objects(folder: Path, image: str) -> list[Object]:
    """What a folder's kustomization makes, with this image, and with what a small node has."""
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise KitFailed(f"kubectl kustomize {folder}: {done.stderr.strip()}")
    objects = [o for o in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if o]
    for o in objects:
        if o["kind"] == "Deployment":
            (container,) = o["spec"]["template"]["spec"]["containers"]
            container["image"] = image
            container.setdefault("resources", {}).setdefault("requests", {}).update(cpu="5m", memory="64Mi")
            # As often as one wants to know it while waiting.
            container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 1}
    return objects


def _webhooks_answer(kubeflow: Kubeflow, namespace: str) -> bool:
    """Whether each webhook that is served from there has been given the certificate that its caller must trust, and the
    pod behind it is known to its Service.
    """
    kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
    configurations = json.loads(kubeflow.kubectl("get", kinds, "-o", "json"))["items"]
    clients = [hook["clientConfig"] for each in configurations for hook in each["webhooks"]]
    ours = [client for client in clients if (client.get("service") or {}).get("namespace") == namespace]
    slices = json.loads(kubeflow.kubectl("-n", namespace, "get", "endpointslices", "-o", "json"))["items"]
    ready = [e for each in slices for e in each.get("endpoints") or () if e["conditions"].get("ready")]
    return bool(ours and ready) and all(client.get("caBundle") for client in ours)


def _remove(kubeflow: Kubeflow, objects: list[Object]) -> None:
    first = [o for o in objects if o["kind"] in FIRST_TO_GO]
    for part in (first, [o for o in objects if o not in first]):
        words = ("delete", "--ignore-not-found", f"--timeout={DELETE_S:.0f}s", "-f", "-")
        kubeflow.kubectl(*words, given=_list(part))
    left = kubeflow.kubectl("get", "crd", "-o", "name", "--ignore-not-found", *definitions())
    if left:
        raise KitFailed(f"left behind: {left}")


def _list(objects: list[Object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
