"""`make demo`: callers score a model through a real Envoy with keys and tokens, and everybody else is turned away.

Each step prints what was expected and what came, status and body. A step that differs makes the demo fail. With
DEMO_EXIT=1 the demo ends by itself; otherwise the system stays up to play with.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from harness import Answer, Failure, Processes, answers, built, ended_by_signals, wait_until  # noqa: E402
from parts import PARTS, PartError  # noqa: E402
from system import PREDICTIONS, ROWS, System, write_secret  # noqa: E402

# A change is at the gate within milliseconds; this is for a busy machine.
SOON = 10.0
# The longest that a gate may go on accepting a token after its expiry, by the clock skew that it allows.
SKEW = 60.0

FORGED = {
    "x-scoregate-service": "ranking",
    "x-scoregate-auth-mode": "disabled",
    "X-ScoreGate-Key-Slot": "primary",
    "x-scoregate-subject": "admin",
}


class Table:
    """The steps' lines, and how many differed."""

    def __init__(self) -> None:
        self.steps = 0
        self.failed = 0

    def title(self, text: str) -> None:
        print(f"\n{text}", flush=True)

    def row(self, step: str, expected: str, got: str, problems: list[str], detail: str = "") -> None:
        self.steps += 1
        self.failed += bool(problems)
        verdict = "DIFFERS" if problems else "ok"
        print(f"  {self.steps:2}  {step:<52} expected {expected:<5} got {got:<5} {verdict}")
        for line in [detail, *(f"!! {problem}" for problem in problems)]:
            if line:
                print(f"      {line}")
        sys.stdout.flush()

    def fact(self, step: str, problems: list[str], detail: str = "") -> None:
        """A step without an HTTP answer of its own."""
        self.row(step, "yes", "no" if problems else "yes", problems, detail)


class Demo:
    def __init__(self, system: System, table: Table) -> None:
        self.system, self.table = system, table
        self.secrets = system.credentials()
        self.passed = 0

    # What a step shows.

    def allowed(self, step: str, answer: Answer, **caller: str) -> None:
        """The model answered: the right numbers, and it was told exactly this caller."""
        problems = [] if answer.status == 200 else ["the status"]
        if answer.status == 200:
            self.passed += 1
            content = answer.json()
            if content.get("predictions") != PREDICTIONS:
                problems.append(f"the predictions are not {PREDICTIONS}")
            wanted = {name.replace("_", "-"): value for name, value in caller.items()}
            if content.get("caller") != wanted:
                problems.append(f"the caller is not {wanted}")
        self.table.row(step, "200", str(answer.status), problems, answer.body.strip())

    def refused(self, step: str, answer: Answer) -> None:
        """The gate refused: 401, one challenge, a JSON body, and no secret in any of it."""
        problems = [] if answer.status == 401 else ["the status"]
        challenges = answer.all("www-authenticate")
        if len(challenges) != 1 or not challenges[0].startswith("Bearer realm="):
            problems.append(f"the challenge: {challenges}")
        try:
            answer.json()
        except ValueError:
            problems.append("the body is not JSON")
        if self.leaks(str(answer.headers) + answer.body):
            problems.append("a secret is in the answer")
        self.table.row(step, "401", str(answer.status), problems, answer.body.strip())

    def secret(self, value: str) -> str:
        self.secrets.add(value)
        return value

    def leaks(self, text: str) -> bool:
        return any(secret in text for secret in self.secrets)

    def score(self, service: str, credential: str | None, **extra: str) -> Answer:
        return self.system.score(service, credential, extra)

    def score_until(self, status: int, service: str, credential: str, seconds: float = SOON) -> Answer:
        """Asks again until the answer has this status, or the time is up; returns the last answer."""
        deadline = time.monotonic() + seconds
        while (answer := self.score(service, credential)).status != status and time.monotonic() < deadline:
            self.passed += answer.status == 200
            time.sleep(0.1)
        return answer

    # What a step does.

    def keys(self, service: str) -> tuple[str, str]:
        keys = self.system.cli("key", "show", service)
        return self.secret(keys["primaryKey"]), self.secret(keys["secondaryKey"])

    def token(self, service: str, *arguments: str) -> str:
        token = self.system.cli("token", "get", service, *arguments, credential_file=self.caller)["accessToken"]
        return self.secret(token)

    def run(self) -> None:
        self.unknown()
        self.keyed()
        self.regenerated()
        self.tokened()
        self.forged()
        self.switched()
        self.workspace_away()
        self.expired()
        self.records()

    def unknown(self) -> None:
        self.table.title("Before any service exists")
        self.refused("a service that only Envoy knows", self.score("forecast", "some-key-or-other"))
        self.refused("a service that nobody knows", self.score("nobody", "some-key-or-other"))

    def keyed(self) -> None:
        self.table.title("forecast: a service with keys")
        self.system.cli("service", "create", "forecast")
        self.primary, self.secondary = self.keys("forecast")
        first = self.score_until(200, "forecast", self.primary)
        self.allowed("right primary key", first, **key_caller("primary"))
        second = self.score("forecast", self.secondary)
        self.allowed("right secondary key", second, **key_caller("secondary"))
        self.refused("no key", self.score("forecast", None))
        wrong = self.score("forecast", self.secret(mistyped(self.primary)))
        self.refused("wrong key", wrong)
        unknown = self.score("nobody", mistyped(self.primary))
        same = (wrong.status, wrong.body) == (unknown.status, unknown.body)
        self.table.fact("an unknown service looks the same", [] if same else [f"it says {unknown.body}"])

    def regenerated(self) -> None:
        self.table.title("forecast: primary key regenerated, while a caller goes on with the secondary")
        old = self.primary
        with self.going_on("forecast", self.secondary) as statuses:
            self.system.cli("key", "regenerate", "forecast", "primary")
            self.primary, _ = self.keys("forecast")
            # At once: the command returns when every gate enforces the change.
            self.refused("old primary key", self.score("forecast", old))
            new = self.score("forecast", self.primary)
        self.allowed("new primary key", new, **key_caller("primary"))
        bad = [status for status in statuses if status != 200]
        problems = [f"{len(bad)} of them got {sorted(set(bad))}"] if bad else []
        if len(statuses) < 10:
            problems.append("too few to mean something")
        self.table.fact("secondary key never interrupted", problems, f"{len(statuses)} requests meanwhile")

    @contextmanager
    def going_on(self, service: str, credential: str) -> Iterator[list[int]]:
        """Scores again and again in the background for as long as the block lasts, and a bit before and after."""
        statuses: list[int] = []
        stop = threading.Event()

        def loop() -> None:
            while not stop.is_set():
                try:
                    statuses.append(self.score(service, credential).status)
                except OSError:
                    statuses.append(0)

        caller = threading.Thread(target=loop)
        caller.start()
        try:
            wait_until("the background caller", lambda: len(statuses) >= 5, SOON)
            yield statuses
            enough = len(statuses) + 5
            wait_until("the background caller", lambda: len(statuses) >= enough, SOON)
        finally:
            stop.set()
            caller.join()
            self.passed += statuses.count(200)

    def tokened(self) -> None:
        self.table.title("ranking: a service with tokens, asked by a principal that may only read")
        self.system.cli("service", "create", "ranking", "--auth", "token")
        rita = self.system.cli("principal", "create", "rita", "--role", "reader")
        self.caller = self.system.folder / "caller-credential"
        write_secret(self.caller, self.secret(rita["credential"]))
        self.ranking_token = self.token("ranking")
        self.subject = claims(self.ranking_token)["sub"]
        answer = self.score_until(200, "ranking", self.ranking_token)
        self.allowed("token", answer, **self.token_caller("ranking"))
        forged = self.secret(tampered(self.ranking_token))
        self.refused("tampered token (another subject)", self.score("ranking", forged))
        self.refused("key on the token service", self.score("ranking", self.primary))
        self.refused("token on the key service", self.score("forecast", self.ranking_token))
        self.short_token = self.token("ranking", "--expires-in", "2s")
        answer = self.score("ranking", self.short_token)
        self.allowed("token that lives for 2 s, while it does", answer, **self.token_caller("ranking"))

    def token_caller(self, service: str) -> dict[str, str]:
        return {"service": service, "auth_mode": "token", "subject": self.subject}

    def forged(self) -> None:
        self.table.title("Callers that send x-scoregate-* headers themselves")
        answer = self.score("forecast", self.secondary, **FORGED)
        self.allowed("forged beside a key", answer, **key_caller("secondary"))
        answer = self.score("ranking", self.ranking_token, **FORGED)
        self.allowed("forged beside a token", answer, **self.token_caller("ranking"))
        answer = self.score("forecast", self.secondary, x_scoregate_subject="admin")
        problems = [] if answer.status == 400 else ["the status"]
        self.table.row("forged with underscores, refused by Envoy", "400", str(answer.status), problems)

    def switched(self) -> None:
        self.table.title("forecast: switched from key to token, and back")
        self.system.cli("service", "update", "forecast", "--auth", "token")
        self.refused("key, after the switch", self.score_until(401, "forecast", self.primary))
        token = self.token("forecast")
        self.allowed("token, after the switch", self.score("forecast", token), **self.token_caller("forecast"))
        self.system.cli("service", "update", "forecast", "--auth", "key")
        self.refused("the token, after the switch back", self.score_until(401, "forecast", token))
        self.allowed("the key, after the switch back", self.score("forecast", self.primary), **key_caller("primary"))

    def workspace_away(self) -> None:
        self.table.title("The workspace stops; the gate goes on with what it knows")
        status = self.system.stop_workspace()
        self.table.fact("the workspace ended in order", [f"exit status {status}"] if status else [])
        gone = not answers(f"{self.system.url}/.well-known/jwks.json")
        self.table.fact("and answers no more", [] if gone else [f"{self.system.url} still answers"])
        self.allowed("primary key", self.score("forecast", self.primary), **key_caller("primary"))
        self.allowed("secondary key", self.score("forecast", self.secondary), **key_caller("secondary"))
        self.allowed("token", self.score("ranking", self.ranking_token), **self.token_caller("ranking"))
        self.refused("wrong key", self.score("forecast", mistyped(self.primary)))
        self.refused("tampered token", self.score("ranking", tampered(self.ranking_token)))

        self.table.title("The workspace is back")
        self.system.start_workspace()
        self.system.wait_for_gates()
        old = self.secondary
        self.system.cli("key", "regenerate", "forecast", "secondary")
        _, self.secondary = self.keys("forecast")
        self.refused("old secondary key, after a regeneration", self.score("forecast", old))
        self.allowed("new secondary key", self.score("forecast", self.secondary), **key_caller("secondary"))
        self.allowed("primary key, untouched", self.score("forecast", self.primary), **key_caller("primary"))

    def expired(self) -> None:
        self.table.title("ranking: the token that lived for 2 s")
        answer = self.score_until(401, "ranking", self.short_token, SKEW + SOON)
        self.refused("expired token", answer)

    def records(self) -> None:
        self.table.title("What was written down on the way")
        lines = [json.loads(line) for line in self.system.headers_seen.read_text().splitlines()]
        problems = [] if len(lines) == self.passed else [f"callers got {self.passed} answers from it"]
        self.table.fact("the model saw the allowed requests, no other", problems, f"{len(lines)} requests")
        problems = ["a header holds a secret"] if self.leaks(json.dumps(lines)) else []
        problems += ["there is an authorization header"] if any("authorization" in line for line in lines) else []
        self.table.fact("the model never saw a credential", problems)
        callers = {caller(line) for line in lines}
        allowed = {
            ("forecast", "key", "primary", None),
            ("forecast", "key", "secondary", None),
            ("forecast", "token", None, self.subject),
            ("ranking", "token", None, self.subject),
        }
        problems = [] if callers == allowed else [f"it was told {sorted(callers, key=str)}"]
        self.table.fact("the model always knew who called", problems)
        self.access_log()
        logs = sorted(self.system.processes.logs.glob("*.log"))
        leaking = [log.name for log in logs if self.leaks(log.read_text(errors="replace"))]
        problems = [f"in {', '.join(leaking)}"] if leaking else []
        self.table.fact("no log holds a secret", problems, ", ".join(log.name for log in logs))

    def access_log(self) -> None:
        """Envoy's access log has the reason that callers are not told."""
        wanted = {"ok", "unknown_service", "missing_credential", "unknown_key", "wrong_credential_kind"}
        wanted |= {"bad_signature", "expired"}

        def reasons() -> set[str]:
            return {str(line.get("reason")) for line in self.system.front.access_log()}

        try:
            wait_until("the access log", lambda: wanted <= reasons(), 5)
            problems = []
        except TimeoutError:
            problems = [f"without {sorted(wanted - reasons())}"]
        self.table.fact("Envoy's access log knows the reasons", problems, ", ".join(sorted(reasons())))


def key_caller(slot: str) -> dict[str, str]:
    return {"service": "forecast", "auth_mode": "key", "key_slot": slot}


def caller(headers: dict[str, str]) -> tuple[str | None, ...]:
    return tuple(headers.get(f"x-scoregate-{name}") for name in ("service", "auth-mode", "key-slot", "subject"))


def mistyped(key: str) -> str:
    """The key with one wrong character, far from its ends."""
    middle = len(key) // 2
    return key[:middle] + ("x" if key[middle] != "x" else "y") + key[middle + 1 :]


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def tampered(token: str) -> str:
    """The token with another subject under the old signature."""
    header, _, signature = token.split(".")
    payload = json.dumps(claims(token) | {"sub": "admin"}, separators=(",", ":")).encode()
    return f"{header}.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.{signature}"


def stay(system: System) -> None:
    """Tells how to play, and waits for Ctrl-C."""
    curl = "-H 'Content-Type: application/json' -d '" + ROWS + "'"
    print(
        f"""
The system stays up until Ctrl-C. In another shell:

  export PATH={system.scoregate.parent}:$PATH
  export SCOREGATE_WORKSPACE={system.url} SCOREGATE_CREDENTIAL=$(cat {system.owner_credential()})
  member() {{ python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])"; }}

  KEY=$(scoregate key show forecast --output json | member primaryKey)
  curl -i {system.entrance}/api/v1/service/forecast/score -H "Authorization: Bearer $KEY" {curl}

  TOKEN=$(scoregate token get ranking --output json | member accessToken)
  curl -i {system.entrance}/api/v1/service/ranking/score -H "Authorization: Bearer $TOKEN" {curl}

  scoregate key regenerate forecast primary
  scoregate service list

Logs: {system.processes.logs}""",
        flush=True,
    )
    try:
        while all(process.alive() for process in system.processes.running):
            time.sleep(0.5)
    except KeyboardInterrupt:
        return
    dead = [process for process in system.processes.running if not process.alive()]
    raise Failure("\n".join(f"{process.name} ended by itself:\n{process.tail()}" for process in dead))


def show(folder: Path, scoregate: Path, leave: bool) -> bool:
    with ended_by_signals(), Processes(folder) as processes:
        system, table = System(processes, folder, scoregate), Table()
        print("starting workspace, gate, Envoy and model server ...", flush=True)
        system.start()
        Demo(system, table).run()
        print(f"\n{table.steps} steps, {table.failed} differ", flush=True)
        if not leave and not table.failed:
            stay(system)
        return not table.failed


def run_folder() -> Path:
    runs = PARTS / "demo"
    runs.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="run-", dir=runs))


def remove(folder: Path | None) -> None:
    if folder:
        shutil.rmtree(folder)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--binary", type=Path, help="a scoregate to show instead of the one built from this checkout")
    binary = options.parse_args().binary
    leave = os.environ.get("DEMO_EXIT", "") not in ("", "0")
    folder = None
    try:
        scoregate = binary.resolve() if binary else built("dev")
        folder = run_folder()
        good = show(folder, scoregate, leave)
    except (Failure, PartError, OSError, TimeoutError, subprocess.SubprocessError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        good = False
    except KeyboardInterrupt:
        print("\ndemo: stopped", file=sys.stderr)
        remove(folder)
        return 130
    if good:
        remove(folder)
    elif folder:
        print(f"demo: everything that was written is in {folder}", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
