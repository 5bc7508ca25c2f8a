"""`make test-long`: what takes minutes, and one line at the end.

Prints each test as `cargo test` does. Everything else is in `make test`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]

from parts import program  # noqa: E402
from run import Tally, test_program, title  # noqa: E402


def regenerations(tally: Tally) -> None:
    title("regenerations with the SDK v1, at three gates under load")
    test_program(tally, "long", program("azureml-core", "python"), HERE / "regenerations.py")


def outage_of_the_workspace(tally: Tally) -> None:
    title("a minute without the workspace, under load")
    name = "t117_callers_notice_nothing_of_an_outage_of_the_workspace"
    command = ("env", "SCOREGATE_OUTAGE_SECONDS=60", "cargo", "test", "--test", "envoy", name)
    test_program(tally, "long", *command, whole=False)


def outages_of_the_database(tally: Tally) -> None:
    title("a minute each without the database: gone, locked, full")
    environment = os.environ | {"SCOREGATE_OUTAGE_SECONDS": "60"}
    done = subprocess.run([sys.executable, ROOT / "tests" / "test_outage.py"], env=environment)
    tally.check("outages of the database", f"exit status {done.returncode}" if done.returncode else None)


def chaos(tally: Tally) -> None:
    """At least 200 kills and 100,000 checks, in runs of different seeds. `CHAOS_SEED=N` repeats one of them."""
    title("chaos: everything is killed and disturbed while services change and callers call")
    name = "no_decision_is_wrong_and_no_change_is_lost_whoever_is_killed"
    for seed in [os.environ["CHAOS_SEED"]] if "CHAOS_SEED" in os.environ else ["11", "12", "13", "14"]:
        settings = (f"CHAOS_SEED={seed}", "CHAOS_SECONDS=60", "CHAOS_KILLS=55", "CHAOS_CHECKS=27000")
        command = ("env", *settings, "cargo", "test", "--test", "chaos", name, "--", "--nocapture")
        test_program(tally, f"long (seed {seed})", *command, whole=False)


def main() -> int:
    tally = Tally()
    regenerations(tally)
    outage_of_the_workspace(tally)
    outages_of_the_database(tally)
    chaos(tally)
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
