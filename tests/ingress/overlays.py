"""The manifests that are shipped, as `kubectl kustomize` makes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "k8s"
MODELS = FOLDER / "example" / "models" / "models.yaml"
SHARED_MESH = FOLDER / "overlays" / "istio-aks-addon" / "shared-configmap.yaml"

# Namespaces that the overlays name and do not make: those of AKS's Istio, and that of Prometheus.
OTHERS_NAMESPACES = ("aks-istio-ingress", "aks-istio-system", "monitoring")


def all_of_them() -> list[str]:
    """Every folder that kustomize can build, by its path below k8s/."""
    files = [file for file in FOLDER.rglob("kustomization.yaml") if "kind: Component" not in file.read_text()]
    return sorted(str(file.parent.relative_to(FOLDER)) for file in files)


def build(name: str) -> str:
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER / name)], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"kubectl kustomize k8s/{name}: {done.stderr.strip()}")
    return done.stdout
