"""Images of the test cluster: those of its own programs, of the services beside it, and the project's.

python -m tests.cluster.images build          make what changed, by buildah
python -m tests.cluster.images push           bring it to the node's registry, which runs
python -m tests.cluster.images reference NAME  print NAME@sha256:… as the registry has it
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.cluster.modules import downloaded, module
from tests.cluster.places import BIN, CACHE, FOLDER, REGISTRY
from tests.conftest import PROJECT
from tests.support.images import BASE, buildah, containerfile, make_base
from tests.support.images import build as build_image

HERE = FOLDER / "images"
NOTES = CACHE / "pushed"  # of each image in the registry: what it was made of, and its digest
INPUTS = "flywheel.inputs"  # a label: the digest of what an image was made of
# CUDA's large libraries, which nothing calls on a CPU: the runner's test image has empty ones with the same symbols.
CUDA = {
    "nvidia-cublas": ("nvidia/cu13/lib/libcublas.so.13", "nvidia/cu13/lib/libcublasLt.so.13"),
    "nvidia-cudnn-cu13": ("nvidia/cudnn/lib/libcudnn.so.9",),
    "nvidia-cufft": ("nvidia/cu13/lib/libcufft.so.12",),
    "nvidia-cusolver": ("nvidia/cu13/lib/libcusolver.so.12",),
    "nvidia-cusparse": ("nvidia/cu13/lib/libcusparse.so.12",),
    "nvidia-cusparselt-cu13": ("nvidia/cusparselt/lib/libcusparseLt.so.0",),
    "nvidia-nccl-cu13": ("nvidia/nccl/lib/libnccl.so.2",),
    "nvidia-nvshmem-cu13": ("nvidia/nvshmem/lib/libnvshmem_host.so.3",),
    "nvidia-cuda-nvrtc": ("nvidia/cu13/lib/libnvrtc.so.13",),
    "nvidia-nvjitlink": (),
    "triton": (),
}


class Image(NamedTuple):
    """An image: its name in the registry, what it is made of, and how."""

    name: str
    inputs: Sequence[Path | str]
    make: Callable[[str], None]


def images() -> Iterator[Image]:
    """Return all of them, those that others are made from first."""
    yield _program("pause", CACHE / "built/pause", "/pause", ["/pause"], user="65535:65535")
    yield _busybox()
    yield _program("coredns", BIN / "addons", "/coredns", ["/coredns"])
    provisioner = "/usr/bin/local-path-provisioner"
    yield _program("local-path-provisioner", BIN / "local-path-provisioner", provisioner, [], user="")
    for part in ("pipeline", "triggers"):
        for file in sorted((BIN / f"tekton-{part}").iterdir()):
            inside = f"/ko-app/{file.name}"
            yield _program(f"tekton-{part}-{file.name}", file, inside, [inside], user="65532")
    for name in ("controller", "webhook", "cainjector"):
        entry = ["/cert-manager", name]
        yield _program(f"cert-manager-{name}", BIN / "cert-manager", "/cert-manager", entry, user="1000")
    yield _program("traefik", BIN / "traefik", "/traefik", ["/traefik"], user="65532")
    yield _argo_cd()
    yield _service("redis", {})
    scripts = {name: HERE / "postgresql" / name for name in ("run-postgresql", "check-container")}
    yield _service("postgresql", scripts, with_roots=False)  # ssl-cert writes one
    pins = "constraints-label-studio.txt"
    yield _service("label-studio", {pins: PROJECT / pins})
    yield from project_images()


def project_images() -> Iterator[Image]:
    """Return the project's own, of their Containerfiles."""
    wanted = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    files = [PROJECT / name for name in ("constraints.txt", "constraints-train.txt")]
    packages = [PROJECT / name for name in ("constraints-hashes.txt", "constraints-uv.txt", ".ci/install_packages.py")]
    constraints = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    pins: list[Path | str] = [json.dumps([wanted["project"], wanted["tool"]["uv"]]), *files, *packages]
    serving = containerfile("serving")

    def make_serving(tag: str) -> None:
        build_image(serving, PROJECT, tag, BASE=BASE, EXTRAS="serve")

    yield Image(
        "flywheel/flywheel-serving", [*pins, serving, *sorted((PROJECT / "serving").rglob("*.py"))], make_serving
    )

    def make_runner(tag: str) -> None:
        base = _without_cuda()
        build_image(containerfile("runner"), PROJECT, tag, BASE=base, CONSTRAINTS=constraints)

    yield Image("flywheel/flywheel-runner", [*pins, containerfile("runner"), CACHE / "web/ca.crt", *CUDA], make_runner)
    program = CACHE.parent / "bin/minio"

    def make_minio(tag: str) -> None:
        # its Containerfile compiles MinIO in an image with Go; here that image has what `make minio` compiled
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            go = Path(folder, "go")
            go.write_text('#!/bin/sh\n[ "$1" = env ] && echo / || { mkdir -p /out && cp /minio /out/minio; }\n')
            go.chmod(0o755)
            shutil.copy(program, Path(folder, "minio"))
            version = _minio_version()
            files = {"go": "/usr/local/bin/go", "minio": "/minio"}
            container = buildah("from", "--pull-never", BASE)
            for name, inside in files.items():
                buildah("add", "--quiet", container, str(Path(folder, name)), inside)
            license_file = downloaded(f"github.com/minio/minio@{version}") / "LICENSE"
            buildah("add", "--quiet", container, str(license_file), f"/github.com/minio/minio@{version}/LICENSE")
            buildah("commit", "--quiet", "--rm", container, "localhost/flywheel-test-go")
            build_image(containerfile("gitops/minio"), PROJECT / "gitops/minio", tag, GO="localhost/flywheel-test-go")

    yield Image("flywheel/flywheel-minio", [program, containerfile("gitops/minio")], make_minio)


def build() -> None:
    """Make what neither the registry has nor buildah, or what was made of something else."""
    make_base()
    pause = CACHE / "built/pause"
    command = ["gcc", "-Os", "-static", "-s", "-o", str(pause), str(HERE / "pause.c")]
    subprocess.run(command, check=True)
    for image in images():
        inputs = _digest(image.inputs)
        if inputs not in (_pushed(image.name)[0], _inputs_of(image.name)):
            print(f"image {image.name}", flush=True)
            image.make(f"{image.name}:1")
            container = buildah("from", "--pull-never", f"localhost/{image.name}:1")
            buildah("config", "--label", f"{INPUTS}={inputs}", container)
            buildah("commit", "--quiet", "--rm", container, f"localhost/{image.name}:1")


def push() -> None:
    """Bring what was made to the registry, and keep it there alone; what the node has of an older one is forgotten."""
    for image in images():
        name, inputs = f"localhost/{image.name}:1", _inputs_of(image.name)
        if not inputs:
            continue
        with tempfile.NamedTemporaryFile("r") as file:
            quick = ("--compression-format=zstd", "--compression-level=1")
            options = ("--tls-verify=false", f"--digestfile={file.name}", *quick)
            buildah("push", *options, name, f"docker://{REGISTRY}/{image.name}:1")
            digest = file.read().strip()
        for each in (name, f"{REGISTRY}/{image.name}:1"):
            subprocess.run(["ctr", "images", "rm", each], capture_output=True, check=False)
        note = NOTES / image.name
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{inputs} {digest}\n")
        buildah("rmi", "--force", name)
        print(f"pushed {image.name}@{digest}", flush=True)


def reference(name: str) -> str:
    """Return an image of the registry by its digest, without the registry's host."""
    return f"{name}@{_pushed(name)[1]}"


def _pushed(name: str) -> list[str]:
    """Return what an image of the registry was made of, and its digest; empty texts where it has none."""
    note = NOTES / name
    return note.read_text().split() if note.is_file() else ["", ""]


def _program(name: str, file: Path, inside: str, entry: list[str], user: str = "") -> Image:
    """An image of one program and nothing else."""

    def make(tag: str) -> None:
        container = buildah("from", "scratch")
        buildah("add", "--quiet", "--chmod=0755", container, str(file), inside)
        options = ["--entrypoint", json.dumps(entry)] if entry else []
        buildah("config", "--env", "PATH=/usr/bin:/bin", *options, *(["--user", user] if user else []), container)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            Path(folder, "tmp").mkdir()
            Path(folder, "tmp").chmod(0o1777)
            buildah("add", "--quiet", container, folder, "/")
        buildah("commit", "--quiet", "--rm", container, f"localhost/{tag}")

    return Image(f"cluster/{name}", [file, inside, *entry, user], make)


def _busybox() -> Image:
    """A shell: what Tekton puts scripts in place with, and what tests ask questions from."""
    file = Path("/bin/busybox")

    def make(tag: str) -> None:
        container = buildah("from", "scratch")
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            (Path(folder) / "bin").mkdir()
            shutil.copy(file, Path(folder, "bin/busybox"))
            listed = subprocess.run([file, "--list"], capture_output=True, text=True, check=True).stdout.split()
            for name in listed:
                if name != "busybox":
                    Path(folder, "bin", name).symlink_to("busybox")
            Path(folder, "tmp").mkdir()
            Path(folder, "tmp").chmod(0o1777)
            buildah("add", "--quiet", container, folder, "/")
        command = ["--cmd", "sh", "--user", "65532", "--env", "PATH=/bin"]
        buildah("config", *command, container)
        buildah("commit", "--quiet", "--rm", container, f"localhost/{tag}")

    return Image("cluster/busybox", [file], make)


def _argo_cd() -> Image:
    source = module("argocd", "github.com/argoproj/argo-cd/v3")
    stub = "#!/bin/sh\necho 'helm is not part of this image' >&2\nexit 1\n"
    files = {name: BIN / name for name in ("argocd", "kustomize")}
    scripts = {"gpg-wrapper.sh": "hack/gpg-wrapper.sh", "git-verify-wrapper.sh": "hack/git-verify-wrapper.sh"}
    files |= {name: source / path for name, path in {**scripts, "entrypoint.sh": "entrypoint.sh"}.items()}
    return _service("argocd", files, helm=stub)


def _service(name: str, files: dict[str, Path], *, with_roots: bool = True, **written: str) -> Image:
    """An image of a Containerfile of images/ and the files that it copies."""
    recipe = HERE / f"{name}.Containerfile"

    def make(tag: str) -> None:
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            for target, source in files.items():
                shutil.copy(source, Path(folder, target))
            for target, text in written.items():
                Path(folder, target).write_text(text)
            for path in Path(folder).iterdir():
                path.chmod(0o755)
            build_image(recipe, Path(folder), tag, with_roots=with_roots)

    return Image(f"cluster/{name}", [recipe, *files.values(), *written.values()], make)


def _without_cuda() -> str:
    """Make the base of the runner's test image: empty libraries of CUDA's names, and uv told to leave CUDA out."""
    site = next((PROJECT / ".venv/lib").glob("python3*/site-packages"))
    wanted = {name for name, _ in _symbols("--undefined-only", *sorted((site / "torch/lib").glob("*.so")))}
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        for library in (site / path for paths in CUDA.values() for path in paths):
            versions: dict[str, list[str]] = {}
            for symbol, version in _symbols("--defined-only", library):
                if symbol in wanted:
                    versions.setdefault(version, []).append(symbol)
            symbols = sorted({symbol for part in versions.values() for symbol in part})
            (folder / "empty.c").write_text("".join(f"int {symbol}(void) {{ return 1; }}\n" for symbol in symbols))
            nodes = [f"{version} {{ {'; '.join(part)}; }};\n" for version, part in versions.items() if version]
            (folder / "empty.map").write_text("".join(nodes))
            options = ["-w", "-fno-builtin", "-shared", "-fPIC", f"-Wl,-soname,{library.name}"]
            options += [f"-Wl,--version-script={folder}/empty.map"] if nodes else []
            subprocess.run(["gcc", *options, "-o", folder / library.name, folder / "empty.c"], check=True)
        for scrap in ("empty.c", "empty.map"):
            (folder / scrap).unlink()
        overrides = folder / "without-cuda.txt"
        overrides.write_text("".join(f"{package}; python_version < '3'\n" for package in CUDA))
        container = buildah("from", "--pull-never", BASE)
        buildah("add", "--quiet", container, name, "/usr/local/lib/without-cuda")
        conf = folder / "ld.conf"
        conf.write_text("/usr/local/lib/without-cuda\n")
        buildah("add", "--quiet", container, str(conf), "/etc/ld.so.conf.d/without-cuda.conf")
        ours = "/usr/local/share/ca-certificates/web.crt"  # the forge's certificate is of this CA
        buildah("add", "--quiet", container, str(CACHE / "web/ca.crt"), ours)
        command = ["sh", "-c", "ldconfig && update-ca-certificates"]
        buildah("run", "--isolation=chroot", container, "--", *command)
        buildah("config", "--env", "UV_OVERRIDE=/usr/local/lib/without-cuda/without-cuda.txt", container)
        buildah("commit", "--quiet", "--rm", container, "localhost/flywheel-test-without-cuda")
    return "localhost/flywheel-test-without-cuda"


def _symbols(which: str, *libraries: Path) -> Iterator[tuple[str, str]]:
    """Give the dynamic symbols of libraries, each with its version or an empty text."""
    command = ["nm", "--dynamic", "--format=posix", which, *map(str, libraries)]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        words = line.split()
        if len(words) > 1:
            symbol, _, version = words[0].partition("@")
            yield symbol, version.lstrip("@")


def _digest(inputs: Sequence[Path | str]) -> str:
    parts = [each.read_bytes() if isinstance(each, Path) else each.encode() for each in inputs]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _inputs_of(name: str) -> str:
    try:
        inspected = buildah("inspect", "--type", "image", f"localhost/{name}:1")
    except RuntimeError:
        return ""
    labels = json.loads(inspected)["OCIv1"]["config"].get("Labels") or {}
    return str(labels.get(INPUTS, ""))


def _minio_version() -> str:
    lines = containerfile("gitops/minio").read_text().splitlines()
    return next(line.removeprefix("ARG VERSION=") for line in lines if line.startswith("ARG VERSION="))


if __name__ == "__main__":
    os.environ.setdefault("PATH", "/usr/bin:/bin")
    {"build": build, "push": push}.get(sys.argv[1], lambda: print(reference(sys.argv[2])))()
