"""Packages of an image as its build installs them: by digest, with a bill of materials."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from tests.conftest import PROJECT

FILES = ("pyproject.toml", "constraints-hashes.txt", "constraints-uv.txt", ".ci/install_packages.py")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """The folder of the build."""
    for file in FILES:
        shutil.copy(PROJECT / file, tmp_path)
    return tmp_path


def install(context: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "install_packages.py", "flywheel-serving", str(context / "server"), *arguments]
    return subprocess.run(command, cwd=context, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_server_imports_what_is_installed_and_the_bill_lists_it(context: Path) -> None:
    done = install(context, "serve", "--", "--only-binary", ":all:")
    assert done.returncode == 0, done.stderr
    python = context / "server/bin/python"
    tried = "import serving.app, serving.storage.signature, cryptography; serving.app.create_app()"
    subprocess.run([python, "-c", tried], cwd=PROJECT, env={"PYTHONDONTWRITEBYTECODE": "1"}, check=True)
    text = (context / "server/bom.json").read_text(encoding="utf-8")
    assert (fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is None, fault
    bill = json.loads(text)
    listed = {each["purl"] for each in bill["components"]}
    query = "import importlib.metadata as m; print(*(d.name + '@' + d.version for d in m.distributions()))"
    there = subprocess.run([python, "-c", query], capture_output=True, text=True, check=True).stdout.split()
    assert {canonicalize_name(name) for name in there} == {
        canonicalize_name(each.removeprefix("pkg:pypi/")) for each in listed if each.startswith("pkg:pypi/")
    }
    if shutil.which("dpkg-query"):
        assert any(re.match(r"pkg:deb/\w+/libc6@.+\?arch=", each) for each in listed)


@pytest.mark.slow
def test_refused_when_a_digest_is_another(context: Path) -> None:
    hashes = context / "constraints-hashes.txt"
    before, name, after = hashes.read_text(encoding="utf-8").partition("\nidna==")
    digests, following = re.split(r"(?<=[0-9a-f])\n(?=\w)", after, maxsplit=1)
    hashes.write_text(f"{before}{name}{re.sub('sha256:[0-9a-f]{8}', 'sha256:00000000', digests)}\n{following}")
    done = install(context, "serve")
    assert done.returncode and "Hash mismatch for `idna" in done.stderr
