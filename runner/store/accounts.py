"""Accounts of the store's users at its endpoint: by MinIO's admin API, or by Amazon's IAM API, which SeaweedFS has.

A user has one policy of the same name. On MinIO its account is the access key; in IAM it has that name, and one key.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlencode, urlsplit
from xml.etree.ElementTree import Element, ParseError, fromstring

from minio.credentials import Credentials, StaticProvider
from minio.error import MinioAdminException
from minio.minioadmin import MinioAdmin
from minio.signer import sign_v4_s3
from minio.time import to_amz_date
from urllib3.exceptions import HTTPError

from serving.storage.endpoint import Endpoint, address_of, pool_of

Result = TypeVar("Result")


class AccountsError(Exception):
    """The endpoint refuses to read or change an account; the text says why. `code` is that of the IAM API."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


class Accounts(Protocol):
    """Users and policies of an endpoint. Every method raises AccountsError."""

    def policy(self, name: str) -> Any:
        """Return a policy document; None: there is none."""

    def set_policy(self, name: str, document: dict[str, Any]) -> None:
        """Make or replace a policy."""

    def set_user(self, name: str, key: str, password: str) -> None:
        """Make a user with these credentials; others of its policy, such as those that it had, are valid no more."""

    def has_policy(self, name: str, key: str) -> bool:
        """Whether a user has the policy of its name, and no other."""

    def give_policy(self, name: str, key: str) -> None:
        """Give a user the policy of its name, and take away others."""


def is_minio(endpoint: Endpoint) -> bool:
    """Whether an endpoint is MinIO, and so has its admin API."""
    try:
        answer = pool_of(endpoint).request("GET", f"{(endpoint.url or '').rstrip('/')}/minio/health/live")
    except HTTPError:
        return False  # the next request reports the cause
    return bool(answer.status == 200)


def accounts_of(endpoint: Endpoint) -> Accounts | None:
    """Return the accounts of an endpoint; None: it has neither API. The endpoint's user must be an administrator."""
    if is_minio(endpoint):
        return MinioAccounts(endpoint)
    accounts = IamAccounts(endpoint)
    return accounts if accounts.answers() else None


class MinioAccounts(Accounts):
    """Accounts of MinIO."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Take MinIO's endpoint, whose user must be root or an administrator; no request is sent yet."""
        address, secure = address_of(endpoint)
        root = StaticProvider(endpoint.access_key or "", endpoint.secret_key or "")
        self._admin = MinioAdmin(endpoint=address, credentials=root, secure=secure, http_client=pool_of(endpoint))

    def policy(self, name: str) -> Any:
        return json.loads(self._ask(self._admin.policy_list)).get(name)

    def set_policy(self, name: str, document: dict[str, Any]) -> None:
        self._ask(self._admin.policy_add, name, policy=document)

    def set_user(self, name: str, key: str, password: str) -> None:
        self._ask(self._admin.user_add, key, password)
        for other, account in json.loads(self._ask(self._admin.user_list)).items():
            if other != key and account.get("policyName") == name:
                self._ask(self._admin.user_remove, other)

    def has_policy(self, name: str, key: str) -> bool:
        return bool(json.loads(self._ask(self._admin.user_info, key)).get("policyName") == name)

    def give_policy(self, name: str, key: str) -> None:
        self._ask(self._admin.policy_set, name, user=key)

    def _ask(self, request: Callable[..., Result], *arguments: Any, **more: Any) -> Result:
        try:
            return request(*arguments, **more)
        except MinioAdminException as error:
            text = str(error)
            if '"AccessDenied"' in text:
                reason = "the user of this command may not do it; run it as MinIO's root user or an administrator"
            else:
                reason = text.partition("Body: ")[2].strip() or text
            raise AccountsError(reason) from error


class IamAccounts(Accounts):
    """Accounts of an endpoint with Amazon's IAM API (2010-05-08) on the port of S3."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Take an endpoint whose user may manage others; no request is sent yet."""
        self._endpoint = endpoint

    def answers(self) -> bool:
        """Whether the endpoint has this API."""
        try:
            self._ask("ListUsers")
        except AccountsError as error:
            return error.code in ("AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch")
        except HTTPError:
            return False
        return True

    def policy(self, name: str) -> Any:
        arn = self._arn(name)
        found = arn and self._ask("GetPolicyVersion", PolicyArn=arn, VersionId="v1").findtext(".//{*}Document")
        return json.loads(unquote(found)) if found else None

    def set_policy(self, name: str, document: dict[str, Any]) -> None:
        is_given = False
        if arn := self._arn(name):  # made anew, as SeaweedFS takes fewer actions in a new version of a policy
            if is_given := name in [each for each, _ in self._given(name)]:
                self._ask("DetachUserPolicy", UserName=name, PolicyArn=arn)
            self._ask("DeletePolicy", PolicyArn=arn)
        self._ask("CreatePolicy", PolicyName=name, PolicyDocument=json.dumps(document))
        if is_given:
            self._ask("AttachUserPolicy", UserName=name, PolicyArn=self._arn(name))

    def set_user(self, name: str, key: str, password: str) -> None:
        try:
            self._ask("CreateUser", UserName=name)
        except AccountsError as error:
            if error.code != "EntityAlreadyExists":
                raise
        for old in self._keys(name):
            self._ask("DeleteAccessKey", UserName=name, AccessKeyId=old)
        self._ask("CreateAccessKey", UserName=name, AccessKeyId=key, SecretAccessKey=password)

    def has_policy(self, name: str, key: str) -> bool:
        return [each for each, _ in self._given(name)] == [name] and self._keys(name) == [key]

    def give_policy(self, name: str, key: str) -> None:
        self._ask("AttachUserPolicy", UserName=name, PolicyArn=self._arn(name))
        for other, arn in self._given(name):
            if other != name:
                self._ask("DetachUserPolicy", UserName=name, PolicyArn=arn)

    def _arn(self, name: str) -> str:
        """Return the name by which the API knows a policy; empty: there is none."""
        found = self._ask("ListPolicies", Scope="Local", MaxItems="1000").iterfind(".//{*}Policies/{*}member")
        return next((_text(each, "Arn") for each in found if _text(each, "PolicyName") == name), "")

    def _keys(self, name: str) -> list[str]:
        found = self._ask("ListAccessKeys", UserName=name).iterfind(".//{*}member")
        return [_text(each, "AccessKeyId") for each in found if _text(each, "Status") == "Active"]

    def _given(self, name: str) -> list[tuple[str, str]]:
        """Return name and ARN of each policy of a user; none for a user who is not there."""
        try:
            found = self._ask("ListAttachedUserPolicies", UserName=name).iterfind(".//{*}member")
        except AccountsError as error:
            if error.code == "NoSuchEntity":
                return []
            raise
        return [(_text(each, "PolicyName"), _text(each, "PolicyArn")) for each in found]

    def _ask(self, action: str, **values: str) -> Element:
        url = urlsplit(f"{(self._endpoint.url or '').rstrip('/')}/")
        body = urlencode({"Action": action, "Version": "2010-05-08", **values}).encode()
        sha256, now = hashlib.sha256(body).hexdigest(), datetime.now(UTC)
        headers = sign_v4_s3(
            method="POST",
            url=url,
            region=self._endpoint.region or "us-east-1",
            headers={
                "Host": url.netloc,
                "Content-Type": "application/x-www-form-urlencoded",
                "x-amz-content-sha256": sha256,
                "x-amz-date": to_amz_date(now),
            },
            credentials=Credentials(self._endpoint.access_key or "", self._endpoint.secret_key or ""),
            content_sha256=sha256,
            date=now,
        )
        answer = pool_of(self._endpoint).request("POST", url.geturl(), body=body, headers=headers, redirect=False)
        try:
            found = fromstring(answer.data)
        except ParseError as error:
            raise AccountsError(f"HTTP status {answer.status}, expected XML of the IAM API") from error
        if answer.status != 200 or not found.tag.endswith(f"{action}Response"):
            code = found.findtext("{*}Error/{*}Code") or ""  # an error of S3 has its code higher up
            raise AccountsError(found.findtext(".//{*}Message") or f"HTTP status {answer.status}", code)
        return found


def _text(element: Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""
