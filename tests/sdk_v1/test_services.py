"""Services found, shown and deleted with the SDK, and what it makes of refusals."""

from __future__ import annotations

import json
import time

from azureml.core.webservice import AciWebservice, AksWebservice, Webservice
from harness import request
from rig import SdkTest, output_of

# A page has 50.
MANY = 120


class Listing(SdkTest):
    def names(self, **filters: object) -> list[str]:
        return sorted(service.name for service in Webservice.list(self.ws, **filters))

    def test_over_pages(self) -> None:
        names = [f"list-{index:03}" for index in range(MANY)]
        for name in names:
            self.create(name, kvTags={"many": "yes"})
        self.assertEqual(self.names(tags=["many"]), names)
        self.assertLessEqual(set(names), {service.name for service in Webservice.list(self.ws)})

    def test_filters(self) -> None:
        self.create("list-a", kvTags={"color": "blue", "kept": "x"}, properties={"origin": "a"})
        self.create("list-b", kvTags={"color": "red"}, environmentImageRequest={"modelIds": ["seen:2"]})
        self.create("list-c", kvTags={"color": "blue"}, computeType="ACI")
        cases = [
            ({"tags": ["color"]}, ["list-a", "list-b", "list-c"]),
            ({"tags": [["color", "blue"]]}, ["list-a", "list-c"]),
            ({"tags": [["color", "blue"], "kept"]}, ["list-a"]),
            ({"tags": ["color"], "compute_type": "aci"}, ["list-c"]),
            ({"tags": ["color"], "compute_type": "AKS"}, ["list-a", "list-b"]),
            ({"properties": [["origin", "a"]]}, ["list-a"]),
            ({"properties": [["origin", "b"]]}, []),
            ({"model_name": "seen"}, ["list-b"]),
            ({"model_id": "seen:2"}, ["list-b"]),
            ({"model_id": "seen:1"}, []),
            ({"image_name": "any"}, []),
            ({"image_digest": "any"}, []),
            ({"compute_type": "MIR"}, []),
        ]
        for filters, expected in cases:
            self.assertEqual(self.names(**filters), expected, filters)

    def test_gives_the_right_class(self) -> None:
        self.create("list-aks", kvTags={"class": "x"})
        self.create("list-aci", kvTags={"class": "x"}, computeType="ACI")
        classes = {service.name: type(service) for service in Webservice.list(self.ws, tags=["class"])}
        self.assertEqual(classes, {"list-aks": AksWebservice, "list-aci": AciWebservice})
        self.assertIsInstance(AksWebservice(self.ws, "list-aci"), AciWebservice)

    def create(self, name: str, **members: object) -> None:
        """Without the SDK, which takes five requests for it."""
        url = f"{self.rig.system.url}/modelmanagement/v1.0{self.rig.about['scope']}/services"
        credential = self.rig.system.owner_credential().read_text().strip()
        headers = [("authorization", f"Bearer {credential}"), ("content-type", "application/json")]
        body = json.dumps({"name": name, "computeType": "AKS"} | members)
        self.assertEqual(request("POST", url, headers, body).status, 202)


class Services(SdkTest):
    def test_shown(self) -> None:
        service = self.deploy("shown", AksWebservice.deploy_configuration(description="d"))
        shown = service.serialize()
        self.assertEqual((shown["name"], shown["computeType"], shown["state"]), ("shown", "AKS", "Healthy"))
        self.assertEqual((shown["authEnabled"], shown["aadAuthEnabled"]), (True, False))
        self.assertNotIn(service.get_keys()[0], str(shown) + repr(service))
        self.assertIn("model server", service.get_logs())
        self.assertIn("aci", self.deploy_aci("shown-aci").serialize()["computeType"].lower())

    def test_deleted(self) -> None:
        service = self.deploy("deleted")
        service.delete()
        with self.refused("WebserviceNotFound"):
            Webservice(self.ws, "deleted")
        self.assertIn("No service with name deleted found to delete", output_of(service.delete))

    def test_deleted_and_made_again_has_other_keys(self) -> None:
        keys = self.deploy("again").get_keys()
        Webservice(self.ws, "again").delete()
        self.assertFalse(set(keys) & set(self.deploy("again").get_keys()))


class Refusals(SdkTest):
    def test_are_right_and_quick(self) -> None:
        service = self.deploy("refusals")
        gone = self.deploy("refusals-gone")
        gone.delete()
        stranger = self.as_nobody("refusals")
        cases = {
            "an unknown service": (lambda: Webservice(self.ws, "nobody-knows"), ["WebserviceNotFound"]),
            "keys of one that is gone": (gone.get_keys, ["404", "no service is named `refusals-gone`"]),
            "a token of one that is gone": (gone.get_access_token, ["accessToken", "404"]),
            "logs of one that is gone": (gone.get_logs, ["404"]),
            "an update of one that is gone": (lambda: gone.update(description="x"), ["refusals-gone"]),
            "a key of one that is gone": (lambda: gone.regen_key("Primary"), ["404"]),
            "a token of one with keys": (service.get_access_token, ["409"]),
            "a list for nobody": (lambda: Webservice.list(self.rig.nobody), ["401"]),
            "keys for nobody": (stranger.get_keys, ["401"]),
            "a token for nobody": (stranger.get_access_token, ["accessToken", "401"]),
            "a deletion by nobody": (stranger.delete, ["401"]),
        }
        for case, (call, texts) in cases.items():
            with self.subTest(case):
                started = time.monotonic()
                with self.refused(*texts):
                    call()
                self.assertLess(time.monotonic() - started, 2)

    def as_nobody(self, name: str) -> Webservice:
        """A service as an object whose credential is not accepted any more."""
        payload = Webservice._get(self.ws, name)
        return AksWebservice.deserialize(self.rig.nobody, payload)
