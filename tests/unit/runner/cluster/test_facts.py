import shutil
from pathlib import Path

import pytest

from runner.cluster import facts as cluster_env
from runner.cluster.facts import FOR_KUBERNETES, GIT_CIDRS, KEYS, LATER, UNUSED, check, faults, merge, read
from runner.errors import ConfigError

FILLED = {key: example for key, (_, example) in KEYS.items()}


@pytest.fixture
def path(project: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(project / cluster_env.PATH, tmp_path))


def test_every_key_is_missing_when_the_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "cluster.env").write_text("")
    assert read(tmp_path / "cluster.env") == {}
    assert [fault.split()[0] for fault in faults({}, complete=False)] == [key for key in KEYS if key not in LATER]


@pytest.mark.parametrize(
    "value", ["300.1.2.3/8", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0", "10.0.0.0/8,", "git.example.com"]
)
def test_addresses_of_git_are_refused_when_they_are_no_blocks(path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=GIT_CIDRS):
        merge(path, {GIT_CIDRS: value})


def test_the_file_that_ships_lacks_only_what_a_cluster_decides(path: Path) -> None:
    assert list(read(path)) == list(KEYS)
    check(path, complete=False)
    with pytest.raises(ConfigError, match=r"to mend:\n  REPO_URL is still REPLACE-ME; a value looks like https://"):
        check(path, complete=True)


@pytest.mark.parametrize(
    ("key", "value", "is_fine"),
    [
        ("HTTPS_PROXY", "", True),
        ("HTTPS_PROXY", "http://proxy:3128", True),
        ("HTTPS_PROXY", "http://me:secret@proxy:3128", False),
        ("HTTPS_PROXY", "proxy:3128", False),
        ("NO_PROXY", "", True),
        ("NO_PROXY", ".example.com, 10.0.0.0/8", False),
        ("PROXY_CIDRS", "", False),
        ("PROXY_CIDRS", "10.0.0.1/8", False),
        ("GIT_SSL_CAINFO", "", False),
        ("GIT_SSL_CAINFO", "/etc/ssl/cert.pem", False),
    ],
)
def test_the_way_out_is_checked(key: str, value: str, is_fine: bool) -> None:
    found = [fault for fault in faults(FILLED | {key: value}, complete=True) if fault.startswith(key)]
    assert bool(found) is not is_fine


@pytest.mark.parametrize("unused", [(), FOR_KUBERNETES])
def test_nothing_is_wrong_when_values_are_as_their_examples_or_are_not_needed(path: Path, unused: tuple[str]) -> None:
    filled = FILLED | dict.fromkeys(unused, UNUSED)
    assert merge(path, filled)
    assert check(path, complete=True) == filled
    assert not merge(path, filled)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "empty.* apps.cluster.example.com"),
        ("  ", "empty"),
        ('"apps.example.com"', "quoted.* APPS_DOMAIN=apps.example.com"),
        ("'apps.example.com'", "quoted"),
        ("apps.example.com # ours", "'apps.example.com # ours'"),
        (" apps.example.com", "' apps.example.com'"),
        ("*.apps.example.com", ""),
        ("unused", "unused"),
    ],
)
def test_a_value_is_refused_when_it_would_reach_manifests_wrongly(path: Path, value: str, message: str) -> None:
    text = path.read_text().replace("APPS_DOMAIN=REPLACE-ME", f"APPS_DOMAIN={value}")
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"APPS_DOMAIN is {message}"):
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
        ({"GPU_COUNT": "2", "GPU_QUOTA": "3"}, "GPU_QUOTA is 3, but a training takes GPU_COUNT=2"),
        ({"GPU_COUNT": "0"}, "GPU_COUNT is '0'"),
        ({"REPO_URL": "https://me:secret@example.com/a/b.git"}, "REPO_URL is 'https://me"),
        ({"REPO_URL": "https://example.com/a/b/"}, "REPO_URL is 'https://example.com/a/b/'"),  # no push has it so
    ],
)
def test_values_are_refused_when_they_contradict_each_other(changes: dict[str, str], message: str) -> None:
    assert any(fault.startswith(message) for fault in faults(FILLED | changes, complete=True))


@pytest.mark.parametrize("line", ["AWS_AMI=ami-0", " GPU=none", "no assignment", "PLATFORM=openshift"])
def test_the_line_is_named_when_it_is_no_key_of_ours_or_stands_twice(path: Path, line: str) -> None:
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(ConfigError, match=rf"cluster\.env:\d+: found '{line}', .*REPO_URL"):
        read(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_the_file_is_named_when_it_is_missing_or_not_text(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "cluster.env").write_bytes(content)
    with pytest.raises(ConfigError, match=r"cluster\.env: cannot be read"):
        read(tmp_path / "cluster.env")


def test_a_key_comes_at_the_end_when_an_older_file_lacks_it(path: Path) -> None:
    path.write_text(path.read_text().replace("STORAGE_CLASS=REPLACE-ME\n", "").rstrip("\n"))
    assert merge(path, {"STORAGE_CLASS": "gp3-csi"})
    assert path.read_text().endswith("GPU_TYPE=nvidia-t4\nSTORAGE_CLASS=gp3-csi\n")
