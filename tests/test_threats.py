import unittest

from threats import expected_cases, gaps

GOOD = """
Cases: 1-2, 17, 100b

| case | what | tests | status |
|---|---|---|---|
| 001 | empty request | `t001_empty`, `t001_empty_twice` | covered |
| 002 | no \\| http | t002_no_http | covered |
| 017 | headers do not name the service | | open: comes with issue 9 |
| 100b | made again | t100b_made_again | covered |
"""
RAN = {
    "gate::tests::t001_empty": True,
    "t001_empty_twice": True,
    "target::t002_no_http::case_1_tcp": True,
    "target::t002_no_http::case_2_none": True,
    "t100b_made_again": True,
    "other_test": False,
}


class Gaps(unittest.TestCase):
    def test_none(self) -> None:
        self.assertEqual(gaps(GOOD, RAN), [])

    def test_expected_cases_has_ranges_and_letters(self) -> None:
        self.assertEqual(expected_cases(GOOD), ["001", "002", "017", "100b"])

    def test_a_file_without_expected_cases(self) -> None:
        self.assertEqual(len(gaps("", {})), 1)

    def test_each_kind_is_found(self) -> None:
        for name, text, ran, problem in [
            ("no row", GOOD.replace("| 017", "| x17"), RAN, "case 017 has no row"),
            ("two rows", GOOD + "| 017 | again | | open: x |", RAN, "case 017 has several rows"),
            ("unknown row", GOOD + "| 003 | more | | open: x |", RAN, "case 003 is not on the line `Cases:`"),
            ("not run", GOOD, without("t100b_made_again"), "case 100b: `t100b_made_again` did not run"),
            (
                "one case failed",
                GOOD,
                RAN | {"target::t002_no_http::case_2_none": False},
                "case 002: `t002_no_http` failed",
            ),
            ("not listed", GOOD, RAN | {"t017_new": True}, "test `t017_new` ran but is not in the list"),
            ("no test", GOOD.replace("t002_no_http", ""), without("target::t002"), "case 002 is covered by no test"),
            (
                "open without reason",
                GOOD.replace("open: comes with issue 9", "open"),
                RAN,
                "case 017: the status is `covered` or `open: reason`, not `open`",
            ),
            (
                "a test of no case",
                GOOD.replace("t002_no_http", "no_http"),
                without("target::t002"),
                "case 002: `no_http` is not named after a case",
            ),
        ]:
            with self.subTest(name):
                self.assertEqual(gaps(text, ran), [problem])


def without(prefix: str) -> dict[str, bool]:
    return {name: passed for name, passed in RAN.items() if not name.startswith(prefix)}


if __name__ == "__main__":
    unittest.main()
