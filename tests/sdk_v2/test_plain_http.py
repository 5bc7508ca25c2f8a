"""A workspace without TLS: the SDK does all but what it reads the workspace for."""

from __future__ import annotations

from azure.core.exceptions import ResourceNotFoundError, ServiceRequestError
from rig import SdkTest
from sdk import KEY


class PlainHttp(SdkTest):
    tls = False
    scored = ("plain",)

    def test_everything_but_making_an_endpoint(self) -> None:
        self.cli("service", "create", "plain")
        self.assertEqual([endpoint.name for endpoint in self.endpoints.list()], ["plain"])
        self.assert_scores("plain", KEY)
        old = self.endpoints.get_keys("plain").primary_key
        self.endpoints.begin_regenerate_keys("plain", key_type="primary").result()
        self.assertEqual(self.statuses("plain", old, self.endpoints.get_keys("plain").primary_key), [401, 200])
        with self.refused(ServiceRequestError, "https"):
            self.create("plain-new")
        self.endpoints.begin_delete("plain").result()
        self.assertRaises(ResourceNotFoundError, self.endpoints.get, "plain")
