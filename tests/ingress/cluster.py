"""A real Kubernetes API server on a real etcd. There is no kubelet and no controller: it judges and stores, and what would
run is up to the tests."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from harness import Process, Processes, answers, free_port, wait_until  # noqa: E402
from parts import PARTS, program  # noqa: E402

Object = dict[str, Any]


class Refused(Exception):
    """The API server did not take it; the message is kubectl's."""


class Cluster:
    def __init__(self, processes: Processes, folder: Path) -> None:
        self.processes, self.folder = processes, folder
        self.kubeconfig = folder / "kubeconfig"
        self.started: list[Process] = []

    def start(self) -> None:
        etcd = f"http://127.0.0.1:{free_port()}"
        peers = f"http://127.0.0.1:{free_port()}"
        process = self.processes.start(
            "etcd",
            *(program("etcd", "etcd"), "--data-dir", self.folder / "etcd", "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", etcd, "--advertise-client-urls", etcd),
            *(
                "--listen-peer-urls",
                peers,
                "--initial-advertise-peer-urls",
                peers,
                "--initial-cluster",
                f"default={peers}",
            ),
        )
        self.started.append(process)
        self.processes.wait("etcd", lambda: answers(f"{etcd}/health"), process)
        self.start_api_server(etcd)

    def stop(self) -> None:
        while self.started:
            self.processes.stop(self.started.pop())

    def start_api_server(self, etcd: str) -> None:
        certificates, token, key = (
            self.folder / "api-server",
            secrets.token_hex(16),
            self.folder / "service-account.key",
        )
        tokens = self.folder / "tokens.csv"
        tokens.write_text(f"{token},admin,admin,system:masters\n")
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
        port = free_port()
        process = self.processes.start(
            "kube-apiserver",
            *(program("kubernetes", "kube-apiserver"), "--etcd-servers", etcd, "--cert-dir", certificates),
            *("--bind-address", "127.0.0.1", "--secure-port", str(port), "--advertise-address", "10.96.0.2"),
            *("--endpoint-reconciler-type", "none", "--service-cluster-ip-range", "10.96.128.0/17"),
            *("--service-account-issuer", "https://kubernetes.default.svc"),
            *("--service-account-key-file", key, "--service-account-signing-key-file", key),
            *("--token-auth-file", tokens, "--authorization-mode", "RBAC"),
        )
        self.started.append(process)
        server = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificates / "apiserver.crt")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(json.dumps(config))
        ready = lambda: self.run("get", "--raw", "/readyz").returncode == 0  # noqa: E731
        self.processes.wait("the API server", ready, process)

    def run(self, *arguments: str, documents: str = "") -> subprocess.CompletedProcess[str]:
        # Without a cache of its own it would leave one in the user's home.
        own = ("--kubeconfig", str(self.kubeconfig), "--cache-dir", str(self.folder / "kubectl"))
        command = [program("kubectl", "kubectl"), *own, *arguments]
        return subprocess.run(command, input=documents, capture_output=True, text=True, timeout=120)

    def kubectl(self, *arguments: str, documents: str = "") -> str:
        done = self.run(*arguments, documents=documents)
        if done.returncode != 0:
            raise Refused(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def parse(self, documents: str) -> list[Object]:
        flags = ("--dry-run=client", "--validate=ignore", "-o", "json", "-f", "-")
        return items(self.kubectl("create", *flags, documents=documents))

    def judge(self, documents: str) -> list[Object]:
        """What the API server makes of manifests, without keeping any. Unknown fields are refused."""
        flags = ("--dry-run=server", "--validate=strict", "-o", "json", "-f", "-")
        return items(self.kubectl("apply", *flags, documents=documents))

    def judge_one(self, manifest: Object) -> None:
        """The same for one object, without kubectl's own look at it before."""
        group, kind, namespace = manifest["apiVersion"], manifest["kind"].lower(), manifest["metadata"]["namespace"]
        root = f"/apis/{group}" if "/" in group else f"/api/{group}"
        plural = f"{kind.removesuffix('y')}ies" if kind.endswith("y") else f"{kind}s"
        path = f"{root}/namespaces/{namespace}/{plural}?dryRun=All&fieldValidation=Strict"
        self.kubectl("create", "--raw", path, "-f", "-", documents=json.dumps(manifest))

    def apply(self, documents: str | Iterable[Object]) -> list[Object]:
        if not isinstance(documents, str):
            documents = text_of(documents)
        return items(self.kubectl("apply", "--server-side", "-o", "json", "-f", "-", documents=documents))

    def read(self, kind: str, name: str, namespace: str) -> Object:
        return json.loads(self.kubectl("get", kind, name, "--namespace", namespace, "-o", "json"))

    def wait_for(self, kind: str, name: str, namespace: str) -> Object:
        """Reads what a controller makes."""
        self.kubectl("wait", "--for=create", f"{kind}/{name}", "--namespace", namespace, "--timeout=30s")
        return self.read(kind, name, namespace)

    def token(self, account: str, namespace: str, audience: str | None = None) -> str:
        """A token of a service account, for the API server or for somebody else."""
        flags = ("--audience", audience) if audience else ()
        return self.kubectl("create", "token", account, "--namespace", namespace, *flags).strip()

    def install_crds(self, *parts: str) -> None:
        files = [file for part in parts for file in sorted((PARTS / part / "crds").glob("*.yaml"))]
        flags = [word for file in files for word in ("-f", str(file))]
        self.kubectl("create", *flags)
        # A kind that has no status yet ends the command.
        wait = ("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        wait_until("kinds to be served", lambda: self.run(*wait).returncode == 0, 60)


def items(output: str) -> list[Object]:
    """What kubectl writes: objects one after the other, or lists of them."""
    found: list[Object] = []
    decoder, rest = json.JSONDecoder(), output.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        found += document.get("items", [document])
        rest = rest[end:].lstrip()
    return found


def namespace_of_name(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def text_of(objects: Iterable[Object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
