"""README.md's lines for running the roles apart, as they are written, but for the ports: both roles on one machine."""

from __future__ import annotations

import os
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from harness import Processes, answers, built_for_tests, free_port, request, wait_until  # noqa: E402
from readme import blocks  # noqa: E402

# Where README.md says that things listen, or where they do unless told, and the key of the latter.
PORTS = {
    "127.0.0.1:8181": "WORKSPACE__LISTEN",
    "127.0.0.1:9191": "GATE__EXT_AUTHZ_LISTEN",
    "127.0.0.1:9192": "ADMIN__LISTEN",
    "127.0.0.1:9193": "WORKSPACE__FEED_LISTEN",
    "127.0.0.1:9194": None,
}


class RolesApart(unittest.TestCase):
    def test_gate_gets_the_policy_of_the_workspace(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="scoregate-readme-")))
        processes = self.enterContext(Processes(folder))
        ports = {address: f"127.0.0.1:{free_port()}" for address in PORTS}
        # Both are given all of them: a port that both roles take is to show here.
        env = {f"SCOREGATE__{key}": ports[address] for address, key in PORTS.items() if key}
        env["SCOREGATE_WORKSPACE"] = f"http://{ports['127.0.0.1:8181']}"
        env["PATH"] = f"{built_for_tests().parent}:{os.environ['PATH']}"
        workspace, gate = blocks("Running the roles apart", "sh")

        def start(name: str, text: str, admin: str) -> str:
            for address, other in ports.items():
                text = text.replace(address, other)
            process = processes.start(name, "sh", "-ec", text, env=env, cwd=folder)
            url = f"http://{ports[admin]}"
            processes.wait(f"the {name}", lambda: answers(f"{url}/readyz"), process)
            return url

        start("the-workspace", workspace, "127.0.0.1:9192")
        admin = start("the-gate", gate, "127.0.0.1:9194")
        connected = lambda: "\nscoregate_feed_connected 1\n" in request("GET", f"{admin}/metrics").body  # noqa: E731
        wait_until("the gate to be connected", connected, 15)
        self.assertEqual((folder / "gate-1.credential").stat().st_mode & 0o777, 0o600)


if __name__ == "__main__":
    unittest.main()
