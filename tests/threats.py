"""Compares docs/threats.md with the tests that ran.

The file says on a line `Cases: 1-4, 6, 100b, ...` which cases there are, and has one row for each:

    | 017 | in our own words | `t017_extension_decides`, `t017_other` | covered |
    | 131 | in our own words | | open: the reason |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

CASE = re.compile(r"(\d{1,3})(b?)")
ROW = re.compile(r"^\|\s*(\d{3}b?)\s*\|")
TEST = re.compile(r"^t(\d{3}b?)_")


@dataclass(frozen=True)
class Case:
    number: str
    tests: tuple[str, ...]
    status: str


def expected_cases(text: str) -> list[str]:
    """The numbers on the `Cases:` line, in three digits."""
    line = re.search(r"(?m)^Cases: (.+)$", text)
    numbers: list[str] = []
    for item in line[1].rstrip(".").split(",") if line else []:
        first, _, last = item.strip().partition("-")
        found = CASE.fullmatch(first)
        if found and last:
            numbers += [f"{number:03}" for number in range(int(found[1]), int(last) + 1)]
        elif found:
            numbers.append(f"{int(found[1]):03}{found[2]}")
    return numbers


def rows(text: str) -> list[Case]:
    cases = []
    for line in text.splitlines():
        if found := ROW.match(line):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            tests = re.findall(r"\w+", cells[-2]) if len(cells) >= 4 else []
            cases.append(Case(found[1], tuple(tests), cells[-1]))
    return cases


def by_function(ran: Mapping[str, bool]) -> dict[str, bool]:
    """The outcomes of the `tNNN_` tests by function; a function's cases (rstest) and namesakes must all have passed."""
    outcomes: dict[str, bool] = {}
    for path, passed in ran.items():
        for name in path.split("::"):
            if TEST.match(name):
                outcomes[name] = outcomes.get(name, True) and passed
    return outcomes


def gaps(text: str, ran: Mapping[str, bool]) -> list[str]:
    """What is wrong, one sentence each. `ran` holds the full names of the tests that ran, and whether they passed."""
    expected, cases, outcomes = expected_cases(text), rows(text), by_function(ran)
    if not expected:
        return ["docs/threats.md has no line `Cases: 1-4, 6, ...`"]
    problems = [f"case {number} has no row" for number in expected if number not in {case.number for case in cases}]
    for case in cases:
        problems += check_case(case, expected, outcomes)
    numbers = [case.number for case in cases]
    problems += [f"case {number} has several rows" for number in sorted(set(numbers)) if numbers.count(number) > 1]
    listed = {test for case in cases for test in case.tests}
    problems += [f"test `{test}` ran but is not in the list" for test in sorted(outcomes) if test not in listed]
    return problems


def check_case(case: Case, expected: list[str], outcomes: Mapping[str, bool]) -> list[str]:
    problems = [] if case.number in expected else [f"case {case.number} is not on the line `Cases:`"]
    for test in case.tests:
        number = TEST.match(test)
        if number is None or number[1] not in expected:
            problems.append(f"case {case.number}: `{test}` is not named after a case")
        elif test not in outcomes:
            problems.append(f"case {case.number}: `{test}` did not run")
        elif not outcomes[test]:
            problems.append(f"case {case.number}: `{test}` failed")
    if case.status == "covered":
        if not case.tests:
            problems.append(f"case {case.number} is covered by no test")
    elif not re.fullmatch(r"open: \S.*", case.status):
        problems.append(f"case {case.number}: the status is `covered` or `open: reason`, not `{case.status}`")
    return problems
