"""README.md, "Coming from Azure ML v1", run as it is written."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

from readme import LISTENER, blocks
from rig import SdkTest


class Readme(SdkTest):
    scored = ("my-service",)

    def test_as_written(self) -> None:
        first, *others = blocks("Coming from Azure ML v1", "python")
        self.assertIn(LISTENER, first)
        first = first.replace(LISTENER, self.rig.system.listen["workspace"])
        credential = self.rig.system.owner_credential().read_text().strip()
        names: dict[str, Any] = {}
        with mock.patch.dict(os.environ, SCOREGATE_CREDENTIAL=credential):
            for block in [first, *others]:
                exec(compile(block, "README.md", "exec"), names)
        self.assertTrue(names["service"].token_auth_enabled)
        self.assertEqual(self.statuses("my-service", names["token"].access_token, names["primary"]), [200, 401])
