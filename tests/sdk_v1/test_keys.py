"""Keys: shown, regenerated one by one, chosen. Each regeneration takes the SDK 5 s, of its own accord."""

from __future__ import annotations

from azureml.core.webservice import Webservice
from rig import SdkTest


class Regenerating(SdkTest):
    scored = ("keys-primary",)

    def test_the_primary_key(self) -> None:
        service = self.deploy("keys-primary")
        old_primary, secondary = service.get_keys()
        service.regen_key("Primary")
        # At once: it returns when the gate enforces it.
        self.assertEqual(self.statuses("keys-primary", old_primary, secondary), [401, 200])
        primary, same = service.get_keys()
        self.assertEqual(same, secondary)
        self.assertNotEqual(primary, old_primary)
        self.assertEqual(self.statuses("keys-primary", primary), [200])


class RegeneratingToAChosenKey(SdkTest):
    scored = ("keys-chosen",)

    def test_the_secondary_key(self) -> None:
        service = self.deploy("keys-chosen")
        primary, old_secondary = service.get_keys()
        service.regen_key("Secondary", set_key="a-key-that-its-owner-chose")
        self.assertEqual(service.get_keys(), (primary, "a-key-that-its-owner-chose"))
        statuses = self.statuses("keys-chosen", old_secondary, primary, "a-key-that-its-owner-chose")
        self.assertEqual(statuses, [401, 200, 200])


class Keys(SdkTest):
    def test_refused_regenerations(self) -> None:
        service = self.deploy("keys-refused")
        keys = service.get_keys()
        with self.refused("400", "cannot be used"):
            service.regen_key("Primary", set_key="short")
        with self.refused("400", "the same"):
            service.regen_key("Primary", set_key=keys[1])
        with self.refused("403", "contributor"):
            Webservice(self.rig.reader, "keys-refused").regen_key("Primary")
        self.assertEqual(service.get_keys(), keys)

    def test_a_reader_does_not_see_them(self) -> None:
        self.deploy("keys-hidden")
        with self.refused("403", "contributor"):
            Webservice(self.rig.reader, "keys-hidden").get_keys()

    def test_they_are_kept_in_every_mode(self) -> None:
        service = self.deploy("keys-kept")
        keys = service.get_keys()
        service.update(auth_enabled=False, token_auth_enabled=True)
        self.assertEqual(service.get_keys(), keys)
        service.update(token_auth_enabled=False)
        self.assertEqual(service.get_keys(), keys)

    def test_aci_has_them(self) -> None:
        primary, secondary = self.deploy_aci("keys-aci", auth_enabled=True).get_keys()
        self.assertNotEqual(primary, secondary)
