"""A cluster of this machine's own, made by a kit that lies outside of this repository: found, built, started, stopped.

The kit is a folder with `src/build`, `up`, `down` and `image`; it is told its places by the environment, as its README
says. Nothing of it is copied here, so that any other cluster does as well: `make e2e KUBECONFIG=…`.

    python -m tests.e2e.kit FOLDER    build its programs where they are absent, with what processor others leave
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

# What its programs and its cluster need of Debian.
PACKAGES = ("runc", "containernetworking-plugins", "iptables", "conntrack", "iproute2", "ipset", "openssl", "curl")
LAST_BUILT = ("envoy", "knative/eventing/webhook")  # a build that was broken off lacks one of these
TESTS_OF = "E2E_CLUSTER"  # by this their processes are known
UP_S, BUILD_S, DOWN_S = 600.0, 3600.0, 120.0


class KitFailed(Exception):
    """A program of the kit did not do what it is for."""


@dataclass(frozen=True)
class Kit:
    """One kit and the places that it is given."""

    folder: Path
    programs: Path
    """CLUSTER_BIN: what `src/build` makes."""
    manifests: Path
    """KNATIVE_MANIFESTS: what `src/build` gathers."""
    state: Path
    """CLUSTER_STATE: keys, logs, data; short, for it holds sockets."""

    @classmethod
    def of(cls, folder: Path, environ: Mapping[str, str]) -> Kit:
        """The kit in `folder`, its places from the kit's own variables. Raises KitFailed where there is none."""
        if not (folder / "up").is_file():
            raise KitFailed(
                f"no cluster kit lies in {folder}; name one with CLUSTER_KIT=FOLDER, or a cluster with KUBECONFIG=FILE"
            )
        programs = Path(environ.get("CLUSTER_BIN") or Path.home() / ".cache/headrace/cluster-bin")
        manifests = Path(environ.get("KNATIVE_MANIFESTS") or programs.with_name("knative-manifests"))
        return cls(folder.resolve(), programs, manifests, Path(environ.get("CLUSTER_STATE") or "/var/tmp/cluster"))

    @property
    def kubeconfig(self) -> Path:
        return self.state / "pki/admin.conf"

    @property
    def containerd(self) -> Path:
        return self.state / "containerd.sock"

    @property
    def is_built(self) -> bool:
        return all((self.programs / name).exists() for name in LAST_BUILT) and (self.manifests / "serving").is_dir()

    @property
    def is_up(self) -> bool:
        """Whether one of its daemons lives."""
        return any(_lives(pid, name) for name, pid in self._daemons().items())

    @property
    def is_left_over(self) -> bool:
        """Whether its state is of a cluster that nobody will stop: the machine was cut off under it, or the run that
        was to stop it was. Asked with the cluster `reserved`, as only then is no such run alive.
        """
        return (self.state / "pids").exists() and (self._ends_with_its_run.exists() or not self.is_up)

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """No other run's meanwhile. Raises KitFailed where another has it."""
        self.state.parent.mkdir(parents=True, exist_ok=True)
        with self.state.with_name(f"{self.state.name}.lock").open("a") as lock:  # beside it: `down` wipes what is in it
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise KitFailed(
                    f"another run has the cluster in {self.state}; wait for its end, or set CLUSTER_STATE"
                ) from None
            yield

    def keep(self, kept: bool) -> None:
        """Say whether it is to outlive the run that has it `reserved`, also where that is killed."""
        if kept:
            self._ends_with_its_run.unlink(missing_ok=True)
        else:
            self.state.mkdir(parents=True, exist_ok=True)
            self._ends_with_its_run.touch()

    @property
    def _ends_with_its_run(self) -> Path:
        return self.state / "ends-with-its-run"

    def build(self) -> None:
        self._run("src/build", BUILD_S)

    def up(self) -> None:
        self._run("up", UP_S)

    def down(self) -> None:
        """Stop everything and forget its state."""
        self._run("down", DOWN_S, "--wipe")

    def load(self, archive: Path) -> None:
        """An image, as an archive of OCI's or Docker's layout, to where the kubelet finds it."""
        ctr = [str(self.programs / "ctr"), "-a", str(self.containerd), "-n", "k8s.io"]
        done = subprocess.run([*ctr, "images", "import", str(archive)], capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise KitFailed(f"{archive} cannot be imported: {done.stderr.strip()}")

    def image(self, name: str, *words: str) -> None:
        """An image of files, by the kit's own `image`."""
        self._run("image", UP_S, name, *words)

    @contextmanager
    def without(self, component: str) -> Iterator[None]:
        """A daemon of the node or the control plane killed without a word, and started again at the end as it was."""
        pid = self._pid(component)
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        environ = dict(
            pair.split("=", 1) for pair in Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0") if "=" in pair
        )
        os.kill(pid, signal.SIGKILL)
        try:
            yield
        finally:
            with (self.state / f"log/{component}.log").open("ab") as log:
                again = subprocess.Popen(
                    command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            pids = (self.state / "pids").read_text()
            # `down` ends what stands here.
            (self.state / "pids").write_text(pids.replace(f"{pid} {component}\n", f"{again.pid} {component}\n"))

    def kill_processes(self, module: str, pod: str = "") -> int:
        """Kill what runs `python -m MODULE` in the cluster's pods, or the one of this uid, without a word; how many."""
        killed = 0
        for process in psutil.process_iter(["cmdline"]):
            cgroups = _cgroups(process.pid) if module in (process.info["cmdline"] or ()) else ""
            if "kubepods" in cgroups and pod in cgroups:
                with suppress(psutil.Error):
                    process.kill()
                    killed += 1
        return killed

    def kill_tests(self) -> None:
        """Kill what `test_environ` was given to: the tests of a run that was killed itself go on. Asked by the run that
        has the cluster `reserved`, before it starts its own.
        """
        while tests := [p for p in psutil.process_iter() if _environ(p).get(TESTS_OF) == str(self.state)]:
            for process in tests:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(tests, 1.0)

    def _pid(self, component: str) -> int:
        if component not in (daemons := self._daemons()):
            raise KitFailed(f"no {component} among the processes of the cluster in {self.state}")
        return daemons[component]

    def _daemons(self) -> dict[str, int]:
        """The PID of each daemon that was started and not yet stopped, by its name."""
        try:
            lines = (self.state / "pids").read_text().splitlines()
        except FileNotFoundError:
            return {}
        return {name: int(pid) for pid, _, name in (line.partition(" ") for line in lines)}

    def environ(self) -> dict[str, str]:
        told = {"CLUSTER_BIN": self.programs, "KNATIVE_MANIFESTS": self.manifests, "CLUSTER_STATE": self.state}
        return {**os.environ, **{key: str(value) for key, value in told.items()}}

    def test_environ(self) -> dict[str, str]:
        """For the tests of this cluster, beside their own."""
        return {
            **self.environ(),
            "KUBECONFIG": str(self.kubeconfig),
            "E2E_KIT": str(self.folder),
            TESTS_OF: str(self.state),
        }

    def _run(self, program: str, within_s: float, *words: str) -> None:
        command = [str(self.folder / program), *words]
        done = subprocess.run(
            command, env=self.environ(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=within_s,
        )  # fmt: skip
        if done.returncode:
            raise KitFailed(f"{program} ended with {done.returncode}:\n{done.stdout[-4000:]}")


def _lives(pid: int, name: str) -> bool:
    try:
        process = psutil.Process(pid)
        return process.name()[:15] == name[:15] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}  # it has ended, or is the kernel's


def _cgroups(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""  # it has ended


def _give_way() -> None:
    """Run when nobody else wants to, also by a kernel that shares the processor out among sessions first."""
    with suppress(PermissionError):  # the first of a group has a session of its own already
        os.setsid()
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")
    os.nice(19)


if __name__ == "__main__":
    kit = Kit.of(Path(sys.argv[1]), os.environ)
    if not kit.is_built:
        _give_way()
        kit.build()
