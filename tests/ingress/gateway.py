"""A real Envoy Gateway beside a real API server: it runs a real Envoy on this machine, by what the API server has.

It is standalone in that nothing of it is in a cluster. It reads the API server and not files, because its reader of files
knows neither Services nor their endpoints, which the overlay names: so the overlay stays as it is.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import Cluster, Object
from harness import Process, Processes, answers
from parts import CATALOGUE, program

CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
ENVOY = CATALOGUE["envoy"].pin.partition("==")[2]
READY = "http://127.0.0.1:8081/readyz"

# Envoy Gateway looks for its certificate in /certs whenever it reads an API server. Here is a root for it which is this
# machine's, and has that folder. The mounts are in a namespace of the process: whoever removes the folder finds it empty.
WITH_CERTIFICATES = """
root=$1 certificates=$2
shift 2
mount -t tmpfs none "$root"
for each in /*; do
    if [ -L "$each" ]; then
        cp -P "$each" "$root"
    elif [ -d "$each" ]; then
        mkdir "$root$each"
        mount --rbind "$each" "$root$each"
    fi
done
mkdir -p "$root/certs"
mount --bind "$certificates" "$root/certs"
exec chroot "$root" "$@"
"""


class Gateway:
    def __init__(self, processes: Processes, folder: Path, cluster: Cluster) -> None:
        self.processes, self.folder, self.cluster = processes, folder, cluster
        self.process: Process | None = None

    def start(self) -> None:
        for name in ("config", "root"):
            (self.folder / name).mkdir(parents=True)
        envoy = self.folder / "data" / "envoy-versions" / ENVOY / "bin" / "envoy"
        envoy.parent.mkdir(parents=True)
        envoy.symlink_to(program("envoy", "envoy"))
        binary = program("envoy-gateway", "envoy-gateway")
        generate = [binary, "certgen", "--local", "--config-home", self.folder / "config"]
        subprocess.run(generate, check=True, stdout=subprocess.DEVNULL)
        configuration = self.folder / "envoy-gateway.json"
        configuration.write_text(json.dumps(self.configuration()))
        self.process = self.processes.start(
            "envoy-gateway",
            *("unshare", "--mount", "sh", "-euc", WITH_CERTIFICATES, "sh"),
            *(self.folder / "root", self.folder / "config" / "certs" / "envoy-gateway"),
            *(binary, "server", "--config-path", configuration),
            env={
                "KUBECONFIG": str(self.cluster.kubeconfig),
                "HOME": str(self.folder),
                # Where an EnvoyProxy names none. It is there, so none is fetched.
                "ENVOY_VERSION": ENVOY,
            },
        )
        self.processes.wait("Envoy Gateway", lambda: answers(READY), self.process)

    def configuration(self) -> Object:
        folders = {"configHome": "config", "dataHome": "data", "stateHome": "state", "runtimeDir": "runtime"}
        return {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "EnvoyGateway",
            "gateway": {"controllerName": CONTROLLER},
            "provider": {
                "type": "Custom",
                "custom": {
                    "resource": {"type": "Kubernetes", "kubernetes": {"leaderElection": {"disable": True}}},
                    "infrastructure": {
                        "type": "Host",
                        "host": {key: str(self.folder / name) for key, name in folders.items()},
                    },
                },
            },
        }

    def stop(self) -> None:
        if self.process is not None:
            self.processes.stop(self.process)

    @property
    def admin(self) -> str:
        """The URL of Envoy's own interface, once Envoy runs."""
        [file] = (self.folder / "runtime").rglob("admin-address.txt")
        return f"http://{file.read_text()}"

    def logged(self, text: str) -> str | None:
        """The line of Envoy's access log that has this text."""
        assert self.process is not None
        # The last one may be half there.
        lines = self.process.log.read_text(errors="replace").split("\n")[:-1]
        return next((line for line in lines if text in line), None)


@dataclass(frozen=True)
class Condition:
    """One of what Envoy Gateway says of an object that it has read."""

    type: str
    status: str
    reason: str
    message: str
    generation: int


def conditions(status: Object) -> Iterator[Condition]:
    """All of them, wherever in a status they are."""
    for key, value in status.items():
        if key == "conditions":
            for each in value:
                words = [each[word] for word in ("type", "status", "reason", "message", "observedGeneration")]
                yield Condition(*words)
        elif isinstance(value, list):
            for each in value:
                if isinstance(each, dict):
                    yield from conditions(each)
