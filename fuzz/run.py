"""`make fuzz`: each fuzz target for a while, one after the other. Fails if one of them found something.

    FUZZ_SECONDS=60 python3 fuzz/run.py token signed_token
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tools"))

from parts import program  # noqa: E402


def cargo_fuzz(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    # The instrumentation is a nightly option of a compiler that is otherwise the pinned stable one.
    environment = os.environ | {"RUSTC_BOOTSTRAP": "1"}
    command = [str(program("cargo-fuzz", "cargo-fuzz")), "fuzz", *arguments]
    return subprocess.run(command, cwd=HERE, env=environment, text=True, **options)


def main(targets: list[str]) -> int:
    seconds = int(os.environ.get("FUZZ_SECONDS", "20"))
    if cargo_fuzz("build").returncode:
        return 1
    listed = cargo_fuzz("list", stdout=subprocess.PIPE, check=True).stdout.split()
    found = []
    for target in targets or listed:
        print(f"\n== {target}, {seconds} s", flush=True)
        limits = [f"-max_total_time={seconds}", "-max_len=16384", "-print_final_stats=1"]
        if cargo_fuzz("run", target, "--", *limits).returncode:
            found.append(target)
    print(f"\nfound something: {', '.join(found)}" if found else "\nnothing found", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
