import io
import json
import random
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.error import S3Error
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

from runner.errors import StoreError
from runner.store import open_store
from runner.store.accounts import accounts_of
from runner.store.init import init_store
from runner.store.s3 import S3Store
from runner.store.users import USERS, policy_of, policy_text
from serving.captures.memory import CaptureMemory
from serving.storage.endpoint import connect, endpoint_of_environment
from tests.support.s3 import S3, Use
from tests.support.trees import write_tree

CONTENT = b"content"
# Objects that are there, and what each user may do with them: r(ead), w(rite), l(ist).
OF_TRAININGS = {"runner": "rl", "trainer": "rl", "publisher": "rl"}
KEPT = OF_TRAININGS | {"backup": "rl"}
RIGHTS = {
    "datasets/planes/0123456789ab.zip": KEPT | {"runner": "rwl", "labels": "rl", "labels-pull": "rwl"},
    "weights/0123456789ab-yolo11n.pt": KEPT | {"runner": "rwl"},
    "models/planes/1/manifest.json": {
        **KEPT,
        **{"publisher": "rwl", "labels": "rl", "labels-pull": "rl"},
        **dict.fromkeys(("server-dev", "server-staging", "server-prod"), "r"),
    },
    "runs/planes/1/best.pt": KEPT | {"publisher": "rwl"},
    "captures/dev/planes/1/a.jpg": {"runner": "rl", "server-dev": "w", "labels": "rl", "labels-pull": "rl"},
    "captures/dev/memory/2026-11-30/00000": {"runner": "rl", "server-dev": "rw", "labels": "rl", "labels-pull": "rl"},
    "captures/dev/jobs/0f/result": {"runner": "rl", "server-dev": "rw", "labels": "rl", "labels-pull": "rl"},
    "feedback/reports.json": {
        **{"runner": "rl", "labels": "rwl", "backup": "rl"},
        **dict.fromkeys(("server-dev", "server-staging", "server-prod"), "r"),
    },
    "captures/prod/planes/1/a.jpg": {"runner": "rl", "server-prod": "w", "labels": "rl", "labels-pull": "rl"},
    "pipeline/retrain-1/dvc.lock": dict.fromkeys(OF_TRAININGS, "rwl"),
    "dvc/files/md5/ab/cd": KEPT | {"runner": "rwl", "trainer": "rwl"},
    "backups/objects/0123": {"runner": "rl", "backup-writer": "rwl"},
    "store.json": {"runner": "rl"} | {user: "r" for user in USERS if user != "runner"},
    "others/secret.txt": {"runner": "rl"},
}
KEY_FILES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
GIVEN = (*USERS, "server-dev", "server-prod", "server-staging")


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Mounted Secrets of all users. SeaweedFS takes letters and digits alone."""
    names = {f"{user}/AWS_ACCESS_KEY_ID": f"{user.replace('-', '')}{secrets.token_hex(2)}\n" for user in GIVEN}
    passwords = {f"{user}/AWS_SECRET_ACCESS_KEY": f"{secrets.token_hex(16)}\n" for user in GIVEN}
    folder = write_tree(tmp_path / "users", names | passwords)
    monkeypatch.setenv("STORE_USERS", str(folder))
    return folder


@pytest.fixture(params=["minio", "seaweedfs"])
def server(request: pytest.FixtureRequest) -> S3:
    """Each server with users in turn."""
    found: S3 = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def bucket(server: S3, use: Use) -> str:
    """The name of a bucket that is not there yet; the environment names it."""
    return use(server.environment(f"planes-{secrets.token_hex(4)}")).bucket.name


def client_of(users: Path, user: str) -> Minio:
    name, password = ((users / user / file).read_text().strip() for file in KEY_FILES)
    return connect(endpoint_of_environment()._replace(access_key=name, secret_key=password))


def may(do: Callable[..., object], *arguments: object) -> bool:
    try:
        do(*arguments)
    except S3Error as error:
        assert error.code == "AccessDenied", error
        return False
    return True


def get(client: Minio, bucket: str, key: str) -> None:
    assert client.get_object(bucket, key).read() == CONTENT


def put(client: Minio, bucket: str, key: str) -> None:
    client.put_object(bucket, key, io.BytesIO(CONTENT), len(CONTENT))


def listed(client: Minio, bucket: str, prefix: str) -> list[str | None]:
    return [item.object_name for item in client.list_objects(bucket, prefix)]


def test_each_user_may_do_what_it_must_and_nothing_else(bucket: str, users: Path, server: S3, tmp_path: Path) -> None:
    init_store(tmp_path)
    for key in RIGHTS:
        put(server.client(), bucket, key)
    found: dict[str, dict[str, str]] = {key: {} for key in RIGHTS}
    for user in GIVEN:
        client = client_of(users, user)
        for key in RIGHTS:
            folder = f"{key.rpartition('/')[0]}/".lstrip("/")
            allowed = {
                "r": may(get, client, bucket, key),
                "w": may(put, client, bucket, key),
                "l": may(listed, client, bucket, folder),
            }
            if rights := "".join(letter for letter, is_so in allowed.items() if is_so):
                found[key][user] = rights
            assert not may(client.remove_object, bucket, key), f"{user} removes {key}"
        assert not may(client.make_bucket, f"{bucket}-2") and not may(client.remove_bucket, bucket)
        assert not may(client.delete_bucket_lifecycle, bucket)
        assert user == "runner" or not may(listed, client, bucket, ""), f"{user} sees every key"
    assert found == RIGHTS


def test_nothing_changes_when_it_runs_again(bucket: str, users: Path, server: S3, tmp_path: Path) -> None:
    shutil.rmtree(users / "labels")
    first = init_store(tmp_path)
    for part in ("bucket: made", f"{users}/labels is not there"):
        assert part in first
    assert f"user runner: policy set, made, policy given (policy {bucket}-runner)" in first
    again = init_store(tmp_path)
    for part in ("bucket: there already", "versions: kept already"):
        assert part in again
    for part in ("conditional PUT", "tags", "object lock"):
        assert f"{part}: honoured" in again
    assert "captures after 90 days, earlier versions after 30, as before" in again
    as_before = re.findall(rf"user (\S+): as before \(policy {bucket}-\1\)", again)
    assert as_before == [user for user in GIVEN if user != "labels"]
    left = server.client().list_objects(bucket, recursive=True, include_version=True)
    assert [item.object_name for item in left] == ["store.json"]  # the scratch objects are gone, with all versions


def test_user_is_mended_when_secret_state_or_policy_differ(
    bucket: str, users: Path, server: S3, tmp_path: Path
) -> None:
    init_store(tmp_path)
    name = (users / "runner" / "AWS_ACCESS_KEY_ID").read_text().strip()
    (users / "labels" / "AWS_SECRET_ACCESS_KEY").write_text(secrets.token_hex(16))
    accounts = accounts_of(endpoint_of_environment())
    assert accounts is not None
    if server.name == "minio":
        server.admin().user_disable(name)
    else:
        accounts.set_user(f"{bucket}-runner", f"other{secrets.token_hex(2)}", "another password")
    accounts.set_policy(f"{bucket}-server-dev", policy_of("server-prod", bucket))
    former = client_of(users, "publisher")
    (users / "publisher" / "AWS_ACCESS_KEY_ID").write_text(f"publisher{secrets.token_hex(2)}2")
    text = init_store(tmp_path)
    assert re.search(rf"user publisher: made(, policy given)? \(policy {bucket}-publisher\)", text)
    with pytest.raises(S3Error, match="InvalidAccessKeyId"):
        get(former, bucket, "models/planes/1/manifest.json")
    assert f"user labels: password changed (policy {bucket}-labels)" in text
    assert f"user runner: made (policy {bucket}-runner)" in text
    assert f"user server-dev: policy set (policy {bucket}-server-dev)" in text
    assert may(listed, client_of(users, "labels"), bucket, "datasets/")
    assert may(listed, client_of(users, "runner"), bucket, "")


def test_rules_of_others_stay_when_ours_are_set(bucket: str, users: Path, server: S3, tmp_path: Path) -> None:
    init_store(tmp_path)
    other = Rule(ENABLED, rule_id="mine", rule_filter=Filter(prefix="other/"), expiration=Expiration(days=3))
    client = server.client()
    client.set_bucket_lifecycle(bucket, LifecycleConfig([other]))
    assert "expiry: captures after 10 days (prod: 3), earlier versions after 5\n" in init_store(
        tmp_path, captures_days={"": 10, "prod": 3}, versions_days=5
    )
    kept = client.get_bucket_lifecycle(bucket)
    assert kept is not None
    assert {rule.rule_id: rule.expiration and rule.expiration.days for rule in kept.rules} == {
        "mine": 3,
        "flywheel-captures": 10,
        "flywheel-captures-prod": 3,
        **{f"flywheel-jobs-{environment}": 1 for environment in ("dev", "prod", "staging")},
        "flywheel-pipeline": 30,
        "flywheel-dvc": None,
        "flywheel-markers": None,
        **({} if server.name == "minio" else {"flywheel-uploads": None}),
    }


def test_refused_when_not_allowed(bucket: str, users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init_store(tmp_path)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, (users / "runner" / variable).read_text().strip())
    with pytest.raises(StoreError, match=rf"^s3://{bucket}: versions .*runner\w+ may not"):
        init_store(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels/AWS_SECRET_ACCESS_KEY": "short"}, r"labels: .* 8 to 40"),
        ({"labels/AWS_ACCESS_KEY_ID": None}, r"labels: .*No such file"),
        ({"labels/AWS_ACCESS_KEY_ID": "twin", "runner/AWS_ACCESS_KEY_ID": "twin"}, r"labels.*twin is runner too"),
    ],
)
def test_refused_when_credentials_are_not_usable(
    bucket: str, users: Path, tmp_path: Path, change: dict[str, str | None], message: str
) -> None:
    for file, content in change.items():
        (users / file).unlink() if content is None else (users / file).write_text(content)
    with pytest.raises(StoreError, match=message):
        init_store(tmp_path)


def test_refused_when_days_or_folder_are_wrong(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for days in ({"captures_days": {"": 0}}, {"captures_days": {"prod": 91}}, {"versions_days": 0}):
        with pytest.raises(StoreError, match="-days"):
            init_store(tmp_path, **days)
    monkeypatch.setenv("STORE_USERS", str(tmp_path / "gone"))
    with pytest.raises(StoreError, match=r"^STORE_USERS .*gone"):
        init_store(tmp_path)


def test_lacks_are_said_when_the_endpoint_has_little(rclone: S3, use: Use, users: Path, tmp_path: Path) -> None:
    use(rclone.environment("planes"))
    lines = [line.strip() for line in init_store(tmp_path).splitlines()]
    assert lines[2].startswith("versions: this endpoint has none (") and lines[3].endswith("; nothing expires")
    assert lines[4].startswith("conditional PUT: not honoured") and lines[5].startswith("tags: not honoured")
    assert lines[6].startswith("object lock: not honoured")
    assert lines[8].startswith("users: left as they are; this endpoint has neither")


def test_policy_is_printed_when_asked_for() -> None:
    assert json.loads(policy_text("runner", "s3://planes")) == policy_of("runner", "planes")
    for user, uri in (("nobody", "s3://planes"), ("server-qa/*", "s3://planes"), ("runner", "/srv/store")):
        with pytest.raises(StoreError, match=r"nobody|server-qa/\*|/srv/store"):
            policy_text(user, uri)


def as_user(users: Path, user: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, (users / user / name).read_text().strip())
    store = open_store(Path())
    assert isinstance(store, S3Store)
    return store


PUBLISHED = {
    "publisher": "models/planes/1/model.onnx",
    "runner": "weights/a.pt",
    "labels-pull": "datasets/planes/a.jsonl",
}


def test_what_is_published_is_locked_and_expires_never(
    bucket: str, users: Path, server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_store(tmp_path)
    client = server.client()
    (tmp_path / "file").write_bytes(CONTENT)
    for user, key in PUBLISHED.items():
        as_user(users, user, monkeypatch).put_file(key, tmp_path / "file")
        put(client_of(users, user), bucket, key)  # a conditional PUT is the client's choice
        _, older = client.list_objects(bucket, key, include_version=True)  # the newest first
        for one in (client, client_of(users, user)):
            with pytest.raises(S3Error, match=r"WORM protected|AccessDenied"):
                one.remove_object(bucket, key, version_id=older.version_id)
    rules = client.get_bucket_lifecycle(bucket)
    assert rules is not None
    for rule in rules.rules:
        prefix = rule.rule_filter.prefix if rule.rule_filter else ""
        deletes = rule.noncurrent_version_expiration or (rule.expiration and rule.expiration.days)
        assert not deletes or prefix.startswith(("captures/", "pipeline/", "dvc/")), rule.rule_id


def test_a_bucket_of_before_has_no_lock(minio: S3, use: Use, tmp_path: Path) -> None:
    store = use(minio.bucket())
    assert "bucket: there already" in (text := init_store(tmp_path)) and "object lock: not honoured" in text
    (tmp_path / "file").write_bytes(CONTENT)
    assert store.put_file("models/planes/1/model.onnx", tmp_path / "file")


def test_servers_take_one_place_each_when_they_capture_at_once(bucket: str, users: Path, tmp_path: Path) -> None:
    """With the rights of a model server: the caps of the day hold, and of near-duplicates one is captured."""
    init_store(tmp_path)
    key, password = ((users / "server-dev" / name).read_text().strip() for name in KEY_FILES)
    endpoint = endpoint_of_environment()._replace(access_key=key, secret_key=password)
    limits = {"per_hour": 20, "per_day": 20, "similar_bits": 4}
    servers = [CaptureMemory(f"s3://{bucket}", "dev", endpoint, **limits) for _ in range(4)]
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)

    def capture(number: int) -> list[str]:
        hashes = random.Random(number)
        own = [hashes.getrandbits(64) for _ in range(10)]
        taken = [servers[number].take(each, f"{number}-{each}", now) for each in [0b1 << number, *own]]
        return [reason or f"taken {index == 0}" for index, reason in enumerate(taken)]

    with ThreadPoolExecutor(4) as pool:
        found = Counter(reason for reasons in pool.map(capture, range(4)) for reason in reasons)
    assert found == {"taken True": 1, "similar": 3, "taken False": 19, "per_hour": 21}
