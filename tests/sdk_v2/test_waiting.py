"""Changes that a gate is slow to confirm, or does not confirm: what the SDK's pollers make of them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from azure.core.exceptions import HttpResponseError
from rig import SdkTest


class Waiting(SdkTest):
    # Time for the SDK to begin to poll, which it does after the 2 s that the first answer takes.
    settings = (("SCOREGATE__WORKSPACE__ENFORCEMENT_TIMEOUT", "5s"),)
    scored = ("waiting",)

    def test_for_a_gate_that_is_slow(self) -> None:
        self.create("waiting")
        keys = self.endpoints.get_keys("waiting")
        with self.gate_stopped():
            poller = self.endpoints.begin_regenerate_keys("waiting")
        started = time.monotonic()
        poller.result()
        # Where an answer did not say when to ask again, the SDK would wait for 30 s.
        self.assertLess(time.monotonic() - started, 5)
        self.assertEqual(self.statuses("waiting", keys.primary_key, keys.secondary_key), [401, 200])

    def test_for_a_gate_that_does_not_answer(self) -> None:
        endpoint = self.create("waiting-in-vain")
        endpoint.auth_mode = "aml_token"
        unconfirmed = "have not confirmed it within 5 s and may decide as before until they do: `gate-1`"
        with self.gate_stopped():
            pollers = [
                self.endpoints.begin_regenerate_keys("waiting-in-vain"),
                self.endpoints.begin_create_or_update(endpoint),
            ]
            for poller in pollers:
                with self.refused(HttpResponseError, unconfirmed):
                    poller.result()
        # It is done nevertheless.
        self.assertEqual(self.endpoints.get("waiting-in-vain").auth_mode, "aml_token")

    @contextmanager
    def gate_stopped(self) -> Iterator[None]:
        gate = self.rig.system.front.gate.popen
        gate.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            gate.send_signal(signal.SIGCONT)
