"""`make test-ingress`: the overlays of k8s/ at real control planes, and one line at the end.

Prints each test as `cargo test` does. Arguments select tests by a part of their names. Everything runs in a network of
its own, see `alone.py`. What the control planes emit is compared with what was committed; `GOLDEN=write` writes it anew,
see `golden.py`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
import unittest
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent / "tools")]

import alone  # noqa: E402
import rig  # noqa: E402
from harness import Processes, built_for_tests, ended_by_signals  # noqa: E402
from run import Tally, title  # noqa: E402

BINARY = "SCOREGATE_BINARY"

Raised = tuple[type[BaseException], BaseException, TracebackType]


class Report(unittest.TestResult):
    """Tells the tally of each test when it has ended."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally
        self.problems: list[str] = []

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.problems = []

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self.tally.check(name_of(test), "; ".join(self.problems) or None)

    def addFailure(self, test: unittest.TestCase, error: Raised) -> None:
        self.problems.append(shown(test, error))

    def addError(self, test: unittest.TestCase, error: Raised) -> None:
        problem = shown(test, error)
        if isinstance(test, unittest.TestCase):
            self.problems.append(problem)
        else:
            # What a class needs before its first test did not come up: none of them ran.
            self.tally.check(str(test), problem)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, error: Raised | None) -> None:
        if error is not None:
            self.problems.append(shown(subtest, error))

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.problems.append(f"skipped: {reason}")


def shown(test: object, error: Raised) -> str:
    """Prints all of it, and returns what it comes to."""
    print(f"{test}\n" + "".join(traceback.format_exception(*error)), flush=True)
    return str(error[1]).strip().partition("\n")[0] or error[0].__name__


def name_of(test: unittest.TestCase) -> str:
    return "ingress::" + test.id().removeprefix("test_").replace(".", "::").replace("::test_", "::")


def tests_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        yield from tests_of(test) if isinstance(test, unittest.TestSuite) else [test]


def main(wanted: list[str]) -> int:
    # What cargo may have to fetch is not to be had in there.
    if BINARY not in os.environ:
        os.environ[BINARY] = str(built_for_tests())
    alone.enter()
    tally, loader = Tally(), unittest.TestLoader()
    with tempfile.TemporaryDirectory(prefix="scoregate-ingress-") as name, ended_by_signals():
        with Processes(Path(name)) as processes:
            rig.current = rig.Rig(processes, Path(name), Path(os.environ[BINARY]))
            tests = tests_of(loader.discover(str(HERE)))
            chosen = [test for test in tests if not wanted or any(part in name_of(test) for part in wanted)]
            title("tests/ingress")
            unittest.TestSuite(chosen).run(Report(tally))
    tally.failures += loader.errors
    if not chosen:
        tally.failures.append("no test has such a name")
    return tally.end()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
