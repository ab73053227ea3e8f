import shutil
from pathlib import Path

import pytest

from runner.cluster import container_images as images
from runner.cluster import kubectl
from runner.errors import ClusterError
from tests.support import gitops
from tests.unit.runner.cluster.conftest import Answers

DIGEST = f"sha256:{'ab' * 32}"
STREAMS = "/apis/image.openshift.io/v1/namespaces/flywheel-builds/imagestreams"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (images.PATH, Path(".ci/set-image")):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy2(gitops.PROJECT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """The cluster's ImageStreams."""
    answers: Answers = {}
    monkeypatch.setattr(kubectl, "get", answers.get)
    return answers


def built(*names: str, digest: str = DIGEST) -> Answers:
    tags = [{"tag": "latest", "items": [{"image": digest}, {"image": f"sha256:{'0' * 64}"}]}]
    repository = "registry.example/flywheel-builds"
    return {
        f"{STREAMS}/{name}": {"status": {"dockerImageRepository": f"{repository}/{name}", "tags": tags}}
        for name in names
    }


@pytest.mark.parametrize("late", [images.OURS, *((name,) for name in images.OURS)])
def test_nothing_is_written_when_an_image_is_not_built(folder: Path, streams: Answers, late: tuple[str, ...]) -> None:
    before = (folder / images.PATH).read_bytes()
    streams |= built(*(name for name in images.OURS if name not in late))
    assert images.update(folder, write=False).count("not built yet") == len(late)
    with pytest.raises(ClusterError, match=", ".join(late)):
        images.update(folder, write=True)
    assert (folder / images.PATH).read_bytes() == before
    streams |= built(*late)
    for _ in range(2):  # the second time there is nothing to change
        images.update(folder, write=True)
        assert images.unbuilt_images(folder / images.PATH) == []
        assert (folder / images.PATH).read_text().count(DIGEST) == len(images.OURS)


def test_an_image_is_refused_when_its_digest_is_none(folder: Path, streams: Answers) -> None:
    streams |= built(*images.OURS, digest="sha256:x\n  newTag: evil")
    with pytest.raises(ClusterError, match=images.OURS[0]):
        images.update(folder, write=True)
