"""README.md's lines for policy in files, as they are written, but for the ports: a gate without a workspace, and a
workspace that is as files say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from harness import Processes, built_for_tests, request  # noqa: E402
from readme import blocks  # noqa: E402


class Files(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="scoregate-readme-")))
        self.processes = self.enterContext(Processes(self.folder))
        self.env = {"PATH": f"{built_for_tests().parent}:{os.environ['PATH']}"}
        for key in ("ADMIN__LISTEN", "GATE__EXT_AUTHZ_LISTEN", "WORKSPACE__LISTEN", "WORKSPACE__FEED_LISTEN"):
            self.env[f"SCOREGATE__{key}"] = "127.0.0.1:0"

    def start(self, name: str, text: str) -> dict[str, str]:
        """Returns the addresses that it says it has when it is ready."""
        process = self.processes.start(name, "sh", "-ec", text, env=self.env, cwd=self.folder)
        lines = re.compile(r"^  (\w+) +(\S+)$", re.MULTILINE)
        addresses = lambda: dict(lines.findall(process.log.read_text()))  # noqa: E731
        # The last line of them.
        self.processes.wait(f"the {name}", lambda: "admin" in addresses(), process)
        return addresses()

    def run_block(self, text: str) -> str:
        command = ["sh", "-ec", text]
        done = subprocess.run(command, env=os.environ | self.env, cwd=self.folder, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def reason(self, admin: str, key: str) -> str:
        asked = {"service": "my-model", "headers": [["authorization", f"Bearer {key}"]]}
        headers = [("content-type", "application/json")]
        answer = request("POST", f"{admin}/explain", headers, json.dumps(asked))
        return str(answer.json()["reason"])

    def test_gate_decides_by_the_file(self) -> None:
        prepare, gate = blocks("Without a workspace", "sh")
        self.assertIn("good: 1 service (1 with keys", self.run_block(prepare))
        admin = self.start("fixed-gate", gate)["admin"]
        self.assertEqual(self.reason(admin, (self.folder / "my-model.key").read_text()), "ok")
        self.assertEqual(self.reason(admin, "another-key-of-nobody"), "unknown_key")
        self.assertEqual((self.folder / "pepper").stat().st_mode & 0o777, 0o600)
        self.assertFalse((self.folder / "scoregate-data").exists())

    def test_workspace_is_as_the_files_say(self) -> None:
        rest = self.start("files-workspace", "exec scoregate workspace --data-dir workspace")["workspace"]
        owner = (self.folder / "workspace" / "owner-credential").read_text()
        self.env |= {"SCOREGATE_WORKSPACE": rest, "SCOREGATE_CREDENTIAL": owner}
        [block] = blocks("As files", "sh")
        first = self.run_block(block)
        self.assertEqual(first.count("would create `my-model`: AKS, key"), 2)
        self.assertEqual(first.splitlines()[-1], "created `my-model`: AKS, key")
        self.assertEqual(self.run_block(block).splitlines()[-1], "nothing to change")


if __name__ == "__main__":
    unittest.main()
