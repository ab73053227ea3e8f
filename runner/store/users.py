"""Users of the store and their S3 policies; made here where the endpoint has an API of `runner.store.accounts`."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from minio.error import MinioException
from urllib3.exceptions import HTTPError

from runner.errors import StoreError
from runner.store.accounts import Accounts, AccountsError, accounts_of
from runner.store.bucket import Bucket
from runner.store.s3 import PUBLISHED
from serving.storage.endpoint import code_of, connect, explain, is_passing

SERVER = "server-"  # prefix of a model server's user; its environment follows


class Access(NamedTuple):
    """Prefixes that a user may list and read, and those that it may write; `reads` is empty for all."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


_OF_TRAININGS = ("datasets", "dvc", "models", "pipeline", "runs", "weights")
#: A training runs a commit's own code: it sees no captures, and touches no dataset and no version of a model.
ACCESS = {
    "runner": Access((), ("datasets", "dvc", "pipeline", "weights")),
    "trainer": Access(_OF_TRAININGS, ("dvc", "pipeline")),
    "publisher": Access(_OF_TRAININGS, ("models", "pipeline", "runs")),
    "labels": Access(("captures", "datasets", "feedback", "models"), ("feedback",)),
    "labels-pull": Access(("captures", "datasets", "models"), ("datasets",)),
    "backup": Access(("datasets", "dvc", "feedback", "models", "runs", "weights"), ()),
    "backup-writer": Access(("backups",), ("backups",)),  # of the second store
}
USERS = tuple(ACCESS)
_FILES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def environments_of(folder: str | None) -> list[str]:
    """Return the environments whose servers have credentials in the folder of `set_users`."""
    return sorted(path.name.removeprefix(SERVER) for path in Path(folder).glob(f"{SERVER}*")) if folder else []


def set_users(bucket: Bucket, folder: str | None) -> list[str]:
    """Create or update the users with given credentials, and their policies; return a line for each user.

    The folder has `<user>/AWS_ACCESS_KEY_ID` and `<user>/AWS_SECRET_ACCESS_KEY`, as mounted Secrets do; None: no user
    is touched. The user of the bucket's endpoint must be an administrator, as MinIO's root is.
    """
    if not folder:
        return ["users: left as they are; STORE_USERS names the folder of their credentials"]
    if not Path(folder).is_dir():
        raise StoreError(f"STORE_USERS {folder}: there is no such folder, expected <user>/{_FILES[0]} and {_FILES[1]}")
    accounts = accounts_of(bucket.endpoint)
    if accounts is None:
        return [
            "users: left as they are; this endpoint has neither MinIO's admin API nor the IAM API: make them with its "
            "own tools and the policies that `python -m runner store policy USER` prints"
        ]
    lines, seen = [], {bucket.endpoint.access_key: "the user of this command"}
    servers = [f"{SERVER}{environment}" for environment in environments_of(folder)]
    for user in (*USERS, *servers):
        if not Path(folder, user).is_dir():
            lines.append(f"user {user}: left out, {Path(folder, user)} is not there")
            continue
        name, password = _credentials(Path(folder, user))
        if other := seen.get(name):
            raise StoreError(f"{Path(folder, user, _FILES[0])}: {name} is {other} too, expected its own name")
        seen[name] = user
        try:
            lines.append(f"user {user}: {_set_user(accounts, bucket, user, name, password)}")
        except AccountsError as error:
            raise StoreError(f"{bucket.uri}: user {user} cannot be set: {error}") from error
        except (MinioException, HTTPError) as error:
            raise StoreError(f"{bucket.uri}: user {user}: {explain(error, bucket.endpoint)}") from error
    return lines


def _credentials(folder: Path) -> tuple[str, str]:
    try:
        name, password = (folder.joinpath(file).read_text("utf-8").strip() for file in _FILES)
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{folder}: {error}; expected the files {' and '.join(_FILES)}") from error
    if not 3 <= len(name) <= 20 or not 8 <= len(password) <= 40:  # MinIO's limits
        raise StoreError(f"{folder}: expected {_FILES[0]} of 3 to 20 and {_FILES[1]} of 8 to 40 characters")
    return name, password


def _set_user(accounts: Accounts, bucket: Bucket, user: str, key: str, password: str) -> str:
    """Create or update one user and its policy; return a line with the changes."""
    name, done = f"{bucket.name}-{user}", []
    wanted = policy_of(user, bucket.name)
    if _sorted(accounts.policy(name)) != _sorted(wanted):
        accounts.set_policy(name, wanted)
        done.append("policy set")
    known = _knows(bucket, key, password)
    if known is not True:
        accounts.set_user(name, key, password)
        done.append("made" if known is None else "password changed")
    if not accounts.has_policy(name, key):
        accounts.give_policy(name, key)
        done.append("policy given")
    return f"{', '.join(done)} (policy {name})" if done else f"as before (policy {name})"


def _knows(bucket: Bucket, name: str, password: str) -> bool | None:
    """Whether the credentials are valid; None if there is no such user, or it is disabled."""
    endpoint = bucket.endpoint._replace(access_key=name, secret_key=password)
    try:
        next(connect(endpoint).list_objects(bucket.name, "models/"), None)
    except MinioException as error:
        if code_of(error) == "InvalidAccessKeyId":
            return None
        if is_passing(error):
            raise
        return code_of(error) != "SignatureDoesNotMatch"
    return True


def _sorted(policy: Any) -> Any:
    """Return a policy with its lists sorted, and a list of one as its word, since servers write them otherwise."""
    if isinstance(policy, dict):
        return {key: _sorted(value) for key, value in policy.items()}
    if isinstance(policy, list):
        return sorted(map(_sorted, policy), key=json.dumps) if len(policy) > 1 else _sorted(policy[0])
    return policy


def policy_of(user: str, bucket: str) -> dict[str, Any]:
    """Return the S3 policy document of one of USERS, or of `server-<environment>`.

    A server reads models, writes its captures, and reads which it has, and its jobs. Nobody removes anything.
    """
    whole = f"arn:aws:s3:::{bucket}"

    def allow(*actions: str, on: list[str], **condition: Any) -> dict[str, Any]:
        statement = {"Effect": "Allow", "Action": [f"s3:{action}" for action in actions], "Resource": on}
        return statement | ({"Condition": condition} if condition else {})

    statements = [allow("GetBucketLocation", on=[whole])]
    if access := ACCESS.get(user):
        of_prefixes = {"StringLike": {"s3:prefix": [f"{folder}/*" for folder in access.reads]}} if access.reads else {}
        readable = [f"{folder}/*" for folder in access.reads] + ["store.json"] if access.reads else ["*"]
        statements += [
            allow("ListBucket", *(() if access.reads else ("ListBucketVersions",)), on=[whole], **of_prefixes),
            allow("GetObject", "GetObjectTagging", on=[f"{whole}/{keys}" for keys in readable]),
        ]
        if access.writes:
            writing = ("PutObject", "PutObjectTagging", "AbortMultipartUpload", "ListMultipartUploadParts")
            statements += [
                allow("ListBucketMultipartUploads", on=[whole]),
                allow(*writing, on=[f"{whole}/{folder}/*" for folder in access.writes]),
            ]
        if locked := [f"{whole}/{folder}*" for folder in PUBLISHED if folder.rstrip("/") in access.writes]:
            statements += [allow("PutObjectRetention", on=locked)]  # lengthens a lock; to lift it takes another right
    elif re.fullmatch(rf"{SERVER}[a-z0-9]([a-z0-9-]*[a-z0-9])?", user):
        environment = user.removeprefix(SERVER)
        # Of captures their numbers and hashes, of reports their states: no picture, no comment. Of jobs all.
        own = f"{whole}/captures/{environment}"
        notes = [f"{own}/memory/*", f"{own}/jobs/*", f"{whole}/feedback/*"]
        statements += [
            allow("GetObject", on=[f"{whole}/models/*", *notes]),
            allow("PutObject", "AbortMultipartUpload", on=[f"{own}/*"]),
        ]
    else:
        raise StoreError(f"{user}: no user of the store, expected {', '.join(USERS)} or {SERVER}<environment>")
    return {"Version": "2012-10-17", "Statement": statements}


def policy_text(user: str, uri: str) -> str:
    """Return a policy as JSON, for endpoints with their own user management; raise StoreError for a folder."""
    if not uri.startswith("s3://"):
        raise StoreError(f"{uri} is a folder, which has no users; set STORE_URI=s3://bucket")
    return json.dumps(policy_of(user, uri.removeprefix("s3://")), indent=2)
