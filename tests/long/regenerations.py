"""`regen_key()` returns when the old key is refused, wherever it is tried, and nobody else notices anything.

Azure ML's real SDK v1 regenerates the keys of a service in turn, at three gates, each behind an Envoy of its own, while
the other key is used 200 times a second. Run by the interpreter of the part `azureml-core`; prints a line for each run,
and one for each test, as `cargo test` does. The SDK sleeps for 5 s in each regeneration.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests"), str(ROOT / "tests" / "sdk_v1")]

from harness import Process, Processes, built_for_tests, ended_by_signals, free_port, wait_until  # noqa: E402
from load import Calls, Load  # noqa: E402
from relay import Relay  # noqa: E402
from run import Tally  # noqa: E402
from system import ROWS, Front, System  # noqa: E402
from user import become_new_user  # noqa: E402

SERVICE = "rotating"
PATH = f"/api/v1/service/{SERVICE}/score"
SLOTS = ("Primary", "Secondary")
GATES = 3
RATE = 200
# The SDK looks for the first time after 7 s: its request is answered after 2 s, where a gate does not confirm, and it
# sleeps for 5 s. The workspace waits for 10 s.
DELAY = 8.5
# For what takes milliseconds, on a busy machine.
SOON = 10.0

Problems = list[str | None]


@dataclass
class Regeneration:
    """One that has begun."""

    slot: str
    old: str
    began: float
    end: Future[None]
    # Those with the other key, meanwhile.
    calls: Calls

    def seconds(self) -> float:
        return time.monotonic() - self.began


@dataclass
class Outcome:
    """What each gate said of a slot's keys right after the end of a regeneration."""

    slot: str
    old: list[int]
    new: list[int]

    def problem(self) -> str | None:
        good = (self.old, self.new) == ([401] * GATES, [200] * GATES)
        return None if good else f"after {self.slot}: the old key gets {self.old}, the new one {self.new}"


class Rotation:
    """A service whose two keys are regenerated in turn. The load uses the one that is not."""

    def __init__(self, system: System, service: Any, load: Load) -> None:
        self.fronts, self.service, self.load = system.fronts, service, load
        self.keys = dict(zip(SLOTS, service.get_keys()))
        self.turn = 0
        # The last key that was.
        self.replaced = ""
        # Calls of this class, which are not the load's.
        self.tried = 0

    def run(self, title: str) -> Outcome:
        return self.finish(title, self.begin(self.fronts))

    def begin(self, loaded: Iterable[Front]) -> Regeneration:
        """`loaded`: where the other key is used meanwhile."""
        slot, other = SLOTS if self.turn % 2 == 0 else SLOTS[::-1]
        self.turn += 1
        self.replaced = self.keys[slot]
        calls = self.use(self.keys[other], loaded)
        began = time.monotonic()
        return Regeneration(slot, self.replaced, began, in_background(self.service.regen_key, slot), calls)

    def use(self, key: str, loaded: Iterable[Front]) -> Calls:
        return self.load.use(key, [front.entrance for front in loaded])

    def finish(self, title: str, regeneration: Regeneration) -> Outcome:
        """Waits until `regen_key` returns, and tries the old key at that moment."""
        regeneration.end.result()
        seconds = regeneration.seconds()
        outcome = self.outcome(regeneration)
        calls = regeneration.calls
        print(
            f"  {title:<10} {outcome.slot:<9} {seconds:5.2f} s   old key {outcome.old}   new key {outcome.new}   "
            f"other key: {calls.statuses[200]} calls good, {calls.sent - calls.statuses.total()} under way, "
            f"{calls.statuses.total() - calls.statuses[200]} bad, p50 {calls.percentile(50):.1f} ms, "
            f"p99 {calls.percentile(99):.1f} ms, slowest {calls.percentile(100):.0f} ms",
            flush=True,
        )
        return outcome

    def outcome(self, regeneration: Regeneration) -> Outcome:
        old = self.everywhere(regeneration.old)
        self.keys = dict(zip(SLOTS, self.service.get_keys()))
        return Outcome(regeneration.slot, old, self.everywhere(self.keys[regeneration.slot]))

    def everywhere(self, key: str) -> list[int]:
        """What each gate says of a key, all asked at once."""
        with ThreadPoolExecutor(GATES) as pool:
            return list(pool.map(lambda front: self.status(front, key), self.fronts))

    def status(self, front: Front, key: str) -> int:
        self.tried += 1
        return front.score(SERVICE, key).status


class Tests:
    """In this order. Each returns what is wrong."""

    def __init__(self, system: System, rotation: Rotation, relay: Relay, runs: int) -> None:
        self.system, self.rotation, self.relay, self.runs = system, rotation, relay, runs
        self.fronts, self.load = system.fronts, rotation.load

    def the_old_key_is_refused_at_every_gate_when_regen_key_returns(self) -> Problems:
        return [self.rotation.run(f"{number} of {self.runs}").problem() for number in range(1, self.runs + 1)]

    def a_gate_that_hears_nothing_is_waited_for(self) -> Problems:
        """It goes on deciding by what it knows, so the old key is good there."""
        seen: Counter[object] = Counter()
        self.relay.hold()
        regeneration = self.rotation.begin(self.fronts)
        wait_until("the others", lambda: self.rotation.status(self.fronts[0], regeneration.old) == 401, SOON)
        while regeneration.seconds() < DELAY:
            seen[(*self.rotation.everywhere(regeneration.old), regeneration.end.done())] += 1
            time.sleep(0.2)
        self.relay.release()
        outcome = self.rotation.finish("deaf gate", regeneration)
        return [outcome.problem(), unlike(seen, (401, 401, 200, False))]

    def a_gate_that_stands_still_is_waited_for(self) -> Problems:
        still, *others = self.spare_the_first()
        seen: Counter[object] = Counter()
        with stopped(still.gate):
            regeneration = self.rotation.begin(others)
            while regeneration.seconds() < DELAY:
                seen[self.rotation.status(still, regeneration.old), regeneration.end.done()] += 1
        outcome = self.rotation.finish("still gate", regeneration)
        return [outcome.problem(), unlike(seen, (503, False))]

    def a_gate_that_does_not_confirm_in_time_is_named(self) -> Problems:
        still, *others = self.spare_the_first()
        with stopped(still.gate):
            regeneration = self.rotation.begin(others)
            error = regeneration.end.exception().message
            print(f"  after {regeneration.seconds():.2f} s the SDK says: {error}", flush=True)
        wait_until("the gate", lambda: self.rotation.status(still, regeneration.old) == 401, SOON)
        missing = [f"the error does not say {text}" for text in ("TimedOut", still.name, "changed") if text not in error]
        named = [f"the error names {front.name}" for front in others if front.name in error]
        return [self.rotation.outcome(regeneration).problem(), *missing, *named]

    def spare_the_first(self) -> list[Front]:
        """Takes the load away from the first gate, before it is stopped: its Envoy would get no answer."""
        self.rotation.use(self.rotation.keys["Primary"], self.fronts[1:])
        return self.fronts

    def the_other_key_never_fails(self) -> Problems:
        """In all that was done before."""
        self.rotation.use(self.rotation.keys["Primary"], self.fronts)
        return [calls.problem(200, RATE) for calls in self.load.used[:-1]]

    def a_replaced_key_fails_in_the_same_client(self) -> Problems:
        calls = self.rotation.use(self.rotation.replaced, self.fronts)
        time.sleep(2)
        self.rotation.use(self.rotation.keys["Primary"], self.fronts)
        return [calls.problem(401, RATE)]

    def a_call_without_an_answer_is_a_failure(self) -> Problems:
        with Load(PATH, ROWS, RATE) as load:
            calls = load.use("any", [f"http://127.0.0.1:{free_port()}"])
            time.sleep(0.5)
        return [calls.problem(0, RATE)]

    def the_envoys_have_counted_the_same_calls(self) -> Problems:
        self.load.pause()
        # They write every 0.2 s.
        time.sleep(1)
        seen = [line for front in self.fronts for line in front.access_log() if line["path"] == PATH]
        sent = sum(calls.sent for calls in self.load.used)
        print(f"  {sent} calls of the load, {self.rotation.tried} others; Envoys: {by_reason(seen)}", flush=True)
        return [] if len(seen) == sent + self.rotation.tried else [f"the Envoys have seen {len(seen)} calls"]

    def all(self) -> list[Callable[[], Problems]]:
        return [
            self.the_old_key_is_refused_at_every_gate_when_regen_key_returns,
            self.a_gate_that_hears_nothing_is_waited_for,
            self.a_gate_that_stands_still_is_waited_for,
            self.a_gate_that_does_not_confirm_in_time_is_named,
            self.the_other_key_never_fails,
            self.a_replaced_key_fails_in_the_same_client,
            self.a_call_without_an_answer_is_a_failure,
            self.the_envoys_have_counted_the_same_calls,
        ]


def unlike(seen: Counter[Any], only: Any) -> str | None:
    return None if set(seen) == {only} else f"meanwhile there was {dict(seen)}, not only {only}"


def by_reason(lines: list[dict[str, Any]]) -> dict[str, int]:
    """Where the gate gave no reason, there is Envoy's."""
    return dict(Counter(f"{line['status']} {line['reason'] or line['details']}" for line in lines))


def in_background(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function, *arguments)
    pool.shutdown(wait=False)
    return future


@contextmanager
def stopped(process: Process) -> Iterator[None]:
    process.popen.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.popen.send_signal(signal.SIGCONT)


def run(folder: Path, runs: int) -> Tally:
    scoregate, tally = built_for_tests(), Tally()
    become_new_user(folder)
    # The SDK reads its user's settings when it is imported.
    from azureml.core.webservice import Webservice
    from rig import Rig

    with Processes(folder) as processes:
        # With one worker, the model is where calls queue up when the machine has other things to do.
        system = System(processes, folder, scoregate, [SERVICE], GATES, model_workers=4)
        system.listen["feed"] = f"127.0.0.1:{free_port()}"
        relay = Relay(system.listen["feed"])
        system.fronts[-1].feed = relay.address
        system.start()
        system.cli("service", "create", SERVICE)
        service = Webservice(Rig(system).owner, SERVICE)
        with Load(PATH, ROWS, RATE) as load:
            for test in Tests(system, Rotation(system, service, load), relay, runs).all():
                tally.check(f"regenerations::{test.__name__}", problem_of(test))
    return tally


def problem_of(test: Callable[[], Problems]) -> str | None:
    try:
        return "; ".join(problem for problem in test() if problem) or None
    except Exception as error:
        return "".join(traceback.format_exception(error))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=50, help="regenerations, of 5 s each (default 50)")
    runs = options.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="scoregate-long-") as name, ended_by_signals():
        tally = run(Path(name), runs)
    failed = len(tally.failures)
    print(
        f"test result: {'FAILED' if failed else 'ok'}. {tally.passed} passed; {failed} failed; 0 ignored; "
        "0 measured; 0 filtered out",
        flush=True,
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
