"""README.md, "Coming from Azure ML v2", run as it is written, in a process of its own: it is all in the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from readme import LISTENER, blocks
from rig import SdkTest
from system import ROWS

TITLE = "Coming from Azure ML v2 (endpoint authentication)"

# What the program leaves behind.
LAST_LINES = """
import json

print(json.dumps([endpoint.auth_mode, keys.primary_key, keys.secondary_key, token]))
"""


class Readme(SdkTest):
    scored = ("my-endpoint",)

    def test_as_written(self) -> None:
        system = self.rig.system
        folder = system.folder / "readme"
        folder.mkdir()
        (folder / "rows.json").write_text(ROWS)
        (folder / "ca.pem").write_bytes(system.certificate.ca.read_bytes())
        (settings,) = blocks(TITLE, "sh")
        self.assertIn(LISTENER, settings)
        (program,) = blocks(TITLE, "python")
        (folder / "program.py").write_text(program + LAST_LINES)
        script = settings.replace(LISTENER, system.listen["workspace"]) + f"exec {sys.executable} program.py\n"
        env = os.environ | {"SCOREGATE_CREDENTIAL": system.owner_credential().read_text().strip()}
        done = subprocess.run(["sh", "-euc", script], cwd=folder, env=env, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        mode, primary, secondary, token = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual(mode, "aml_token")
        self.assertEqual(self.statuses("my-endpoint", token, primary, secondary), [200, 401, 401])
