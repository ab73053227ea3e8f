"""Digests of what a cluster built come into gitops/images, of all images or of none."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.cluster import container_images as images
from runner.cluster import kubectl
from runner.errors import ClusterError
from tests.support import gitops

DIGEST = f"sha256:{'ab' * 32}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (images.PATH, Path(".ci/set-image")):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy2(gitops.PROJECT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The digests that the cluster's ImageStreams have, by the name of the image."""
    digests: dict[str, str] = {}

    def get(path: str) -> dict[str, Any] | None:
        streams, _, name = path.rpartition("/")
        assert streams == "/apis/image.openshift.io/v1/namespaces/flywheel-builds/imagestreams"
        if name not in digests:
            return None
        tags = [{"tag": "latest", "items": [{"image": digests[name]}, {"image": f"sha256:{'0' * 64}"}]}]
        return {"status": {"dockerImageRepository": f"registry.example/flywheel-builds/{name}", "tags": tags}}

    monkeypatch.setattr(kubectl, "get", get)
    return digests


@pytest.mark.parametrize("late", [images.OURS, *((name,) for name in images.OURS)])
def test_nothing_is_written_when_an_image_is_not_built(
    folder: Path, built: dict[str, str], late: tuple[str, ...]
) -> None:
    before = (folder / images.PATH).read_bytes()
    built.update({name: DIGEST for name in images.OURS if name not in late})
    assert images.update(folder, write=False).count("not built yet") == len(late)
    with pytest.raises(ClusterError, match=", ".join(late)):
        images.update(folder, write=True)
    assert (folder / images.PATH).read_bytes() == before
    built.update(dict.fromkeys(late, DIGEST))
    for _ in range(2):  # the second time there is nothing to change
        images.update(folder, write=True)
        assert images.unbuilt_images(folder / images.PATH) == []
        assert (folder / images.PATH).read_text().count(DIGEST) == len(images.OURS)


def test_an_image_is_refused_when_its_digest_is_none(folder: Path, built: dict[str, str]) -> None:
    built.update(dict.fromkeys(images.OURS, "sha256:x\n  newTag: evil"))
    with pytest.raises(ClusterError, match=images.OURS[0]):
        images.update(folder, write=True)
