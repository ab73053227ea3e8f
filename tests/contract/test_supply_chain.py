"""What becomes an image is named exactly: packages by version and digest, base images by digest, actions by commit."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PIN = re.compile(r"([a-z0-9-]+)==[^ ;]+(?: ; .+)?")
HASH = re.compile(r" +--hash=sha256:[0-9a-f]{64}(?: \\)?")
BASE = re.compile(r"^ARG [A-Z]+=(\S+/\S+:\S+)$", re.MULTILINE)


def pins(file: str) -> dict[str, str]:
    """Return the pins of a file, with their markers, and the name of each."""
    lines = (line.removesuffix(" \\") for line in (PROJECT / file).read_text("utf-8").splitlines())
    return {line: match[1] for line in lines if (match := PIN.fullmatch(line))}


def test_every_pinned_package_has_a_digest_and_no_other_has() -> None:
    assert pins("constraints-hashes.txt") == pins("constraints.txt") | pins("constraints-train.txt")
    for file in ("constraints-hashes.txt", "constraints-uv.txt"):
        lines = [line for line in (PROJECT / file).read_text("utf-8").splitlines() if not line.startswith("#")]
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            assert HASH.fullmatch(line) or (PIN.fullmatch(line.removesuffix(" \\")) and HASH.fullmatch(following)), (
                line
            )  # no address either


def test_libreyolo_is_one_version_as_stages_depend_on_its_file() -> None:
    assert pins("constraints-libreyolo.txt").items() <= pins("constraints.txt").items()


def test_everything_that_pyproject_asks_for_is_pinned() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    names = {re.split(r"[^\w.-]", each)[0].lower().replace("_", "-").replace(".", "-") for each in asked}
    assert names <= set(pins("constraints-hashes.txt").values())


def containerfiles() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*Containerfile", ":!tests"], cwd=PROJECT, capture_output=True, text=True
    )
    return [PROJECT / name for name in listed.stdout.split()]


@pytest.mark.parametrize("file", containerfiles(), ids=lambda file: file.parent.name)
def test_a_base_image_has_a_digest_or_says_that_it_has_none(file: Path) -> None:
    text = file.read_text("utf-8")
    images = BASE.findall(text)
    assert images
    for image in images:
        above = text[: text.index(f"={image}")].splitlines()[-2]
        has_digest = re.search("@sha256:[0-9a-f]{64}$", image) is not None
        assert has_digest != ("NO DIGEST YET: `make digests` writes it" in above), image
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert image == "scratch" or re.fullmatch(r"\$\{[A-Z]+\}", image), image


def test_actions_are_named_by_commit() -> None:
    for workflow in (PROJECT / ".github/workflows").iterdir():
        for used in re.findall(r"uses: (\S+)", workflow.read_text(encoding="utf-8")):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used), used


def test_digests_are_written_where_they_are_missing_or_others(tmp_path: Path) -> None:
    """With a skopeo that answers by itself: no registry of images can be counted on here."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/digests").write_bytes((PROJECT / ".ci/digests").read_bytes())
    (tmp_path / "bin").mkdir()
    skopeo, file = tmp_path / "bin/skopeo", tmp_path / "serving/Containerfile"
    file.parent.mkdir()
    file.write_bytes((PROJECT / "serving/Containerfile").read_bytes())
    for digit in "12":
        skopeo.write_text(
            f'#!/bin/sh\n[ "$4" = docker://docker.io/library/python:3.12-slim ] && echo sha256:{digit * 64}\n'
        )
        skopeo.chmod(0o755)
        subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
        subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
        environment = {"PATH": f"{skopeo.parent}:/usr/bin:/bin"}
        subprocess.run(["bash", ".ci/digests"], cwd=tmp_path, env=environment, check=True, capture_output=True)
        assert BASE.findall(file.read_text()) == [f"docker.io/library/python:3.12-slim@sha256:{digit * 64}"]
        assert "NO DIGEST YET" not in file.read_text()
