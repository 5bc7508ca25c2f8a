"""The user that the SDK runs for."""

from __future__ import annotations

import os
import warnings
from pathlib import Path


def become_new_user(home: Path) -> None:
    """To be called before the SDK is imported. It keeps what it discovers in its user's home, for good; and where it
    runs in a git checkout, it says so in each service's properties."""
    os.environ["HOME"] = str(home)
    os.environ["AZUREML_LOG_DEPRECATION_WARNING_ENABLED"] = "False"
    os.chdir(home)
    warnings.simplefilter("ignore")
