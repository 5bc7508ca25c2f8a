"""README.md, "Coming from Azure ML v1", run as it is written."""

from __future__ import annotations

import os
import re
from typing import Any
from unittest import mock

from harness import ROOT
from rig import SdkTest

SECTION = re.compile(r"(?ms)^## Coming from Azure ML v1\n(.*?)^## ")
BLOCK = re.compile(r"(?ms)^```python\n(.*?)^```")
LISTENER = "http://127.0.0.1:8181"


class Readme(SdkTest):
    scored = ("my-service",)

    def test_as_written(self) -> None:
        section = SECTION.search((ROOT / "README.md").read_text())
        first, *others = BLOCK.findall(section[1])
        self.assertIn(LISTENER, first)
        first = first.replace(LISTENER, self.rig.system.url)
        credential = self.rig.system.owner_credential().read_text().strip()
        names: dict[str, Any] = {}
        with mock.patch.dict(os.environ, SCOREGATE_CREDENTIAL=credential):
            for block in [first, *others]:
                exec(compile(block, "README.md", "exec"), names)
        self.assertTrue(names["service"].token_auth_enabled)
        self.assertEqual(self.statuses("my-service", names["token"].access_token, names["primary"]), [200, 401])
