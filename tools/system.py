"""A whole system for demo and tests: workspace, gate, Envoy and model server as processes, on ports that were free."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness import ROOT, Answer, Failure, Process, Processes, answers, envoy_config, free_port, read_json, request
from parts import program

SCORING_SCRIPT = ROOT / "demo" / "score.py"


class System:
    def __init__(self, processes: Processes, folder: Path, scoregate: Path, services: Iterable[str] = ()) -> None:
        """`services`: those that Envoy has a route for, beside `forecast` and `ranking`."""
        self.processes, self.folder, self.scoregate, self.services = processes, folder, scoregate, services
        self.entrance = f"http://127.0.0.1:{free_port()}"
        self.headers_seen = folder / "headers.jsonl"
        self.listen: dict[str, str] = {"workspace": "127.0.0.1:0", "feed": "127.0.0.1:0", "admin": "127.0.0.1:0"}
        self.url = ""

    def start(self) -> None:
        model, port = self.start_model()
        self.start_workspace()
        gate = self.start_gate()
        self.envoy = self.start_envoy(gate, port)
        self.processes.wait("the model server", lambda: answers(f"http://127.0.0.1:{port}/"), model)

    def start_model(self) -> tuple[Process, int]:
        # azmlinfsrv binds 0.0.0.0 whatever it is told, writes into its HOME and into the folder it runs in.
        home, port = self.folder / "model", free_port()
        home.mkdir()
        server = program("model-server", "azmlinfsrv")
        command = (server, "--entry_script", SCORING_SCRIPT, "--port", str(port))
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
        )
        addresses = self.processes.wait("the workspace", lambda: read_json(ready), self.workspace)
        self.url = addresses["workspace"]
        self.listen = {name: addresses[name].removeprefix("http://") for name in self.listen}

    def start_gate(self) -> str:
        """Starts the gate under a credential of its own; returns where it listens for checks."""
        credential = self.folder / "gate-credential"
        write_secret(credential, self.cli("principal", "create", "gate-1", "--role", "gate")["credential"])
        ready = self.folder / "gate.json"
        self.gate = self.processes.start(
            "gate",
            *(self.scoregate, "gate", "--name", "gate-1", "--feed", self.listen["feed"]),
            *("--credential-file", credential, "--pepper-file", self.folder / "workspace" / "pepper"),
            *("--data-dir", self.folder / "gate", "--addresses-file", ready),
            *("--ext-authz-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"),
        )
        addresses = self.processes.wait("the gate", lambda: read_json(ready), self.gate)
        self.gate_admin = addresses["admin"]
        self.processes.wait("the gate's first snapshot", lambda: answers(f"{self.gate_admin}/readyz"), self.gate)
        return addresses["ext_authz"]

    def start_envoy(self, gate: str, model_port: int) -> Process:
        listen = self.entrance.removeprefix("http://")
        addresses = {"gate": gate, "model": f"127.0.0.1:{model_port}", "listen": listen, "admin": "127.0.0.1:0"}
        config, admin = self.folder / "envoy.yaml", self.folder / "envoy-admin"
        config.write_text(envoy_config(addresses, self.services))
        envoy = self.processes.start(
            "envoy",
            *(program("envoy", "envoy"), "-c", config, "--use-dynamic-base-id", "--admin-address-path", admin),
            *("--concurrency", "1", "--log-level", "warning", "--file-flush-interval-msec", "200"),
        )
        ready = lambda: admin.exists() and answers(f"http://{admin.read_text().strip()}/ready")  # noqa: E731
        self.processes.wait("Envoy", ready, envoy)
        return envoy

    def wait_for_gate(self) -> None:
        """Waits until the gate has found its workspace again: a change waits for connected gates only."""
        connected = lambda: "\nscoregate_feed_connected 1\n" in request("GET", f"{self.gate_admin}/metrics").body  # noqa: E731
        self.processes.wait("the gate's feed", connected, self.gate)

    def stop_workspace(self) -> int:
        return self.processes.stop(self.workspace)

    def owner_credential(self) -> Path:
        return self.folder / "workspace" / "owner-credential"

    def credentials(self) -> set[str]:
        """What the owner and the gate prove themselves with."""
        return {file.read_text().strip() for file in (self.owner_credential(), self.folder / "gate-credential")}

    def cli(self, *arguments: str, credential_file: Path | None = None) -> Any:
        """Runs the CLI as a user would and returns its JSON."""
        credential = credential_file or self.owner_credential()
        command = [str(self.scoregate), *arguments, "--credential-file", str(credential), "--output", "json"]
        env = os.environ | {"SCOREGATE_WORKSPACE": self.url}
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Failure(
                f"`scoregate {' '.join(arguments)}` ended with status {done.returncode}: {done.stderr.strip()}"
            )
        return json.loads(done.stdout) if done.stdout.strip() else None

    def score(self, service: str, credential: str | None, extra: Mapping[str, str] | None = None) -> Answer:
        headers = [("content-type", "application/json"), *(extra or {}).items()]
        if credential is not None:
            headers.append(("authorization", f"Bearer {credential}"))
        return request("POST", f"{self.entrance}/api/v1/service/{service}/score", headers, ROWS)


ROWS = '{"data": [[2, 4, 1], [0, 0, 0]]}'
PREDICTIONS = [3.0, 4.0]


def write_secret(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
