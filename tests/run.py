"""`make test`: everything that can fail, and one line at the end.

Runs `cargo test` over the workspace, the Python unit tests, Azure ML's SDKs, Envoy's own check of every file in
envoy/, the demo, and the comparison of docs/threats.md with the tests that ran. An ignored or filtered test counts as a
failure: nothing skips.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unittest
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tools"))

from harness import built_for_tests  # noqa: E402
from parts import PartError, program  # noqa: E402
from threats import gaps  # noqa: E402

TEST = re.compile(r"^test (.+?)(?: - should panic)? \.\.\. (ok|FAILED)")
RESULT = re.compile(
    r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored; (\d+) measured; (\d+) filtered out"
)


@dataclass
class Tally:
    passed: int = 0
    failures: list[str] = field(default_factory=list)

    def check(self, name: str, problem: str | None) -> None:
        """One test of our own: passed where there is no problem."""
        print(f"test {name} ... {'FAILED: ' + problem if problem else 'ok'}", flush=True)
        if problem:
            self.failures.append(f"{name}: {problem}")
        else:
            self.passed += 1

    def end(self) -> int:
        """Prints what failed, and the result on the last line; returns the exit status."""
        title("result")
        for failure in self.failures:
            print(f"failed: {failure}")
        print(f"{self.passed} passed, {len(self.failures)} failed", flush=True)
        return 1 if self.failures else 0


def title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def cargo(tally: Tally) -> dict[str, bool]:
    """All Rust tests, doc tests too."""
    title("cargo test --workspace")
    return test_program(tally, "Rust", "cargo", "test", "--workspace", "--no-fail-fast")


def sdk(tally: Tally, version: str, part: str) -> dict[str, bool]:
    """One of Azure ML's real SDKs, in the interpreter that has it."""
    name = f"sdk_{version}"
    title(f"tests/{name}")
    try:
        interpreter = program(part, "python")
    except PartError as error:
        tally.check(name, str(error))
        return {}
    return test_program(tally, f"SDK {version}", interpreter, HERE / name / "main.py")


def test_program(tally: Tally, kind: str, *command: str | Path, whole: bool = True) -> dict[str, bool]:
    """Runs what prints its tests as `cargo test` does; returns the names of those that ran, and whether they passed.
    `whole`: no test of it may be filtered out."""
    ran: dict[str, bool] = {}
    passed = failed = 0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if found := TEST.match(line):
                ran[found[1]] = ran.get(found[1], True) and found[2] == "ok"
            elif found := RESULT.match(line):
                numbers = [int(number) for number in found.groups()]
                passed += numbers[0]
                failed += numbers[1]
                if skipped := numbers[2] + (numbers[4] if whole else 0):
                    tally.failures.append(f"{skipped} {kind} tests were ignored or filtered out")
    tally.passed += passed
    names = sorted(name for name, good in ran.items() if not good)
    tally.failures += [f"{kind} test {name}" for name in names]
    tally.failures += [f"a {kind} test whose name was not seen"] * max(0, failed - len(names))
    if process.returncode != 0 and not failed:
        tally.failures.append(f"the {kind} tests did not build, or a test program crashed")
    if not passed:
        tally.failures.append(f"no {kind} test ran")
    return ran


def python(tally: Tally) -> None:
    title("Python unit tests")
    suite = unittest.defaultTestLoader.discover(str(HERE), pattern="test_*.py")
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    bad = [*result.failures, *result.errors, *result.skipped]
    tally.passed += result.testsRun - len(bad)
    tally.failures += [f"Python test {test}" for test, _ in bad]


def envoy_files(tally: Tally) -> None:
    title("envoy --mode validate")
    envoy = program("envoy", "envoy")
    of_envoy = (path for path in (ROOT / "envoy").iterdir() if path.name != "kustomization.yaml")
    files = sorted(path for path in of_envoy if path.suffix in {".yaml", ".yml", ".json"})
    if not files:
        tally.failures.append("envoy/ has no configuration")
    for file in files:
        # Files beside it in a container are in parts/ here, and Envoy wants to see them.
        text = file.read_text().replace("/etc/envoy/", f"{ROOT}/envoy/parts/")
        command = [str(envoy), "--mode", "validate", "--log-level", "error", "--config-yaml", text]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        tally.check(f"envoy/{file.name}", done.stdout.strip() if done.returncode else None)


def demo(tally: Tally) -> None:
    title("make demo DEMO_EXIT=1")
    command = [sys.executable, ROOT / "demo" / "demo.py", "--binary", built_for_tests()]
    done = subprocess.run(command, env=os.environ | {"DEMO_EXIT": "1"})
    tally.check("demo", f"exit status {done.returncode}" if done.returncode else None)


def threats(tally: Tally, ran: dict[str, bool]) -> None:
    title("docs/threats.md against the tests that ran")
    file = ROOT / "docs" / "threats.md"
    problems = gaps(file.read_text(), ran) if file.exists() else ["docs/threats.md is missing"]
    tally.check("threats", "\n  " + "\n  ".join(problems) if problems else None)


def main() -> int:
    tally = Tally()
    ran = cargo(tally)
    python(tally)
    ran |= sdk(tally, "v1", "azureml-core")
    ran |= sdk(tally, "v2", "azure-ai-ml")
    envoy_files(tally)
    demo(tally)
    threats(tally, ran)
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
