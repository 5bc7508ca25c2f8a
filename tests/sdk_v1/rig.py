"""What the tests of SDK v1 share: workspaces as its users have them, against one started system.

A workspace object is made without Resource Manager, from a service context.
"""

from __future__ import annotations

import contextlib
import io
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from azureml._restclient.service_context import ServiceContext
from azureml.core import Workspace
from azureml.core.authentication import ArmTokenAuthentication
from azureml.core.model import Model
from azureml.core.webservice import AciWebservice, AksWebservice, Webservice
from azureml.exceptions import WebserviceException
from harness import request, wait_until
from sdk import SystemTest
from system import PREDICTIONS, ROWS, System


PRINTING = threading.Lock()


class Rig:
    """A started system, and what its principals see."""

    def __init__(self, system: System) -> None:
        self.system = system
        # The owner's.
        self.credential = system.owner_credential().read_text().strip()
        headers = [("authorization", f"Bearer {self.credential}")]
        self.about = request("GET", f"{system.url}/scoregate/v1/workspace", headers).json()
        self.owner = self.workspace(self.credential)
        reader = system.cli("principal", "create", "rita", "--role", "reader")
        self.reader = self.workspace(reader["credential"])
        self.nobody = self.workspace("a-credential-that-is-nobodys")

    def workspace(self, credential: str) -> Workspace:
        _, _, subscription, _, group, *_, name = self.about["scope"].split("/")
        context = ServiceContext(
            subscription_id=subscription,
            resource_group_name=group,
            workspace_name=name,
            workspace_id=self.about["id"],
            workspace_discovery_url=f"{self.system.url}/discovery/workspaces/{self.about['id']}",
            authentication=ArmTokenAuthentication(credential, cloud="AzureCloud"),
        )
        return Workspace._from_service_context(context, _location="local")


class SdkTest(SystemTest):
    rig: ClassVar[Rig]

    @property
    def ws(self) -> Workspace:
        return self.rig.owner

    def deploy(self, name: str, configuration: Any = None, **arguments: Any) -> Webservice:
        """A service of AKS unless the configuration says otherwise, as users deploy one."""
        configuration = configuration or AksWebservice.deploy_configuration()
        model = Model(self.ws, id="linear:1")
        service = Model.deploy(self.ws, name, [model], deployment_config=configuration, **arguments)
        service.wait_for_deployment()
        return service

    def deploy_with_tokens(self, name: str) -> Webservice:
        return self.deploy(name, AksWebservice.deploy_configuration(token_auth_enabled=True))

    def deploy_aci(self, name: str, **settings: Any) -> Webservice:
        return self.deploy(name, AciWebservice.deploy_configuration(cpu_cores=1, memory_gb=1, **settings))

    @contextlib.contextmanager
    def refused(self, *texts: str) -> Iterator[None]:
        """What is inside raises, and what the user then sees has these texts."""
        with self.assertRaises(WebserviceException) as raised:
            yield
        for text in texts:
            self.assertIn(text, raised.exception.message)

    def reasons(self, service: str) -> list[str]:
        """Why each of the calls of a service so far was decided as it was, by Envoy's access log."""
        system = self.rig.system
        marker = f"/marker/{uuid.uuid4()}"
        request("GET", system.entrance + marker)
        # A single worker writes them in order.
        lines = wait_until("the access log", lambda: until(marker, system.front.access_log()), 10)
        return [line["reason"] for line in lines if line["path"] == f"/api/v1/service/{service}/score"]

    def assert_scores(self, service: Webservice, caller: dict[str, str]) -> None:
        """`run` returns the model's numbers, and the model was told exactly this caller."""
        answer = service.run(ROWS)
        self.assertEqual(answer["predictions"], PREDICTIONS)
        self.assertEqual(answer["caller"], {"service": service.name} | caller)


def until(marker: str, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines, once that of this path is among them."""
    return lines if any(line["path"] == marker for line in lines) else []


def then(service: Webservice, method: str, action: Callable[[], None]) -> list[Any]:
    """Does something once, between the first fetch of a credential and its use; returns all that is fetched."""
    fetch, fetched = getattr(service, method), []

    def fetch_and_act() -> Any:
        fetched.append(fetch())
        if len(fetched) == 1:
            action()
        return fetched[-1]

    setattr(service, method, fetch_and_act)
    return fetched


def output_of(call: Any) -> str:
    """What a call prints. Other themes may print at the same time, so it is only good for finding something in it."""
    with PRINTING, contextlib.redirect_stdout(io.StringIO()) as output:
        call()
    return output.getvalue()
