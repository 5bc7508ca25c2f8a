"""The lines of README.md that users copy, so that tests can run them as they are written."""

from __future__ import annotations

import re

from harness import ROOT

# Where README.md says that the workspace listens.
LISTENER = "127.0.0.1:8181"


def blocks(title: str, language: str) -> list[str]:
    """The blocks of a language in a section, in their order."""
    text = (ROOT / "README.md").read_text()
    section = re.search(rf"(?ms)^## {re.escape(title)}\n(.*?)^## ", text)
    assert section, f"README.md has no section `{title}`"
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", section[1])
