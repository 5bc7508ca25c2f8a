"""`make load`: a gate under real policy, asked by ghz at a fixed rate, one scenario after the other.

The rate is held whether answers come or not (open loop), so that a slow gate shows as latency instead of a lower rate.
What the gate says it decided has to fit what was asked, or the run fails. The target is always on this machine.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from harness import Failure, Processes, answers, built, ended_by_signals, read_json, request  # noqa: E402
from parts import PARTS, PartError, program  # noqa: E402

LOAD = ROOT / "load"
RESULTS = PARTS / "load"


@dataclass(frozen=True)
class Scenario:
    name: str
    service: str
    credential: str
    reason: str


class Gate:
    """`scoregate up` with three services, and the credentials that are right and wrong for them."""

    def __init__(self, processes: Processes, folder: Path, scoregate: Path) -> None:
        self.scoregate, self.folder = scoregate, folder
        ready = folder / "addresses.json"
        listen = [f"--{name}-listen=127.0.0.1:0" for name in ("ext-authz", "workspace", "feed", "admin")]
        up = processes.start("up", scoregate, "up", "--data-dir", folder / "data", "--addresses-file", ready, *listen)
        self.addresses: dict[str, str] = processes.wait("scoregate", lambda: read_json(ready), up)
        processes.wait("the gate", lambda: answers(f"{self.addresses['admin']}/readyz"), up)

    def cli(self, *arguments: str) -> Any:
        credential = str(self.folder / "data" / "owner-credential")
        command = [str(self.scoregate), *arguments, "--credential-file", credential, "--output", "json"]
        env = os.environ | {"SCOREGATE_WORKSPACE": self.addresses["workspace"]}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Failure(f"`scoregate {' '.join(arguments)}`: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def scenarios(self) -> list[Scenario]:
        self.cli("service", "create", "forecast")
        self.cli("service", "create", "other")
        self.cli("service", "create", "ranking", "--auth", "token")
        right, wrong = (self.cli("key", "show", name)["primaryKey"] for name in ("forecast", "other"))
        token = self.cli("token", "get", "ranking")["accessToken"]
        return [
            Scenario("valid-key", "forecast", right, "ok"),
            Scenario("valid-token", "ranking", token, "ok"),
            # A real key, of another service: it is hashed and compared like a right one.
            Scenario("wrong-key", "forecast", wrong, "unknown_key"),
            Scenario("unknown-service", "nobody", right, "unknown_service"),
        ]

    def decisions(self) -> dict[str, int]:
        """How often the gate decided for each reason, by its own count."""
        text = request("GET", f"{self.addresses['admin']}/metrics").body
        counts: dict[str, int] = {}
        for reason, count in re.findall(r'(?m)^scoregate_decisions_total\{.*reason="(\w+)".*\} (\d+)', text):
            counts[reason] = counts.get(reason, 0) + int(count)
        return counts


def data(scenario: Scenario) -> str:
    """The CheckRequest that Envoy sends with `encode_raw_headers`, as envoy/sidecar.yaml has it."""
    authorization = base64.b64encode(f"Bearer {scenario.credential}".encode()).decode()
    text = (LOAD / "check-request.json").read_text()
    return text.replace("SERVICE", scenario.service).replace("AUTHORIZATION", authorization)


def ghz(gate: Gate, scenario: Scenario, rate: int, seconds: int) -> dict[str, Any]:
    result = RESULTS / f"{scenario.name}.json"
    asked = gate.folder / f"{scenario.name}.json"
    asked.write_text(data(scenario))
    command = [
        *(program("ghz", "ghz"), "--config", LOAD / "ghz.json", "--name", scenario.name, "--data-file", asked),
        *("--rps", str(rate), "--duration", f"{seconds}s", "--format", "json", "--output", result),
        gate.addresses["ext_authz"],
    ]
    subprocess.run([str(word) for word in command], cwd=ROOT, check=True, timeout=seconds + 60)
    return json.loads(result.read_text())


def measure(gate: Gate, scenario: Scenario, rate: int, seconds: int) -> str | None:
    """One scenario, as a line of the table; returns what is wrong."""
    before = gate.decisions()
    report = ghz(gate, scenario, rate, seconds)
    after = gate.decisions()
    decided = {reason: count - before.get(reason, 0) for reason, count in after.items()}
    decided = {reason: count for reason, count in decided.items() if count}
    latency = {entry["percentage"]: entry["latency"] / 1e6 for entry in report["latencyDistribution"] or []}
    good = report["statusCodeDistribution"].get("OK", 0)
    columns = "".join(f"{latency.get(percent, float('nan')):9.2f}" for percent in (50, 90, 99))
    print(
        f"{scenario.name:<16}{report['count']:>9}{good:>9}{report['rps']:>9.0f}{columns}{report['slowest'] / 1e6:9.2f}",
        flush=True,
    )
    if good != report["count"]:
        return f"{scenario.name}: {report['errorDistribution']}"
    if decided != {scenario.reason: good}:
        return f"{scenario.name}: the gate counts {decided}, not {good} times {scenario.reason}"
    return None


def run(folder: Path, scoregate: Path, rate: int, seconds: int) -> list[str]:
    with ended_by_signals(), Processes(folder) as processes:
        gate = Gate(processes, folder, scoregate)
        scenarios = gate.scenarios()
        print(f"{rate} checks per second, {seconds} s each, {os.cpu_count()} cores shared with ghz; latency in ms\n")
        print(
            f"{'scenario':<16}{'checks':>9}{'answered':>9}{'per s':>9}{'p50':>9}{'p90':>9}{'p99':>9}{'slowest':>9}",
            flush=True,
        )
        problems = [measure(gate, scenario, rate, seconds) for scenario in scenarios]
        return [problem for problem in problems if problem]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rate", type=int, default=2000, help="checks per second (default 2000)")
    options.add_argument("--seconds", type=int, default=10, help="duration of each scenario (default 10)")
    options.add_argument(
        "--binary", type=Path, help="a scoregate to measure instead of the one built from this checkout"
    )
    given = options.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=RESULTS) as folder:
            scoregate = given.binary.resolve() if given.binary else built("release")
            problems = run(Path(folder), scoregate, given.rate, given.seconds)
    except (Failure, PartError, OSError, subprocess.SubprocessError) as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        return 130
    for problem in problems:
        print(f"load: {problem}", file=sys.stderr)
    print(f"\nghz's reports: {RESULTS.relative_to(ROOT)}/", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
