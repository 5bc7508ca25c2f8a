"""README.md, "Coming from Azure ML v1", run as it is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from azureml.core.webservice import Webservice
from readme import LISTENER, blocks
from rig import SdkTest

TITLE = "Coming from Azure ML v1"

# What the program leaves behind.
LAST_LINES = """
import json

print(json.dumps([service.token_auth_enabled, primary, token.access_token]))
"""


class Readme(SdkTest):
    tls = True
    scored = ("my-service",)

    def test_as_written(self) -> None:
        """In a process of its own: the environment has to be there before the SDK is."""
        system = self.rig.system
        folder = system.folder / "readme"
        folder.mkdir()
        (settings,), (config,) = blocks(TITLE, "sh"), blocks(TITLE, "json")
        program, _ = blocks(TITLE, "python")
        (folder / "ca.pem").write_bytes(system.certificate.ca.read_bytes())
        (folder / "config.json").write_text(config)
        (folder / "program.py").write_text(program + LAST_LINES)
        self.assertIn(LISTENER, settings)
        script = settings.replace(LISTENER, system.listen["workspace"]) + f"exec {sys.executable} program.py\n"
        env = os.environ | {"HOME": str(folder), "SCOREGATE_CREDENTIAL": self.rig.credential}
        done = subprocess.run(["sh", "-euc", script], cwd=folder, env=env, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        by_token, primary, token = json.loads(done.stdout.splitlines()[-1])
        self.assertTrue(by_token)
        self.assertEqual(self.statuses("my-service", token, primary), [200, 401])


class ReadmeWithoutTls(SdkTest):
    def test_as_written(self) -> None:
        _, lines = blocks(TITLE, "python")
        self.assertIn(LISTENER, lines)
        lines = lines.replace(LISTENER, self.rig.system.listen["workspace"])
        names: dict[str, Any] = {}
        # It stays: other threads read the environment meanwhile, and must not miss what they have seen in it.
        os.environ["SCOREGATE_CREDENTIAL"] = self.rig.credential
        exec(compile(lines, "README.md", "exec"), names)
        self.deploy("readme-plain")
        self.assertIn("readme-plain", [service.name for service in Webservice.list(names["ws"])])
