"""Doctor of the set-up: one line for each thing that the pipeline needs, with the remedy."""

import importlib.metadata
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from runner.errors import RunnerError
from runner.pipeline.packages import pinned
from runner.workspace import LOCK, work_folder
from serving.storage.endpoint import proxy_of

if TYPE_CHECKING:
    from runner.store.folder import FolderStore
    from runner.store.s3 import S3Store

FREE_GB = 5
ASKED = ("dvc", "dvc-s3", "hydra-core", "torch", "torchvision", "onnx", "onnxruntime", "pillow", "numpy")


class Diagnosis(NamedTuple):
    """Result of one check; `remedy` is empty when it is fine."""

    what: str
    remedy: str = ""


Check = Callable[[Path], Iterator[Diagnosis]]


def examine(project: Path, *more: Check) -> tuple[str, bool]:
    """Return a line for each finding, of `more` checks too, and whether all are fine."""
    findings = [finding for check in (*CHECKS, *more) for finding in check(project)]
    lines = [f"FAIL  {f.what}\n      {f.remedy}" if f.remedy else f"ok    {f.what}" for f in findings]
    return "\n".join(lines), not any(finding.remedy for finding in findings)


def _python(project: Path) -> Iterator[Diagnosis]:
    version = ".".join(map(str, sys.version_info[:3]))
    supported = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Diagnosis(f"Python {version}", "" if supported else "use Python 3.11 to 3.13: make setup PYTHON=python3.12")
    found = shutil.which("python")
    same = found is not None and Path(found).parent.resolve() == Path(sys.executable).parent.resolve()
    yield Diagnosis(
        f"`python` on PATH is {found}",
        "" if same else f"DVC runs `python -m runner`, which must be {sys.executable}: run `. .venv/bin/activate`",
    )


def _packages(project: Path) -> Iterator[Diagnosis]:
    versions = pinned(project)
    yield from (_package(name, versions, "run `make setup`") for name in ASKED)
    command = [sys.executable, "-c", "import torch, torchvision; torchvision.ops.nms"]
    pair = subprocess.run(command, capture_output=True, text=True, check=False)
    last = (pair.stderr.strip().splitlines() or ["no message"])[-1]
    yield Diagnosis(
        "torch and torchvision import together" if pair.returncode == 0 else f"torch and torchvision: {last}",
        "" if pair.returncode == 0 else "they must be a pair: run `make setup`, which installs the tested one",
    )


def _package(name: str, versions: dict[str, list[str]], remedy: str) -> Diagnosis:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Diagnosis(f"{name} is not installed", remedy)
    wanted = versions.get(name, [version])
    if version.split("+")[0] in wanted:
        return Diagnosis(f"{name} {version}")
    return Diagnosis(f"{name} {version}, tested with {' or '.join(wanted)}", remedy)


def _repository(project: Path) -> Iterator[Diagnosis]:
    for name, remedy in ((".git", "clone the repository, or `git init`"), (".dvc", "run `dvc init`")):
        there = (project / name).exists()
        yield Diagnosis(f"{name} is {'here' if there else 'missing'}", "" if there else remedy)
    work = work_folder(project)
    for folder in dict.fromkeys((project, next(folder for folder in (work, *work.parents) if folder.exists()))):
        writable = os.access(folder, os.W_OK)
        yield Diagnosis(
            f"{folder} can{'' if writable else 'not'} be written", "" if writable else "change its rights or its owner"
        )
    free = shutil.disk_usage(project).free / 1e9
    yield Diagnosis(
        f"{free:.0f} GB free", "" if free > FREE_GB else f"make room: a training wants {FREE_GB} GB, `dvc gc -w` helps"
    )


def _way_out(project: Path) -> Iterator[Diagnosis]:
    """Yield through which proxy Git's server and the store are reached, and by whose certificates the forge is trusted.

    Nothing where no such thing is set.
    """
    origin, proxies = "", set[str]()
    if git := shutil.which("git"):
        command = [git, "remote", "get-url", "origin"]
        origin = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False).stdout.strip()
    for name, url in (("Git", origin), ("the store", os.environ.get("AWS_ENDPOINT_URL", ""))):
        if url.startswith("https://") and getproxies_environment().get("https"):
            proxies.add(proxy := proxy_of(url).rpartition("@")[2])  # without a password
            way = f"through the proxy {proxy}" if proxy else "without a proxy"
            yield Diagnosis(f"{name} at {urlsplit(url).hostname} is reached {way}")
    for proxy in sorted(proxies - {""}):
        address = urlsplit(f"//{proxy.rpartition('//')[2]}")
        try:
            socket.create_connection((address.hostname or "", address.port or 80), timeout=5).close()
        except OSError as error:
            yield Diagnosis(f"the proxy {proxy} does not answer ({error})", "correct HTTPS_PROXY, or unset it")
    if file := os.environ.get("GIT_SSL_CAINFO"):
        trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            trusted.load_verify_locations(file)
            yield Diagnosis(f"the forge is trusted by {len(trusted.get_ca_certs())} authorities of {file}")
        except OSError as error:
            yield Diagnosis(f"GIT_SSL_CAINFO is {file}: {error}", "name a file of PEM certificates, or unset it")


def _configuration(project: Path) -> Iterator[Diagnosis]:
    from runner.config.compose import compose
    from runner.pipeline.plan import PIPELINE, read_stages

    for file in (PIPELINE, LOCK):
        try:
            read_stages(project, file)
        except RunnerError as error:
            yield Diagnosis(f"{file} cannot be read", str(error))
    try:
        config, _ = compose(project)
    except RunnerError as error:
        yield Diagnosis("params.yaml and conf/ do not fit together", str(error).replace("\n", "\n      "))
        return
    yield Diagnosis("params.yaml and conf/ compose")
    trainer = config.model.trainer
    yield _package(trainer, pinned(project), f"it trains the preset's model: run `make setup TRAINER={trainer}`")
    yield from data(project, config.dataset.url)
    yield from _device(config.train.batch)


def data(project: Path, url: str) -> Iterator[Diagnosis]:
    """Yield the store's capabilities, and whether it has the dataset's version."""
    from runner.store import key_of_url, open_store

    try:
        store = open_store(project)
        yield Diagnosis(f"the store {_describe(store)}")
        there = url == "sample" or store.exists(key_of_url(url))
    except RunnerError as error:
        yield Diagnosis("the store", str(error))
        return
    yield Diagnosis(
        f"dataset {url}",
        "" if there else f"it is not in {store.uri}: set STORE_URI, or `python -m runner dataset add` it again",
    )


def _describe(store: "FolderStore | S3Store") -> str:
    """Return a store's address and capabilities; StoreError when it does not answer."""
    from runner.store.folder import FolderStore

    if isinstance(store, FolderStore):
        return f"is the folder {store.uri}"
    from runner.store.s3 import CAPABILITIES

    store.bucket.retry_waits_s = ()
    answers = f"{store.uri} at {store.bucket.endpoint.url} answers"
    if not store.exists(CAPABILITIES):
        return f"{answers}; its capabilities are unknown: run `python -m runner store init` as its root user"
    names = {"conditional_put": "conditional PUT", "tags": "tags", "versioning": "versions"}
    does = store.capabilities.model_dump()
    return f"{answers}: " + ", ".join(name if does[key] else f"no {name}" for key, name in names.items())


def _device(batch: int) -> Iterator[Diagnosis]:
    from runner.stages.parallel import workers

    try:
        import torch

        gpus = torch.cuda.device_count()
        yield Diagnosis(f"{gpus} GPUs, {workers()} workers, RUNNER_DEVICE={os.environ.get('RUNNER_DEVICE', '')}")
        from runner.stages.device import check_device, training_device

        check_device(training_device(), batch)
    except ImportError:
        return  # reported above
    except RunnerError as error:
        yield Diagnosis("the device", str(error))


CHECKS: tuple[Check, ...] = (_python, _packages, _repository, _way_out, _configuration)
