"""Keys and tokens, as SDK v2 shows and regenerates them."""

from __future__ import annotations

import time

from azure.ai.ml.exceptions import ValidationException
from azure.core.exceptions import HttpResponseError
from rig import SdkTest


class Keys(SdkTest):
    scored = ("keys-both",)

    def test_both_are_regenerated_one_by_one(self) -> None:
        self.create("keys-both")
        for slot, other in (("primary", "secondary"), ("secondary", "primary")):
            before = vars(self.endpoints.get_keys("keys-both"))
            self.endpoints.begin_regenerate_keys("keys-both", key_type=slot).result()
            # At once: it returns when the gate enforces it.
            old, same = before[f"{slot}_key"], before[f"{other}_key"]
            self.assertEqual(self.statuses("keys-both", old, same), [401, 200])
            after = vars(self.endpoints.get_keys("keys-both"))
            self.assertEqual(after[f"{other}_key"], same)
            self.assertEqual(self.statuses("keys-both", after[f"{slot}_key"]), [200])

    def test_regeneration_is_quick(self) -> None:
        self.create("keys-quick")
        started = time.monotonic()
        self.endpoints.begin_regenerate_keys("keys-quick").result()
        self.assertLess(time.monotonic() - started, 5)

    def test_are_those_that_the_other_clients_see(self) -> None:
        self.create("keys-seen")
        keys = self.endpoints.get_keys("keys-seen")
        seen = self.cli("key", "show", "keys-seen")
        self.assertEqual((keys.primary_key, keys.secondary_key), (seen["primaryKey"], seen["secondaryKey"]))

    def test_a_reader_does_not_see_them(self) -> None:
        self.create("keys-hidden")
        with self.refused(HttpResponseError, "this needs the role `contributor`"):
            self.rig.reader.online_endpoints.get_keys("keys-hidden")

    def test_are_not_regenerated_in_other_modes(self) -> None:
        self.create("keys-token", auth_mode="aml_token")
        with self.refused(ValidationException, "does not use keys"):
            self.endpoints.begin_regenerate_keys("keys-token")
        self.create("keys-open", auth_mode="disabled")
        with self.refused(ValidationException, "does not use keys"):
            self.endpoints.begin_regenerate_keys("keys-open")

    def test_slots_are_two(self) -> None:
        self.create("keys-slots")
        with self.refused(ValidationException, "Key type must be 'primary' or 'secondary'."):
            self.endpoints.begin_regenerate_keys("keys-slots", key_type="tertiary")


class Tokens(SdkTest):
    def test_times_and_reuse(self) -> None:
        self.create("tokens-reused", auth_mode="aml_token")
        token = self.endpoints.get_keys("tokens-reused")
        self.assertEqual(token.token_type, "Bearer")
        self.assertAlmostEqual(token.refresh_after_time_utc - time.time(), 3600, delta=60)
        self.assertAlmostEqual(token.expiry_time_utc - time.time(), 12 * 3600, delta=60)
        self.assertEqual(self.endpoints.get_keys("tokens-reused").access_token, token.access_token)

    def test_a_principals_own(self) -> None:
        self.create("tokens-own", auth_mode="aml_token")
        of_reader = self.rig.reader.online_endpoints.get_keys("tokens-own").access_token
        self.assertNotEqual(of_reader, self.endpoints.get_keys("tokens-own").access_token)

    def test_of_an_open_endpoint_there_are_none(self) -> None:
        self.create("tokens-open", auth_mode="disabled")
        self.assertIsNone(self.endpoints.get_keys("tokens-open").access_token)
