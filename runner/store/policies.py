"""S3 policies of the store's users."""

import json
import re
from typing import Any

from runner.errors import StoreError

USERS = ("runner", "publisher", "labels")
SERVER = "server-"  # prefix of a model server's user; its environment follows
# Prefixes that each may write: training cannot touch a version of a model.
WRITES = {
    "runner": ("datasets", "dvc", "pipeline", "weights"),
    "publisher": ("models", "pipeline", "runs"),
}


def policy_of(user: str, bucket: str) -> dict[str, Any]:
    """Return the S3 policy document of one of USERS, or of `server-<environment>`.

    A server reads models and writes its captures. `runner` and `publisher` read everything, write the prefixes in
    WRITES, and remove nothing; `labels` reads datasets and captures.
    """
    whole = f"arn:aws:s3:::{bucket}"

    def allow(*actions: str, on: list[str], **condition: Any) -> dict[str, Any]:
        statement = {"Effect": "Allow", "Action": [f"s3:{action}" for action in actions], "Resource": on}
        return statement | ({"Condition": condition} if condition else {})

    statements = [allow("GetBucketLocation", on=[whole])]
    if user in WRITES:
        statements += [
            allow("ListBucket", "ListBucketMultipartUploads", on=[whole]),
            allow("GetObject", "GetObjectTagging", on=[f"{whole}/*"]),
            allow(
                "PutObject",
                "PutObjectTagging",
                "AbortMultipartUpload",
                "ListMultipartUploadParts",
                on=[f"{whole}/{folder}/*" for folder in WRITES[user]],
            ),
        ]
    elif user == "labels":
        statements += [
            allow("ListBucket", on=[whole], StringLike={"s3:prefix": ["datasets/*", "captures/*"]}),
            allow("GetObject", on=[f"{whole}/datasets/*", f"{whole}/captures/*"]),
        ]
    elif re.fullmatch(rf"{SERVER}[a-z0-9]([a-z0-9-]*[a-z0-9])?", user):
        environment = user.removeprefix(SERVER)
        statements += [
            allow("GetObject", on=[f"{whole}/models/*"]),
            allow("PutObject", "AbortMultipartUpload", on=[f"{whole}/captures/{environment}/*"]),
        ]
    else:
        raise StoreError(f"{user}: no user of the store, expected {', '.join(USERS)} or {SERVER}<environment>")
    return {"Version": "2012-10-17", "Statement": statements}


def policy_text(user: str, uri: str) -> str:
    """Return a policy as JSON, for endpoints with their own user management; raise StoreError for a folder."""
    if not uri.startswith("s3://"):
        raise StoreError(f"{uri} is a folder, which has no users; set STORE_URI=s3://bucket")
    return json.dumps(policy_of(user, uri.removeprefix("s3://")), indent=2)
