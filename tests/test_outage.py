"""A workspace whose database is taken away: keys and tokens are issued all the while, changes are refused, and it recovers.

Real processes: `scoregate workspace`, a gate, and clients that never stop asking. Each outage lasts SCOREGATE_OUTAGE_SECONDS, 3
unless told (`make test-long`: 60).
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import sqlite3
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from harness import Answer, Processes, answers, built_for_tests, read_json, request, wait_until  # noqa: E402
from system import System  # noqa: E402

SECONDS = float(os.environ.get("SCOREGATE_OUTAGE_SECONDS", "3"))
KEYS, TOKENS = "with-keys", "with-tokens"
REMARK = "ready, but changes are refused, keys and tokens issued from memory: "


class Clients:
    """Clients that ask for a key or a token, each on a connection of its own, one request after the other."""

    def __init__(self, system: System, headers: dict[str, str]) -> None:
        self.address = urlsplit(system.url).netloc
        self.headers = headers
        about = request("GET", f"{system.url}/scoregate/v1/workspace", headers.items()).json()
        self.base = f"/modelmanagement/v1.0{about['scope']}/services"
        self.failures: list[str] = []
        self.answers = 0
        self.ended = threading.Event()

    def __enter__(self) -> Clients:
        routes = [f"{KEYS}/listkeys", f"{TOKENS}/token"] * 2
        self.threads = [threading.Thread(target=self.ask, args=(route,)) for route in routes]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def ask(self, route: str) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=5)
        while not self.ended.is_set():
            try:
                connection.request("POST", f"{self.base}/{route}", headers=self.headers)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status not in (200, 201):
                    self.failures.append(f"{route}: {answer.status} {body!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{route}: {error!r}")
                connection.close()
            self.answers += 1
        connection.close()


class DatabaseOutage(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.scoregate = built_for_tests()

    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="scoregate-outage-")))
        processes = self.enterContext(Processes(folder))
        # A write beyond a limit of the system is to fail, not to end the process.
        program = folder / "scoregate"
        program.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec '{self.scoregate}' \"$@\"\n")
        program.chmod(0o700)
        self.system = System(processes, folder, program)
        self.system.start_workspace()
        self.system.front.start_gate()
        self.database = folder / "workspace" / "workspace.db"
        self.headers = {"authorization": f"Bearer {self.system.owner_credential().read_text().strip()}"}
        self.system.cli("service", "create", KEYS)
        self.system.cli("service", "create", TOKENS, "--auth", "token")

    def test_gone(self) -> None:
        files = [self.database.with_name(self.database.name + end) for end in ("", "-wal", "-shm")]
        away = Path(self.enterContext(tempfile.TemporaryDirectory(dir=self.database.parent)))

        @contextmanager
        def gone() -> Iterator[None]:
            for file in files:
                file.rename(away / file.name)
            yield
            for file in files:
                (away / file.name).rename(file)

        self.assert_survives(gone, "it was moved, deleted or replaced")

    def test_locked(self) -> None:
        @contextmanager
        def locked() -> Iterator[None]:
            other = sqlite3.connect(self.database, isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.execute("ROLLBACK")
            other.close()

        self.assert_survives(locked, "database is locked")

    def test_failing_to_write(self) -> None:
        pid = self.system.workspace.popen.pid

        @contextmanager
        def full() -> Iterator[None]:
            before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            yield
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

        self.assert_survives(full, "the database failed")

    def assert_survives(self, outage: Callable[[], contextmanager[None]], problem: str) -> None:
        before = self.keys()
        with Clients(self.system, self.headers) as clients:
            with outage():
                ends = time.monotonic() + SECONDS
                self.assert_refused(problem)
                while time.monotonic() < ends:
                    time.sleep(0.1)
                    self.assertEqual(self.regenerate().status, 503)
            wait_until("changes are accepted again", lambda: self.regenerate().status == 202, 15)
        self.assertEqual(clients.failures, [])
        self.assertGreater(clients.answers, 100 * SECONDS)
        self.assert_whole(before)

    def assert_refused(self, problem: str) -> None:
        """A change is refused, and health and metrics say why; the process stays ready, because it issues."""
        answer = self.regenerate()
        self.assertEqual((answer.status, answer.json()["message"]), (503, "the store does not work"))
        wait_until("the remark in /readyz", lambda: self.admin("/readyz").body.startswith(REMARK), 5)
        ready = self.admin("/readyz")
        self.assertEqual(ready.status, 200)
        self.assertIn(problem, ready.body)
        self.assertIn("\nscoregate_workspace_store_up 0\n", self.admin("/metrics").body)
        denied = request("GET", f"{self.system.url}{self.path('')}/{KEYS}", [("authorization", "Bearer nobodys")])
        self.assertEqual(denied.status, 401)

    def assert_whole(self, before: dict[str, str]) -> None:
        """Of all regenerations one was done; it reaches the gate, and a restart finds what memory had."""
        after = self.keys()
        self.assertNotEqual(after["primaryKey"], before["primaryKey"])
        self.assertEqual(after["secondaryKey"], before["secondaryKey"])
        self.assertEqual(self.admin("/readyz").body, "ready\n")
        self.assertIn("\nscoregate_workspace_store_up 1\n", self.admin("/metrics").body)
        # Returns when the gate has confirmed.
        self.system.cli("key", "regenerate", KEYS, "secondary")
        held = self.keys()
        self.system.stop_workspace()
        self.system.start_workspace()
        self.assertEqual(self.keys(), held)

    def path(self, below: str) -> str:
        about = request("GET", f"{self.system.url}/scoregate/v1/workspace", self.headers.items()).json()
        return f"/modelmanagement/v1.0{about['scope']}/services{below}"

    def keys(self) -> dict[str, str]:
        return request("POST", f"{self.system.url}{self.path(f'/{KEYS}/listkeys')}", self.headers.items()).json()

    def regenerate(self) -> Answer:
        headers = self.headers | {"content-type": "application/json"}
        url = f"{self.system.url}{self.path(f'/{KEYS}/regenerateKeys')}"
        return request("POST", url, headers.items(), json.dumps({"keyType": "Primary"}))

    def admin(self, path: str) -> Answer:
        return request("GET", f"http://{self.system.listen['admin']}{path}")


class DatabaseOutageOfBothRoles(unittest.TestCase):
    def test_readiness_tells(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="scoregate-outage-")))
        processes = self.enterContext(Processes(folder))
        ready, data = folder / "up.json", folder / "data"
        listeners = ("--workspace-listen", "--feed-listen", "--admin-listen", "--ext-authz-listen")
        up = processes.start(
            "up",
            *(built_for_tests(), "up", "--data-dir", data, "--addresses-file", ready),
            *(part for flag in listeners for part in (flag, "127.0.0.1:0")),
        )
        url = processes.wait("`up`", lambda: read_json(ready), up)["admin"] + "/readyz"
        self.assertEqual(request("GET", url).body, "ready\n")
        database = data / "workspace.db"
        database.rename(data / "elsewhere")
        wait_until("the remark in /readyz", lambda: request("GET", url).body.startswith(REMARK), 15)
        self.assertTrue(answers(url), "it is ready all the same")
        (data / "elsewhere").rename(database)
        wait_until("the remark is gone", lambda: request("GET", url).body == "ready\n", 15)


if __name__ == "__main__":
    unittest.main()
