"""cluster.env: what stands there reaches every manifest, so nothing doubtful may."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runner.cluster import facts as cluster_env
from runner.cluster.facts import KEYS, UNSET, UNUSED, check, faults, merge, read
from runner.errors import ConfigError

FILLED = {key: example for key, (_, example) in KEYS.items()}


@pytest.fixture
def path(project: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(project / cluster_env.PATH, tmp_path))


def test_every_key_is_unset_when_nothing_was_filled_in(tmp_path: Path) -> None:
    (tmp_path / "cluster.env").write_text("")
    assert read(tmp_path / "cluster.env") == {}
    assert [fault.split()[0] for fault in faults({}, complete=False)] == list(KEYS)


def test_the_file_that_ships_lacks_only_what_a_cluster_decides(path: Path) -> None:
    assert list(read(path)) == list(KEYS)
    check(path, complete=False)
    with pytest.raises(ConfigError, match=r"to mend:\n  REPO_URL is still REPLACE-ME; a value looks like https://"):
        check(path, complete=True)


def test_nothing_is_wrong_when_every_value_is_as_its_example(path: Path) -> None:
    assert merge(path, FILLED)
    assert check(path, complete=True) == FILLED
    assert not merge(path, FILLED)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "APPS_DOMAIN is empty; a value looks like apps.cluster.example.com"),
        ("  ", "APPS_DOMAIN is empty"),
        ('"apps.example.com"', "APPS_DOMAIN is quoted, .* write APPS_DOMAIN=apps.example.com"),
        ("'apps.example.com'", "APPS_DOMAIN is quoted"),
        ("apps.example.com # ours", "APPS_DOMAIN is 'apps.example.com # ours'; .* with nothing behind it"),
        (" apps.example.com", "APPS_DOMAIN is ' apps.example.com'"),
        ("*.apps.example.com", "APPS_DOMAIN is "),
        ("unused", "APPS_DOMAIN is unused, but every cluster needs it"),
    ],
)
def test_a_value_is_refused_when_it_would_reach_manifests_wrongly(path: Path, value: str, message: str) -> None:
    text = path.read_text().replace("APPS_DOMAIN=REPLACE-ME", f"APPS_DOMAIN={value}")
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        check(path, complete=False)
    with pytest.raises(ConfigError, match="is left as it is"):
        merge(path, {"STORAGE_CLASS": "gp3-csi"})
    assert path.read_text() == text


@pytest.mark.parametrize("key", KEYS)
def test_each_key_is_checked_when_it_holds_something_strange(key: str) -> None:
    assert any(fault.startswith(f"{key} is ") for fault in faults(FILLED | {key: "a b\nc"}, complete=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PLATFORM": "kubernetes"}, "GPU is autoscaled, which takes OpenShift's machine API"),
        ({"PLATFORM": "kubernetes", "INGRESS_CLASS": UNUSED}, "INGRESS_CLASS is unused, but PLATFORM is kubernetes"),
        ({"REPO_URL": "https://me:secret@example.com/a/b.git"}, "REPO_URL is 'https://me"),
    ],
)
def test_values_are_refused_when_they_contradict_each_other(changes: dict[str, str], message: str) -> None:
    assert any(fault.startswith(message) for fault in faults(FILLED | changes, complete=True))


def test_what_plain_kubernetes_has_is_not_asked_when_the_cluster_is_openshift() -> None:
    unused = dict.fromkeys(cluster_env.FOR_KUBERNETES, UNUSED)
    assert not list(faults(FILLED | unused, complete=True))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("AWS_AMI=ami-0fedcba9876543210", r"cluster.env:\d+: 'AWS_AMI=.*' is no KEY=value"),  # of an earlier version
        ("WHAT=ever", r"cluster.env:\d+: 'WHAT=ever' is no KEY=value with one of the keys REPO_URL, "),
        ("no assignment", "'no assignment' is no KEY=value"),
        ("export GPU=none", "'export GPU=none' is no KEY=value"),
        ("PLATFORM=openshift", "PLATFORM stands twice"),
    ],
)
def test_the_line_is_named_when_it_is_no_assignment(path: Path, line: str, message: str) -> None:
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ConfigError, match=message):
        read(path)


def test_the_file_is_named_when_it_is_missing_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cluster.env: cannot be read .* run this in the project's folder"):
        read(tmp_path / "cluster.env")
    (tmp_path / "cluster.env").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "cluster.env")


def test_a_key_comes_at_the_end_when_an_older_file_lacks_it(path: Path) -> None:
    path.write_text(path.read_text().replace("STORAGE_CLASS=REPLACE-ME\n", "").rstrip("\n"))
    assert merge(path, {"STORAGE_CLASS": "gp3-csi"})
    assert path.read_text().endswith(f"GPU={UNSET}\nSTORAGE_CLASS=gp3-csi\n")
