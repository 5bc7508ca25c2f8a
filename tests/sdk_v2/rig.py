"""What the tests of SDK v2 share: clients as its users have them, against one started system."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any, ClassVar
from unittest import mock

from azure.ai.ml import MLClient
from azure.ai.ml.entities import KubernetesOnlineEndpoint, OnlineEndpoint
from azure.core.credentials import AccessToken
from sdk import SystemTest
from system import PREDICTIONS, ROWS, System

# Those of a workspace that is not told otherwise.
SUBSCRIPTION, GROUP, NAME = "00000000-0000-0000-0000-000000000000", "scoregate", "scoregate"

# Later than any test.
FAR = 2**32


class Credential:
    """A principal's, in the shape in which the SDK asks for one."""

    def __init__(self, credential: str) -> None:
        self.credential = credential

    def get_token(self, *_scopes: str, **_: Any) -> AccessToken:
        return AccessToken(self.credential, FAR)


class Rig:
    """A started system, and what its principals see."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.rows = system.folder / "rows.json"
        self.rows.write_text(ROWS)
        self.owner = self.client(system.owner_credential().read_text().strip())
        self.reader = self.client(system.cli("principal", "create", "rita", "--role", "reader")["credential"])
        self.nobody = self.client("a-credential-that-is-nobodys")

    def client(self, credential: str) -> MLClient:
        # It is looked at when a client is made.
        with mock.patch.dict(os.environ, AZUREML_DEV_URL_MFE=self.system.url):
            return MLClient(
                Credential(credential), SUBSCRIPTION, GROUP, NAME, cloud="AzureCloud", enable_telemetry=False
            )


class SdkTest(SystemTest):
    rig: ClassVar[Rig]
    # The SDK reads the workspace over https only, which it does before it makes an endpoint.
    tls = True

    @property
    def endpoints(self) -> Any:
        return self.rig.owner.online_endpoints

    def create(self, name: str, **members: Any) -> OnlineEndpoint:
        endpoint = KubernetesOnlineEndpoint(name=name, compute="aks", **members)
        return self.endpoints.begin_create_or_update(endpoint).result()

    def cli(self, *arguments: str) -> Any:
        return self.rig.system.cli(*arguments)

    @contextlib.contextmanager
    def refused(self, kind: type[Exception], *texts: str) -> Iterator[None]:
        """What is inside raises this, and what the user then sees has these texts."""
        with self.assertRaises(kind) as raised:
            yield
        for text in texts:
            self.assertIn(text, str(raised.exception))

    def assert_scores(self, name: str, caller: dict[str, str], client: MLClient | None = None) -> None:
        """`invoke` returns the model's numbers, and the model was told exactly this caller."""
        client = client or self.rig.owner
        answer = json.loads(client.online_endpoints.invoke(name, request_file=self.rig.rows))
        self.assertEqual(answer["predictions"], PREDICTIONS)
        self.assertEqual(answer["caller"], {"service": name} | caller)
