"""scoregate as an overlay's manifests install it. The tests play the kubelet: a pod is the processes of its containers, with
the arguments, variables, ConfigMaps and Secrets of the manifests, on an address of its own.

What is not as in a cluster: files are below a folder of the run, `0.0.0.0` is the pod's address, and the models are the
tests' own, so that they can say what reached them.
"""

from __future__ import annotations

import json
import re
import signal
import ssl
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import alone
import manifests
from harness import ROOT, Process, Processes, answers, request, wait_until
from manifests import Object
from system import run_cli

WORKSPACE_ADDRESS = "10.96.1.1"
GATE_ADDRESSES = ("10.96.1.2", "10.96.1.3")
# For whoever plays the proxy's pods.
INGRESS_ADDRESS = "10.96.1.4"
MODEL_ADDRESSES = {"forecast": "10.96.2.1", "ranking": "10.96.2.2"}
# Of the container in k8s/example/models.
MODEL_PORT = 8080

# As docs/install says.
PUBLIC_CERTIFICATE = """
(cd secrets && certificate public DNS:forecast.models.example.com,DNS:ranking.models.example.com)
cp secrets/public.crt secrets/public.key .
"""


def secrets_of(folder: Path, page: str) -> list[Object]:
    """The Secrets that k8s/README.md and a page of docs/install make, by their commands. `folder`: for the files, new."""
    folder.mkdir()
    text = (ROOT / "docs" / "install" / page).read_text()
    commands = re.findall(r"(?m)^ +(kubectl create secret .*|\(cd secrets && secret .*)$", text)
    assert commands, f"{page} makes no Secret"
    return manifests.secrets_of_readme(folder, PUBLIC_CERTIFICATE, *commands)


@dataclass(frozen=True)
class Seen:
    """A request as a model saw it. Names of headers are in lower case."""

    model: str
    method: str
    target: str
    headers: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def identity(self) -> dict[str, list[str]]:
        """What says who calls, or may pass for it."""
        names = {key for key, _ in self.headers if key.replace("_", "-").startswith("x-scoregate")}
        return {name: self.all(name) for name in sorted(names)}


@dataclass
class Model:
    """A model server that remembers what it was asked, and says it in its answers."""

    name: str
    port: int
    seen: list[Seen] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                # `path` has been tampered with: two slashes at its start are one.
                target = self.requestline.split(" ")[1]
                headers = [(name.lower(), value) for name, value in self.headers.items()]
                model.seen.append(Seen(model.name, self.command, target, headers))
                body = json.dumps({"model": model.name, "target": target, "headers": headers}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_OPTIONS = do_HEAD = do_DELETE = handle_one

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer((MODEL_ADDRESSES[self.name], self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


class Pod:
    """One container of a pod, as a process."""

    def __init__(self, installation: Installation, role: str, name: str, address: str) -> None:
        self.installation, self.role, self.name, self.address = installation, role, name, address
        self.folder = installation.folder / name
        self.process: Process | None = None

    def start(self) -> None:
        """Starts it; again, after a stop, with the files that it left."""
        installation = self.installation
        _, _, pod = next(each for each in manifests.pods(installation.objects) if self.is_in(each[2]))
        container = manifests.container(pod, self.role)
        arguments, variables = manifests.lay_out(
            installation.objects, pod, container, installation.secrets, self.folder
        )
        config = Path(arguments[arguments.index("--config") + 1])
        config.write_text(self.here(config.read_text()))
        env = {name: self.here(value) for name, value in variables.items()}
        if self.role == "gate":
            # The name of its host, which is the pod's in a cluster.
            env["SCOREGATE__GATE__NAME"] = self.name
        log = f"{installation.folder.name}-{self.name}"
        self.process = installation.processes.start(log, installation.scoregate, *arguments, env=env, cwd=self.folder)
        ready = lambda: installation.answers(f"{self.admin}/readyz")  # noqa: E731
        installation.processes.wait(self.name, ready, self.process)

    def is_in(self, pod: Object) -> bool:
        return manifests.container_named(pod, self.role)

    def here(self, text: str) -> str:
        return text.replace("0.0.0.0", self.address)

    @property
    def admin(self) -> str:
        return f"https://{self.address}:9192"

    def stop(self) -> None:
        if self.process is not None:
            # At once: what a gate does at its end is tested elsewhere.
            self.process.popen.kill()
            self.installation.processes.stop(self.process)
            self.process = None

    def hang(self) -> None:
        """Returns when it stands still, which takes a moment."""
        self.signal(signal.SIGSTOP)
        assert self.process is not None
        stat = Path("/proc", str(self.process.popen.pid), "stat")
        wait_until("a process to stand still", lambda: stat.read_text().rpartition(") ")[2].startswith("T"), 5)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.popen.send_signal(number)


class Installation:
    def __init__(
        self,
        processes: Processes,
        folder: Path,
        scoregate: Path,
        objects: list[Object],
        secrets: Iterable[Object],
        gates: int = 1,
        model_port: int = MODEL_PORT,
    ) -> None:
        """`folder`: of `secrets_of`. `objects`: those of an overlay. `gates`: how many of them."""
        self.processes, self.folder, self.scoregate, self.objects = processes, folder, scoregate, objects
        self.secrets = manifests.contents(list(secrets))
        self.workspace = Pod(self, "workspace", "workspace-0", WORKSPACE_ADDRESS)
        self.gates = [Pod(self, "gate", f"gate-{number}", GATE_ADDRESSES[number]) for number in range(gates)]
        self.models = {name: Model(name, model_port) for name in MODEL_ADDRESSES}
        self.files = folder / "secrets"
        self.ca = self.files / "ca.crt"

    def start(self) -> None:
        """With the example's services, and their models."""
        # Those that wait for the gate are told where one is, which is enough.
        names = {"workspace.scoregate.svc": WORKSPACE_ADDRESS, "gate.scoregate.svc": GATE_ADDRESSES[0]}
        alone.name_hosts(self.folder, names)
        for pod in (self.workspace, *self.gates):
            pod.start()
        self.cli("apply", "-f", str(ROOT / "k8s" / "example"))
        for model in self.models.values():
            model.start()

    def stop(self) -> None:
        for pod in (*self.gates, self.workspace):
            pod.stop()
        for model in self.models.values():
            model.stop()

    def cli(self, *arguments: str) -> Any:
        owner = self.workspace.folder / "var" / "lib" / "scoregate" / "workspace" / "owner-credential"
        return run_cli(self.scoregate, "https://workspace.scoregate.svc:8181", owner, *arguments, ca=self.ca)

    def keys(self, service: str) -> tuple[str, str]:
        """The primary and the secondary one."""
        keys = self.cli("key", "show", service)
        return keys["primaryKey"], keys["secondaryKey"]

    def token(self, service: str, *arguments: str) -> str:
        return self.cli("token", "get", service, *arguments)["accessToken"]

    def context(self) -> ssl.SSLContext:
        """What Prometheus shows to pods; and no look at names, for pods are asked by their addresses here."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.check_hostname = False
        context.load_cert_chain(self.files / "monitoring.crt", self.files / "monitoring.key")
        return context

    def answers(self, url: str) -> bool:
        return answers(url, self.context())

    def reasons(self) -> Counter[str]:
        """How often gates have decided so far, by reason. Those that are gone are not asked."""
        return sum((self.reasons_of(gate) for gate in self.gates if gate.process is not None), Counter())

    def reasons_of(self, gate: Pod) -> Counter[str]:
        metrics = request("GET", f"{gate.admin}/metrics", context=self.context()).body
        lines = re.findall(r'(?m)^scoregate_decisions_total\{.*reason="(\w+)".*\} (\d+)$', metrics)
        counts: Counter[str] = Counter()
        for reason, count in lines:
            counts[reason] += int(count)
        return counts

    def seen(self) -> list[Seen]:
        """All that reached a model, in no order but that of each."""
        return [seen for model in self.models.values() for seen in model.seen]
