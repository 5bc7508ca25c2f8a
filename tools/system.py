"""A whole system for demo and tests: workspace, gates, each behind an Envoy of its own, and a model server, as processes
on ports that were free."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import ROOT, Answer, Failure, Process, Processes, answers, envoy_config, free_port, read_json, request
from parts import program

SCORING_SCRIPT = ROOT / "demo" / "score.py"


@dataclass(frozen=True)
class Certificate:
    """PEM files: a CA, a server's certificate that it signed, and the server's key."""

    ca: Path
    chain: Path
    key: Path


class System:
    def __init__(
        self,
        processes: Processes,
        folder: Path,
        scoregate: Path,
        services: Iterable[str] = (),
        gates: int = 1,
        settings: Mapping[str, str] | None = None,
        model_workers: int = 1,
        certificate: Certificate | None = None,
    ) -> None:
        """`services`: those that Envoy has a route for, beside `forecast` and `ranking`. `settings`: for workspace and
        gates, as environment variables. `model_workers`: how many calls the model takes at a time. `certificate`: the
        workspace's, whose REST is then https."""
        self.processes, self.folder, self.scoregate, self.services = processes, folder, scoregate, services
        self.settings, self.model_workers, self.certificate = settings or {}, model_workers, certificate
        self.fronts = [Front(self, f"gate-{number}") for number in range(1, gates + 1)]
        # Who does not care gets the first.
        self.front = self.fronts[0]
        self.entrance = self.front.entrance
        self.headers_seen = folder / "headers.jsonl"
        self.listen: dict[str, str] = {"workspace": "127.0.0.1:0", "feed": "127.0.0.1:0", "admin": "127.0.0.1:0"}
        self.url = ""

    def start(self) -> None:
        model, port = self.start_model()
        self.start_workspace()
        for front in self.fronts:
            front.start_gate()
            front.start_envoy(port)
        self.processes.wait("the model server", lambda: answers(f"http://127.0.0.1:{port}/"), model)

    def start_model(self) -> tuple[Process, int]:
        # azmlinfsrv binds 0.0.0.0 whatever it is told, writes into its HOME and into the folder it runs in.
        home, port = self.folder / "model", free_port()
        home.mkdir()
        server = program("model-server", "azmlinfsrv")
        command = [server, "--entry_script", SCORING_SCRIPT, "--port", str(port)]
        command += ["--worker_count", str(self.model_workers)]
        env = {"HOME": str(home), "SCOREGATE_DEMO_HEADERS": str(self.headers_seen)}
        return self.processes.start("model-server", *command, env=env, cwd=home), port

    def start_workspace(self) -> None:
        """Starts the workspace; again, after a stop, on the addresses that it had."""
        ready = self.folder / "workspace.json"
        ready.unlink(missing_ok=True)
        self.workspace = self.processes.start(
            "workspace",
            *(self.scoregate, "workspace", "--data-dir", self.folder / "workspace", "--addresses-file", ready),
            *("--workspace-listen", self.listen["workspace"], "--feed-listen", self.listen["feed"]),
            *("--admin-listen", self.listen["admin"], "--scoring-base-url", self.entrance),
            env={**self.settings, **self.tls_settings()},
        )
        addresses = self.processes.wait("the workspace", lambda: read_json(ready), self.workspace)
        self.url = addresses["workspace"]
        self.listen = {name: addresses[name].rpartition("//")[2] for name in self.listen}

    def tls_settings(self) -> dict[str, str]:
        if self.certificate is None:
            return {}
        files = {"CERTIFICATE": self.certificate.chain, "KEY": self.certificate.key}
        return {f"SCOREGATE__WORKSPACE__TLS__{name}_FILE": str(file) for name, file in files.items()}

    def wait_for_gates(self) -> None:
        """Waits until the gates have found their workspace again: a change waits for connected gates only."""
        for front in self.fronts:
            front.wait_for_feed()

    def stop_workspace(self) -> int:
        return self.processes.stop(self.workspace)

    def owner_credential(self) -> Path:
        return self.folder / "workspace" / "owner-credential"

    def credentials(self) -> set[str]:
        """What the owner and the gates prove themselves with."""
        files = [self.owner_credential(), *(front.credential for front in self.fronts)]
        return {file.read_text().strip() for file in files}

    def cli(self, *arguments: str, credential_file: Path | None = None) -> Any:
        """Runs the CLI as a user would and returns its JSON."""
        ca = self.certificate.ca if self.certificate else None
        return run_cli(self.scoregate, self.url, credential_file or self.owner_credential(), *arguments, ca=ca)

    def score(self, service: str, credential: str | None, extra: Mapping[str, str] | None = None) -> Answer:
        return self.front.score(service, credential, extra)


class Front:
    """One of the ways to the model: a gate, and the Envoy that asks it."""

    def __init__(self, system: System, name: str) -> None:
        """`name`: the gate's."""
        self.system, self.name = system, name
        # Where the gate finds the policy feed, if not at the workspace itself.
        self.feed: str | None = None
        self.credential = system.folder / f"{name}-credential"
        self.entrance = f"http://127.0.0.1:{free_port()}"

    def start_gate(self) -> None:
        """Starts the gate under a credential of its own."""
        system, ready = self.system, self.system.folder / f"{self.name}.json"
        write_secret(self.credential, system.cli("principal", "create", self.name, "--role", "gate")["credential"])
        self.gate = system.processes.start(
            self.name,
            *(system.scoregate, "gate", "--name", self.name, "--feed", self.feed or system.listen["feed"]),
            *("--credential-file", self.credential, "--pepper-file", system.folder / "workspace" / "pepper"),
            *("--policy-key-file", system.folder / "workspace" / "policy-key.pub"),
            *("--data-dir", system.folder / self.name, "--addresses-file", ready),
            *("--ext-authz-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"),
            env=system.settings,
        )
        addresses = system.processes.wait(f"`{self.name}`", lambda: read_json(ready), self.gate)
        self.check_port, self.admin = addresses["ext_authz"], addresses["admin"]
        system.processes.wait("the gate's first snapshot", lambda: answers(f"{self.admin}/readyz"), self.gate)

    def start_envoy(self, model_port: int) -> None:
        system, name = self.system, f"envoy-{self.name}"
        addresses = {
            "gate": self.check_port,
            "model": f"127.0.0.1:{model_port}",
            "listen": self.entrance.removeprefix("http://"),
            "admin": "127.0.0.1:0",
        }
        config, admin = system.folder / f"{name}.yaml", system.folder / f"{name}-admin"
        config.write_text(envoy_config(addresses, system.services))
        self.envoy = system.processes.start(
            name,
            *(program("envoy", "envoy"), "-c", config, "--use-dynamic-base-id", "--admin-address-path", admin),
            *("--concurrency", "1", "--log-level", "warning", "--file-flush-interval-msec", "200"),
        )
        ready = lambda: admin.exists() and answers(f"http://{admin.read_text().strip()}/ready")  # noqa: E731
        system.processes.wait("Envoy", ready, self.envoy)

    def wait_for_feed(self) -> None:
        connected = lambda: "\nscoregate_feed_connected 1\n" in request("GET", f"{self.admin}/metrics").body  # noqa: E731
        self.system.processes.wait("the gate's feed", connected, self.gate)

    def score(self, service: str, credential: str | None, extra: Mapping[str, str] | None = None) -> Answer:
        """Calls the model through this Envoy."""
        headers = [("content-type", "application/json"), *(extra or {}).items()]
        if credential is not None:
            headers.append(("authorization", f"Bearer {credential}"))
        return request("POST", f"{self.entrance}/api/v1/service/{service}/score", headers, ROWS)

    def access_log(self) -> list[dict[str, Any]]:
        """What this Envoy has written down of its calls so far. It writes every 0.2 s."""
        whole, _, _ = self.envoy.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


ROWS = '{"data": [[2, 4, 1], [0, 0, 0]]}'
PREDICTIONS = [3.0, 4.0]


def run_cli(scoregate: Path, workspace: str, credential_file: Path, *arguments: str, ca: Path | None = None) -> Any:
    command = [str(scoregate), *arguments, "--credential-file", str(credential_file), "--output", "json"]
    env = os.environ | {"SCOREGATE_WORKSPACE": workspace} | ({"SCOREGATE_CA_FILE": str(ca)} if ca else {})
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Failure(f"`scoregate {' '.join(arguments)}` ended with status {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout) if done.stdout.strip() else None


def write_secret(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
