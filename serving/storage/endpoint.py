"""Client of s3:// on any S3 endpoint, and the meaning of its errors; runner's store uses it too."""

import os
import re
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from minio import Minio
    from urllib3 import PoolManager

CONNECTIONS = 32  # connections kept open per endpoint
_CONNECT_SECONDS, _READ_SECONDS = 10, 30
# Transient errors of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and of MinIO.
_PASSING = {
    "ConditionalRequestConflict",
    "InternalError",
    "NoSuchUpload",  # the request that ended a multipart upload succeeded, but its response was lost
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "XMinioBackendDown",
    "XMinioServerNotInitialized",
}
_FULL = {"XMinioStorageFull", "InsufficientStorage", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"}


class Endpoint(NamedTuple):
    """S3 endpoint."""

    url: str | None
    access_key: str | None  # None, as secret_key: anonymous
    secret_key: str | None
    ca_bundle: str | None  # file of trusted certificates; None: the system's
    region: str | None = None  # None: requested from the endpoint
    server_name: str | None = None  # in the server's certificate; None: the host of `url`. A tunnel has another host.


def endpoint_of_environment(environment: Mapping[str, str] = os.environ) -> Endpoint:
    """Return the endpoint of AWS_ENDPOINT_URL and related variables; an empty variable counts as unset."""
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "CA_BUNDLE", "AWS_DEFAULT_REGION")
    return Endpoint(*(environment.get(name) or None for name in names))


def address_of(endpoint: Endpoint) -> tuple[str, bool]:
    """Return host and port of an endpoint, and whether it uses TLS; ValueError: no URL, or a user without password."""
    parts = urlsplit(endpoint.url or "")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.username:
        found = "not set" if endpoint.url is None else repr(endpoint.url)
        raise ValueError(
            f"AWS_ENDPOINT_URL is {found}; expected the object store's, like http://minio:9000, for s3:// "
            "(Amazon's own is https://s3.amazonaws.com)"
        )
    if (endpoint.access_key is None) != (endpoint.secret_key is None):
        raise ValueError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: one is set; expected both, or neither")
    return parts.netloc, parts.scheme == "https"


@lru_cache(maxsize=8)
def connect(endpoint: Endpoint) -> "Minio":
    """Return a thread-safe client, cached per endpoint, with the errors of `address_of` and `pool_of`."""
    from minio import Minio

    address, secure = address_of(endpoint)
    user = (endpoint.access_key, endpoint.secret_key)
    return Minio(address, *user, secure=secure, http_client=pool_of(endpoint), region=endpoint.region)


@lru_cache(maxsize=8)
def pool_of(endpoint: Endpoint) -> "PoolManager":
    """Return a client's connection pool, for requests it cannot make; raise OSError if CA_BUNDLE cannot be read."""
    import urllib3  # only where s3:// is used: urllib3 and the client take 0.3 s to import

    bundle = endpoint.ca_bundle or os.environ.get("SSL_CERT_FILE")
    if bundle:
        try:
            with open(bundle, "rb"):  # noqa: PTH123 - otherwise a missing file shows up as a failed connection
                pass
        except OSError as error:
            name = "CA_BUNDLE" if endpoint.ca_bundle else "SSL_CERT_FILE"
            raise OSError(error.errno, f"{name} is {bundle!r}: {error.strerror}") from error
    proxy = proxy_of(endpoint.url or "")
    pool: Callable[..., PoolManager] = partial(urllib3.ProxyManager, proxy) if proxy else urllib3.PoolManager
    return pool(
        maxsize=CONNECTIONS,
        timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
        # MinIO sends "retry after 60 s" for a damaged object too; keep the last response, which has the cause.
        retries=urllib3.Retry(
            total=2,
            backoff_factor=0.2,
            status_forcelist=[500, 502, 503, 504],
            respect_retry_after_header=False,
            raise_on_status=False,
        ),
        ca_certs=bundle,
        server_hostname=endpoint.server_name,
    )


def proxy_of(url: str) -> str:
    """Return the proxy for a URL by HTTPS_PROXY, HTTP_PROXY and NO_PROXY; empty: none, as for this machine itself."""
    from urllib.request import getproxies_environment, proxy_bypass

    parts = urlsplit(url)
    is_direct = parts.hostname in ("127.0.0.1", "::1", "localhost") or proxy_bypass(parts.netloc)
    return "" if is_direct else getproxies_environment().get(parts.scheme, "")


def tls_context() -> ssl.SSLContext:
    """Return a TLS context: system CAs plus CA_BUNDLE; raise OSError if that cannot be read."""
    trusted = ssl.create_default_context()
    if bundle := os.environ.get("CA_BUNDLE"):
        try:
            trusted.load_verify_locations(bundle)
        except OSError as error:  # ssl.SSLError too
            raise OSError(error.errno, f"CA_BUNDLE is {bundle!r}: {error.strerror}") from error
    return trusted


def code_of(error: BaseException | None) -> str:
    """Return the S3 code of an error, such as NoSuchKey, or else its HTTP status; empty if it has neither."""
    from minio.error import MinioException

    if not isinstance(error, MinioException):
        return ""
    if code := getattr(error, "code", None):  # S3Error
        return str(code)
    text = str(error)  # some servers send XML as text/xml, which the client does not parse
    found = re.search(r"<Code>(\w+)</Code>", text) or re.search(r"(?:Response|status) code:? (\d+)", text)
    return found[1] if found else ""


def is_missing(error: Exception) -> bool:
    """Whether the error means that there is no such object."""
    return code_of(error) in ("NoSuchKey", "404")


def is_passing(error: Exception) -> bool:
    """Whether the error is transient: the server is unreachable or busy, or the connection broke."""
    from urllib3.exceptions import HTTPError, LocationParseError, SSLError

    if isinstance(error, HTTPError):
        return not isinstance(getattr(error, "reason", error), SSLError | LocationParseError)
    code = code_of(error)
    return code in _PASSING or code in ("500", "502", "503", "504")


def is_unreadable(error: Exception) -> bool:
    """Whether the endpoint has the object but cannot read it; MinIO has one code for damage and overload."""
    return code_of(error) == "SlowDownRead"


def explain(error: Exception, endpoint: Endpoint) -> str:
    """Return what an error means and what to do, without secrets."""
    from urllib3.exceptions import HTTPError, SSLError

    code, user = code_of(error), endpoint.access_key
    if isinstance(error, HTTPError):
        reason = getattr(error, "reason", None) or error
        said = re.sub(r"^.*?(?:object at 0x[0-9a-f]+>: |\): )", "", _one_line(reason))
        if isinstance(reason, SSLError):
            return f"no trust in {endpoint.url} ({said}); CA_BUNDLE names the file of certificates to trust"
        return f"{endpoint.url} does not answer ({said}); check AWS_ENDPOINT_URL, and that the store runs"
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidArgument") and user:
        return f"{endpoint.url} refuses the user {user} ({code}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if user is None and code != "NoSuchBucket":
        return f"{endpoint.url} wants a user ({code}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if code in ("AccessDenied", "403"):
        return f"the user {user} may not do this; check its policy (`python -m runner store init` sets it) and its key"
    if code == "NoSuchBucket":
        return "there is no such bucket; `python -m runner store init` makes it, or correct its name"
    if code == "RequestTimeTooSkewed":
        server = getattr(getattr(error, "response", None), "headers", {}).get("Date", "unknown")
        return (
            f"the clocks differ too much: here it is {datetime.now(UTC):%a, %d %b %Y %H:%M:%S} GMT, at the store "
            f"{server}; set this machine's clock"
        )
    if code in ("AuthorizationHeaderMalformed", "PermanentRedirect"):
        return f"{endpoint.url} wants another region ({_one_line(error)}); set AWS_DEFAULT_REGION"
    if is_unreadable(error):
        return "the store cannot read it: it is damaged there, or the disks are overloaded; restore or add it again"
    if code in _FULL or code == "507":
        return f"the store is full ({code}); make room on its disk, or raise the quota"
    message = getattr(error, "message", None) or _one_line(error)
    return f"{code or type(error).__name__}: {message}"


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300]
