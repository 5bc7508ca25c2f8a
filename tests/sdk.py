"""What the tests of Azure ML's real SDKs have in common: a system that is started for them, and how they are run.

Prints a line for each test, as `cargo test` does. Themes (classes) run at the same time.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
import threading
import traceback
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any, ClassVar

from certificates import make_certificate
from harness import Processes, built_for_tests, ended_by_signals
from system import Certificate, System
from user import become_new_user

TEST = re.compile(r"test_|t\d{3}b?_")


# What a model is told of its caller, beside the service.
KEY = {"auth-mode": "key", "key-slot": "primary"}
OPEN = {"auth-mode": "disabled"}


def token_of(principal: str) -> dict[str, str]:
    return {"auth-mode": "token", "subject": principal}


class SystemTest(unittest.TestCase):
    """Tests of one theme, in order of their names. Themes run at the same time, so each has services of its own."""

    # A started system, and what its principals see. Set before the tests are run.
    rig: ClassVar[Any]
    # Services that Envoy must have a route for.
    scored: ClassVar[tuple[str, ...]] = ()
    # Of workspace and gate, as environment variables. Themes with the same settings share a system.
    settings: ClassVar[tuple[tuple[str, str], ...]] = ()
    # Whether the workspace is asked over https.
    tls: ClassVar[bool] = False

    def statuses(self, service: str, *credentials: str | None) -> list[int]:
        """What Envoy says to a call with each of these."""
        return [self.rig.system.score(service, credential).status for credential in credentials]


class Report(unittest.TestResult):
    """One line for each test, whole, whichever thread it comes from."""

    lock = threading.Lock()
    # The SDKs write half lines of their own to standard output.
    stream = sys.stdout

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def write(self, text: str) -> None:
        with self.lock:
            print(text, file=self.stream, flush=True)

    def name(self, test: unittest.TestCase) -> str:
        path = test.id().removeprefix("test_").replace(".", "::").replace("::test_", "::")
        return f"{self.folder.name}::{path}"

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.write(f"test {self.name(test)} ... ok")

    def addFailure(self, test: unittest.TestCase, error: object) -> None:
        super().addFailure(test, error)
        self.failed(test, error)

    def addError(self, test: unittest.TestCase, error: object) -> None:
        super().addError(test, error)
        self.failed(test, error)

    def failed(self, test: unittest.TestCase, error: object) -> None:
        self.write(f"test {self.name(test)} ... FAILED\n" + "".join(traceback.format_exception(*error)))


class Loader(unittest.TestLoader):
    """Threat cases are tests too: `t092_...`, as docs/threats.md lists them."""

    def getTestCaseNames(self, case: type[unittest.TestCase]) -> list[str]:
        return [name for name in sorted(dir(case)) if TEST.match(name)]


def themes(folder: Path, wanted: list[str]) -> list[unittest.TestSuite]:
    """The tests of a folder by class, those without a wanted one left out."""
    loader = Loader()
    suites = []
    for module in loader.discover(str(folder), pattern="test_*.py"):
        for suite in module:
            tests = [test for test in suite if not wanted or any(part in test.id() for part in wanted)]
            if tests:
                suites.append(unittest.TestSuite(tests))
    if loader.errors:
        raise SystemExit("\n".join(loader.errors))
    return suites


def run(folder: Path, suites: list[unittest.TestSuite]) -> int:
    """Returns how many failed."""
    reports = [Report(folder) for _ in suites]
    with ThreadPoolExecutor(max_workers=len(suites)) as pool, redirect_stdout(io.StringIO()):
        list(pool.map(lambda pair: pair[0].run(pair[1]), zip(suites, reports)))
    failed = sum(len(report.failures) + len(report.errors) for report in reports)
    passed = sum(report.testsRun for report in reports) - failed
    print(
        f"test result: {'FAILED' if failed else 'ok'}. {passed} passed; {failed} failed; 0 ignored; 0 measured; "
        "0 filtered out",
        flush=True,
    )
    return failed


def main(tests: Path, wanted: list[str]) -> int:
    """Runs the tests of a folder, those with a wanted part in their names; its module `rig` has a class `Rig`, which is
    made of a started system."""
    scoregate = built_for_tests()
    with tempfile.TemporaryDirectory(prefix=f"scoregate-{tests.name}-") as name, ended_by_signals():
        folder = Path(name)
        become_new_user(folder)
        certificate = make_certificate(folder)
        os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = str(certificate.ca)
        suites = themes(tests, wanted)
        with ExitStack() as stack:
            for those in groups(suites):
                own = Path(tempfile.mkdtemp(prefix="system-", dir=folder))
                processes = stack.enter_context(Processes(own))
                start_system(those, processes, own, scoregate, certificate)
            return 1 if run(tests, suites) else 0


def groups(suites: list[unittest.TestSuite]) -> list[list[type[SystemTest]]]:
    """The classes by what they want of their system."""
    by_wish: dict[object, list[type[SystemTest]]] = {}
    for case in {type(test) for suite in suites for test in suite}:
        by_wish.setdefault((case.tls, case.settings), []).append(case)
    return list(by_wish.values())


def start_system(
    those: list[type[SystemTest]], processes: Processes, folder: Path, scoregate: Path, certificate: Certificate
) -> None:
    """The system of classes that want the same of it."""
    from rig import Rig

    scored = sorted({service for case in those for service in case.scored})
    settings, tls = dict(those[0].settings), those[0].tls
    system = System(
        processes, folder, scoregate, scored, settings=settings, certificate=certificate if tls else None
    )
    system.start()
    rig = Rig(system)
    for case in those:
        case.rig = rig
