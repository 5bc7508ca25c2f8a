"""The lines of documents that users copy, so that tests can run them as they are written."""

from __future__ import annotations

import re

from harness import ROOT

# Where README.md says that the workspace listens.
LISTENER = "127.0.0.1:8181"


def blocks(title: str, language: str, document: str = "README.md") -> list[str]:
    """The blocks of a language in a section, in their order."""
    text = (ROOT / document).read_text()
    section = re.search(rf"(?ms)^## {re.escape(title)}\n(.*?)^## ", text)
    assert section, f"{document} has no section `{title}`"
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", section[1])
