"""The crates that each set of cargo features brings in: what is not compiled cannot be attacked, nor has it to be patched."""

from __future__ import annotations

import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Of the workspace: its store and the description of its REST.
WORKSPACE = {"libsqlite3-sys", "sqlx", "sqlx-core", "sqlx-sqlite", "utoipa"}
# Of spans.
OTLP = {"opentelemetry", "opentelemetry-proto"}
# Of every binary.
GATE = {"aws-lc-rs", "axum", "scoregate-authz", "tonic"}


def crates(*features: str) -> set[str]:
    """The names of all crates in a binary with these features."""
    command = ["cargo", "tree", "--locked", "--package", "scoregate", "--edges", "normal", "--prefix", "none"]
    output = subprocess.run([*command, *features], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {line.split()[0] for line in output.splitlines() if line}


class FeaturesTest(unittest.TestCase):
    def test_a_gate_by_itself_has_nothing_of_the_workspace(self) -> None:
        names = crates("--no-default-features")
        self.assertEqual(names & WORKSPACE, set())
        self.assertEqual(GATE - names, set())

    def test_the_whole_program_has_both(self) -> None:
        self.assertEqual((WORKSPACE | GATE) - crates(), set())

    def test_spans_are_of_their_feature_only(self) -> None:
        self.assertEqual(crates() & OTLP, set())
        self.assertEqual(OTLP - crates("--features", "otlp"), set())


if __name__ == "__main__":
    unittest.main()
