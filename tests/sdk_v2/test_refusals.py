"""What SDK v2 makes of refusals: the right exception with our message, and soon."""

from __future__ import annotations

import time

from azure.ai.ml.entities import KubernetesOnlineEndpoint
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from rig import SdkTest

UNAUTHENTICATED = "this needs the bearer credential of a principal"
FORBIDDEN = "this needs the role `contributor`; `rita` is `reader`"


class Refusals(SdkTest):
    def test_are_right_and_quick(self) -> None:
        self.create("refusals")
        endpoints, rita = self.endpoints, self.rig.reader.online_endpoints
        nobody = self.rig.nobody.online_endpoints
        new = KubernetesOnlineEndpoint(name="refusals", compute="aks")
        unknown, stale = "no service is named `nobody-knows`", "has changed since it was read"
        cases = [
            (lambda: endpoints.get("nobody-knows"), ResourceNotFoundError, unknown),
            (lambda: endpoints.get_keys("nobody-knows"), ResourceNotFoundError, unknown),
            (lambda: endpoints.begin_regenerate_keys("nobody-knows"), ResourceNotFoundError, unknown),
            (lambda: self.invoke("nobody-knows"), ResourceNotFoundError, unknown),
            (lambda: list(nobody.list()), ClientAuthenticationError, UNAUTHENTICATED),
            (lambda: nobody.get_keys("refusals"), ClientAuthenticationError, UNAUTHENTICATED),
            (lambda: nobody.begin_delete("refusals"), ClientAuthenticationError, UNAUTHENTICATED),
            (lambda: nobody.begin_create_or_update(new), ClientAuthenticationError, UNAUTHENTICATED),
            (lambda: rita.get_keys("refusals"), HttpResponseError, FORBIDDEN),
            (lambda: rita.begin_regenerate_keys("refusals"), HttpResponseError, FORBIDDEN),
            (lambda: rita.begin_delete("refusals"), HttpResponseError, FORBIDDEN),
            (lambda: self.regenerate_with_a_stale_key("refusals"), ResourceExistsError, stale),
        ]
        for number, (call, kind, text) in enumerate(cases):
            with self.subTest(number):
                started = time.monotonic()
                with self.refused(kind, text):
                    call()
                self.assertLess(time.monotonic() - started, 2)

    def invoke(self, name: str) -> str:
        return self.endpoints.invoke(name, request_file=self.rig.rows)

    def regenerate_with_a_stale_key(self, name: str) -> None:
        """Somebody regenerates the key after the SDK has read it, and before it asks for its regeneration."""
        operations = self.endpoints._online_operation
        list_keys = operations.list_keys

        def list_keys_and_regenerate(**arguments: object) -> object:
            keys = list_keys(**arguments)
            self.cli("key", "regenerate", name, "primary")
            return keys

        operations.list_keys = list_keys_and_regenerate
        try:
            self.endpoints.begin_regenerate_keys(name)
        finally:
            operations.list_keys = list_keys
