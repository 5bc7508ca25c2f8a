"""The SDK's public ways to a workspace, through an emulated Resource Manager over TLS, as a managed identity.

All of it is in the environment, and has to be there before the SDK is: each test is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from certificates import make_certificate
from rig import SdkTest

# What all programs begin with. A refusal is told with the seconds that it took.
PRELUDE = """
import json
import time

from azureml.core import Workspace
from azureml.core.authentication import MsiAuthentication
from azureml.core.compute import AksCompute
from azureml.core.model import Model
from azureml.core.webservice import AksWebservice, Webservice

with open("config.json") as file:
    CONFIG = json.load(file)
SUBSCRIPTION, GROUP, NAME = CONFIG["subscription_id"], CONFIG["resource_group"], CONFIG["workspace_name"]


def told(call):
    began = time.monotonic()
    try:
        return ["it was not refused", repr(call())]
    except Exception as error:
        return [str(error), time.monotonic() - began]


def say(value):
    print(json.dumps(value))


def deploy(ws, name, **arguments):
    config = AksWebservice.deploy_configuration()
    service = Model.deploy(ws, name, [Model(ws, "linear")], deployment_config=config, **arguments)
    service.wait_for_deployment()
    return service
"""


class ResourceManager(SdkTest):
    tls = True
    scored = ("arm-scored",)

    def program(self, text: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
        """Runs a program in the environment that README.md shows; `None` takes a variable out of it."""
        url = self.rig.system.url
        folder = Path(tempfile.mkdtemp(prefix="program-", dir=self.rig.system.folder))
        _, _, subscription, _, group, *_, name = self.rig.about["scope"].split("/")
        config = {"subscription_id": subscription, "resource_group": group, "workspace_name": name}
        (folder / "config.json").write_text(json.dumps(config))
        settings = {
            "ARM_CLOUD_METADATA_URL": f"{url}/metadata/endpoints",
            "AZUREML_CURRENT_CLOUD": "Scoregate",
            "MSI_ENDPOINT": f"{url}/msi/token",
            "MSI_SECRET": self.rig.credential,
            "APPSETTING_WEBSITE_SITE_NAME": "anything",
            "HOME": str(folder),
        }
        env = {name: value for name, value in (os.environ | settings | variables).items() if value is not None}
        command = [sys.executable, "-W", "ignore", "-c", PRELUDE + text]
        return subprocess.run(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )

    def said(self, text: str, **variables: str | None) -> list[Any]:
        """What it says, a JSON document a line; the SDK's own lines are none."""
        done = self.program(text, **variables)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("[", "{", '"'))]

    def assert_told(self, refusal: list[Any], *texts: str) -> None:
        message, seconds = refusal
        for text in texts:
            self.assertIn(text, message)
        self.assertLess(seconds, 5)

    def test_from_config_without_any_other_argument(self) -> None:
        (names, keys, answer) = self.said("""
ws = Workspace.from_config()
service = deploy(ws, "arm-scored")
say([service.name for service in Webservice.list(ws)])
say(service.get_keys())
say(service.run('{"data": [[2, 4, 1]]}'))
""")
        self.assertIn("arm-scored", names)
        self.assertEqual(self.statuses("arm-scored", *keys, "wrong"), [200, 200, 401])
        self.assertEqual(answer["caller"], {"service": "arm-scored", "auth-mode": "key", "key-slot": "primary"})

    def test_get_as_a_managed_identity(self) -> None:
        (details, cluster, listed) = self.said("""
auth = MsiAuthentication()
ws = Workspace.get(NAME, auth=auth, subscription_id=SUBSCRIPTION, resource_group=GROUP)
say(ws.get_details())
service = deploy(ws, "arm-cluster", deployment_target=AksCompute(ws, "my-cluster"))
say([Webservice(ws, "arm-cluster").compute_name])
say([list(Workspace.list(SUBSCRIPTION, auth=auth, **where)) for where in ({}, {"resource_group": GROUP})])
""")
        self.assertEqual(details["workspaceid"], self.rig.about["id"])
        self.assertEqual((cluster, listed), (["my-cluster"], [[details["name"]]] * 2))

    def test_a_session_has_the_role_of_its_principal(self) -> None:
        self.deploy("arm-read")
        reader = self.rig.system.cli("principal", "create", "arm-reader", "--role", "reader")
        (names, refused) = self.said(
            """
ws = Workspace.from_config()
say([service.name for service in Webservice.list(ws)])
say(told(Webservice(ws, "arm-read").get_keys))
""",
            MSI_SECRET=reader["credential"],
        )
        self.assertIn("arm-read", names)
        self.assert_told(refused, "403", "this needs the role `contributor`; `arm-reader` is `reader`")

    def test_a_workspace_that_is_not_there_is_said_to_be_so(self) -> None:
        (name, group, subscription) = self.said("""
nobodys = "11111111-1111-1111-1111-111111111111"
say(told(lambda: Workspace.get("other", subscription_id=SUBSCRIPTION, resource_group=GROUP)))
say(told(lambda: Workspace.get(NAME, subscription_id=SUBSCRIPTION, resource_group="other")))
say(told(lambda: Workspace.get(NAME, subscription_id=nobodys, resource_group=GROUP)))
""")
        self.assert_told(name, "Workspace not found")
        self.assert_told(group, "Workspace not found")
        self.assert_told(subscription, "You don't have access to 11111111-1111-1111-1111-111111111111 subscription")

    def test_a_wrong_secret_is_told(self) -> None:
        text = "say(told(lambda: Workspace.from_config(auth=MsiAuthentication())))"
        (refused,) = self.said(text, MSI_SECRET="wrong")
        self.assert_told(refused, "401", "the secret is not the credential of a principal", "check MSI_SECRET")

    def test_a_wrong_secret_is_told_without_an_auth_argument(self) -> None:
        # The SDK goes on to an interactive login then, which finds nothing.
        done = self.program("say(told(Workspace.from_config))", MSI_SECRET="wrong")
        self.assertIn("the secret is not the credential of a principal of the workspace: check MSI_SECRET", done.stderr)
        self.assert_told(json.loads(done.stdout.splitlines()[-1]), "Unable to get authority configuration")

    def test_without_a_secret_the_sdk_shows_what_to_set(self) -> None:
        done = self.program(
            "say(told(lambda: Workspace.from_config(auth=MsiAuthentication())))",
            MSI_SECRET=None,
            APPSETTING_WEBSITE_SITE_NAME=None,
        )
        self.assertIn("400 Client Error: set MSI_SECRET, and APPSETTING_WEBSITE_SITE_NAME", done.stderr)
        self.assert_told(json.loads(done.stdout.splitlines()[-1]), "Failed to connect to MSI")

    def test_a_certificate_of_an_unknown_ca_is_refused(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="other-ca-", dir=self.rig.system.folder))
        other = str(make_certificate(folder).ca)
        done = self.program("say(told(Workspace.from_config))", SSL_CERT_FILE=other, REQUESTS_CA_BUNDLE=other)
        self.assertIn("Failed to load cloud metadata from the url specified by ARM_CLOUD_METADATA_URL", done.stderr)
        self.assert_told(json.loads(done.stdout), "CERTIFICATE_VERIFY_FAILED")
