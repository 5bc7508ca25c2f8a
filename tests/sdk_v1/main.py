"""Azure ML's real SDK v1 against a real system: workspace, gate, Envoy and a model server.

Run by the interpreter of the part `azureml-core`; arguments select tests by a part of their names. The SDK sleeps for
5 s in each regeneration.
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
