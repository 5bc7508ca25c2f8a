"""Azure ML's real SDK v2 against a real system: workspace, gate, Envoy and a model server.

Run by the interpreter of the part `azure-ai-ml`; arguments select tests by a part of their names.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]

from sdk import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(HERE, sys.argv[1:]))
