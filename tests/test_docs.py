"""What documents point at is there: links, anchors, paths of the repository, and folders for `kubectl -k`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import manifests  # noqa: E402
from harness import built_for_tests  # noqa: E402
from manifests import OVERLAYS, of_kind, one  # noqa: E402

# The copy of an overlay that the pages of docs/install/ make, with what they put into it.
MINE = "k8s/overlays/mine"
# Folders whose files are named by their path. A name below them is a path of ours, wherever it stands.
FOLDERS = ("benches", "crates", "demo", "docs", "envoy", "fuzz", "k8s", "load", "migrations", "proto", "src", "tests", "tools")

LINK = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
PATH = re.compile(rf"(?<![\w./$-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w/?")
KUSTOMIZATION = re.compile(r"kubectl [^|;&`\n]*?-k +(\S+?)[`\s]")


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "k8s").rglob("*.md"))]


def problems(document: Path, text: str) -> Iterator[str]:
    """What a document points at, and is not there."""
    name = document.relative_to(ROOT)
    prose = re.sub(r"(?ms)^ *```.*?^ *```", "", text)
    for target in LINK.findall(prose):
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        file = (document.parent / path).resolve() if path else document
        if not file.exists():
            yield f"{name}: no file at the link {target}"
        elif anchor and anchor not in anchors(file, text if file == document else file.read_text()):
            yield f"{name}: no heading at the link {target}"
    # Links have been looked at, and are relative.
    for path in PATH.findall(LINK.sub("", text)):
        if not path.startswith(MINE) and not (ROOT / path).exists():
            yield f"{name}: there is no {path}"
    for folder in KUSTOMIZATION.findall(text):
        if folder != MINE and not (ROOT / folder / "kustomization.yaml").exists():
            yield f"{name}: no kustomization at {folder}"


@cache
def anchors(file: Path, text: str) -> set[str]:
    """Those that GitHub makes of headings."""
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^ *```.*?^ *```", "", text)):
        plain = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        times = sum(each == anchor or re.fullmatch(rf"{anchor}-\d+", each) is not None for each in found)
        found.add(f"{anchor}-{times}" if times else anchor)
    return found


class Documents(unittest.TestCase):
    def test_what_they_point_at_is_there(self) -> None:
        found = [problem for document in documents() for problem in problems(document, document.read_text())]
        self.assertEqual(found, [])

    def test_what_is_not_there_is_noticed(self) -> None:
        document = ROOT / "docs" / "install" / "README.md"
        planted = {
            "[x](nowhere.md)": "no file at the link nowhere.md",
            "[x](../reasons.md#nowhere)": "no heading at the link ../reasons.md#nowhere",
            "[a [b] `c`](#nowhere)": "no heading at the link #nowhere",
            "`envoy/nowhere.yaml`": "there is no envoy/nowhere.yaml",
            "```sh\ncat k8s/nowhere/x.yaml\n```": "there is no k8s/nowhere/x.yaml",
            "`kubectl apply -k k8s/example`": "no kustomization at k8s/example",
            "```sh\nkubectl delete --wait -k k8s/components\n```": "no kustomization at k8s/components",
        }
        for text, problem in planted.items():
            with self.subTest(text):
                self.assertEqual(list(problems(document, text)), [f"docs/install/README.md: {problem}"])
        good = "# A `b`, c\n## A b c\n[x](#a-b-c) [x](#a-b-c-1) [x](../../envoy/sidecar.yaml) https://x.example/docs/y `k8s/`"
        self.assertEqual(list(problems(document, good)), [])

    def test_every_page_of_installing_is_in_the_table(self) -> None:
        folder = ROOT / "docs" / "install"
        listed = set(re.findall(r"(?m)^\| \[(.+?)\]", (folder / "README.md").read_text()))
        self.assertEqual(listed, {file.name for file in folder.glob("*.md")} - {"README.md"})


class Installing(unittest.TestCase):
    """The commands of docs/install/ that change files, as they are written."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="scoregate-docs-")))
        for name in ("k8s", "envoy"):
            shutil.copytree(ROOT / name, self.folder / name)

    def run_script(self, script: str, **variables: str) -> str:
        command = ["sh", "-euc", script]
        done = subprocess.run(command, cwd=self.folder, env=os.environ | variables, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def copy_overlay(self, name: str) -> list[manifests.Object]:
        self.run_script(block("README.md", "cp -R k8s/overlays/$OVERLAY"), OVERLAY=name, REGISTRY="registry.example")
        return self.rendered()

    def rendered(self) -> list[manifests.Object]:
        return manifests.rendered(self.folder / MINE)

    def test_a_copy_of_each_overlay_is_the_overlay_with_other_images(self) -> None:
        for name in OVERLAYS:
            with self.subTest(name):
                copied = self.copy_overlay(name)
                images = [each["image"] for _, _, pod in manifests.pods(copied) for each in pod["containers"]]
                ours = sorted(image for image in images if "scoregate" in image)
                self.assertEqual(ours, ["registry.example/scoregate-gate:0.1.0", "registry.example/scoregate:0.1.0"])
                names = lambda objects: [(each["kind"], each["metadata"]["name"]) for each in objects]  # noqa: E731
                self.assertEqual(names(copied), names(manifests.rendered(f"overlays/{name}")))
                shutil.rmtree(self.folder / MINE)

    def test_envoys_file_of_ones_own_takes_the_place_of_the_examples(self) -> None:
        self.copy_overlay("aks-ingress")
        self.run_script(block("aks-ingress.md", f"cp -R envoy {MINE}"))
        (self.folder / MINE / "envoy" / "aks-ingress.yaml").write_text("of: mine\n")
        [file] = [each for each in of_kind(self.rendered(), "ConfigMap") if "envoy.yaml" in each["data"]]
        self.assertEqual(file["data"]["envoy.yaml"], "of: mine\n")

    def test_a_workspace_has_the_names_of_azures(self) -> None:
        text = (ROOT / "docs" / "migrate-from-azureml-v1.md").read_text()
        [patch] = re.findall(r"(?ms)^```yaml\n(.*?)^```", text)
        for name in OVERLAYS:
            self.copy_overlay(name)
            folder = self.folder / MINE
            (folder / "names.yaml").write_text(patch)
            file = (folder / "kustomization.yaml").read_text()
            beginning = "" if "\npatches:\n" in file else "\npatches:\n"
            (folder / "kustomization.yaml").write_text(
                (file + beginning).replace("\npatches:\n", "\npatches:\n- path: names.yaml\n")
            )
            workspace = one(self.rendered(), "StatefulSet", "workspace")["spec"]["template"]["spec"]
            variables = {each["name"]: each["value"] for each in manifests.container(workspace, "workspace")["env"]}
            self.assertIn("SCOREGATE_WORKSPACE", variables, "what was there stays")
            ours = {name: value for name, value in variables.items() if name.startswith("SCOREGATE__")}
            done = subprocess.run([built_for_tests(), "config", "check"], env=ours, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            for value in ours.values():
                self.assertIn(value, done.stdout)
            shutil.rmtree(folder)

    def test_the_shared_configmap_gets_the_revision(self) -> None:
        commands = re.findall(r"(?m)^ *(sed .*?) \|", (ROOT / "docs" / "install" / "istio-aks-addon.md").read_text())
        self.assertEqual(len(commands), 2, "now, and before an upgrade")
        for command in commands:
            [shared] = manifests.read(self.run_script(command, REVISION="asm-9-99", NEXT="asm-9-99"))
            self.assertEqual(shared["metadata"]["name"], "istio-shared-configmap-asm-9-99", command)

    def test_models_of_the_example_are_where_routes_lead(self) -> None:
        objects = manifests.read((ROOT / "k8s/example/models/models.yaml").read_text())
        [(_, _, pod)] = manifests.pods(objects)
        # Of accounts it needs none, and has no token of the default one.
        self.assertIs(pod["automountServiceAccountToken"], False)
        self.assertEqual([problem for name, problem in manifests.soft_spots(pod) if name != "pod"], [])
        for route in of_kind(manifests.rendered("overlays/envoy-gateway"), "HTTPRoute"):
            for to in route["spec"]["rules"][0]["backendRefs"]:
                service = one(objects, "Service", to["name"])
                self.assertEqual(service["metadata"]["namespace"], to["namespace"])
                self.assertIn(to["port"], [port["port"] for port in service["spec"]["ports"]])


def block(page: str, beginning: str) -> str:
    """The commands of a page's block that begins with this."""
    found = re.findall(r"(?ms)^ *```sh\n(.*?)^ *```", (ROOT / "docs" / "install" / page).read_text())
    return next(each for each in found if each.lstrip().startswith(beginning))


if __name__ == "__main__":
    unittest.main()
