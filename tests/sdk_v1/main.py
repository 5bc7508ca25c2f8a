"""Azure ML's real SDK v1 against a real system: workspace, gate, Envoy and a model server.

Run by the interpreter of the part `azureml-core`; arguments select tests by a part of their names. Prints a line for
each test, as `cargo test` does. The SDK sleeps for 5 s in each regeneration, so themes (classes) run at the same time.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
import threading
import traceback
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, redirect_stdout
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "tools")]

from harness import Processes, built, ended_by_signals  # noqa: E402
from system import System  # noqa: E402
from user import become_new_user  # noqa: E402

TEST = re.compile(r"test_|t\d{3}b?_")


class Report(unittest.TestResult):
    """One line for each test, whole, whichever thread it comes from."""

    lock = threading.Lock()
    # The SDK writes half lines of its own to standard output.
    stream = sys.stdout

    def write(self, text: str) -> None:
        with self.lock:
            print(text, file=self.stream, flush=True)

    def name(self, test: unittest.TestCase) -> str:
        return "sdk_v1::" + test.id().removeprefix("test_").replace(".", "::").replace("::test_", "::")

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


def themes(wanted: list[str]) -> list[unittest.TestSuite]:
    """The tests by class, those without a wanted one left out."""
    loader = Loader()
    suites = []
    for module in loader.discover(str(HERE), pattern="test_*.py"):
        for suite in module:
            tests = [test for test in suite if not wanted or any(part in test.id() for part in wanted)]
            if tests:
                suites.append(unittest.TestSuite(tests))
    if loader.errors:
        raise SystemExit("\n".join(loader.errors))
    return suites


def run(suites: list[unittest.TestSuite]) -> int:
    """Returns how many failed."""
    reports = [Report() for _ in suites]
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


def main(wanted: list[str]) -> int:
    scoregate = built("dev")
    with tempfile.TemporaryDirectory(prefix="scoregate-sdk-v1-") as name, ended_by_signals():
        folder = Path(name)
        become_new_user(folder)
        suites = themes(wanted)
        with ExitStack() as stack:
            start_systems(stack, folder, scoregate, suites)
            return 1 if run(suites) else 0


def start_systems(stack: ExitStack, folder: Path, scoregate: Path, suites: list[unittest.TestSuite]) -> None:
    """One system for each set of settings that a theme wants."""
    from rig import Rig

    classes = {type(test) for suite in suites for test in suite}
    for number, settings in enumerate(sorted({case.settings for case in classes})):
        those = [case for case in classes if case.settings == settings]
        scored = sorted({service for case in those for service in case.scored})
        own = folder / f"system-{number}"
        own.mkdir()
        system = System(stack.enter_context(Processes(own)), own, scoregate, scored, settings=dict(settings))
        system.start()
        rig = Rig(system)
        for case in those:
            case.rig = rig


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
