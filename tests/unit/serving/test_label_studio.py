"""Pictures of tasks: a hostile list of tasks reaches nothing but what the settings name."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from serving.errors import Refused
from serving.label_studio import Tags, TaskPictures, read_tags
from serving.settings import Settings

Answer = Callable[[BaseHTTPRequestHandler], None]
CONFIG = '<View><Image name="img" value="$photo"/><RectangleLabels name="box" toName="img">{}</RectangleLabels></View>'


class Site(ThreadingHTTPServer):
    """A web server that notes who asks for what."""

    def __init__(self) -> None:
        self.answer: Answer = lambda handler: send(handler, b"a picture")
        self.asked: list[tuple[str, str | None]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers["Authorization"]))
                site.answer(self)

            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                site.asked.append((self.path, sent.get("refresh")))
                send(self, b'{"access": "of minutes"}')

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def sites() -> Iterator[tuple[Site, Site]]:
    """Label Studio, and a server that nobody may ask."""
    both = Site(), Site()
    yield both
    for each in both:
        each.shutdown()
        each.server_close()


def pictures(site: str, **settings: Any) -> TaskPictures:
    given = {"label_studio_url": site, "label_studio_api_key": "geheim", "ml_backend_bucket": "s3://planes/datasets"}
    return TaskPictures(Settings(**(given | settings)))


@pytest.mark.parametrize("prefix", ["", "/labels"])
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/data/upload/1/a%20b.jpg", "/data/upload/1/a%20b.jpg"),
        ("{site}/data/upload/1/ü ü.jpg", "/data/upload/1/%C3%BC%20%C3%BC.jpg"),
        ("/data/local-files/?d=a/b.jpg", "/data/local-files/?d=a/b.jpg"),
        ("/tasks/9/resolve/?fileuri=czM6Ly9h", "/tasks/9/resolve/?fileuri=czM6Ly9h"),
    ],
)
def test_fetched_with_the_token_when_it_is_an_upload(
    name: str, path: str, prefix: str, sites: tuple[Site, Site]
) -> None:
    ours, _ = sites
    site = ours.url + prefix
    assert pictures(f"{site}/").fetch(name.format(site=site)) == b"a picture"
    assert ours.asked == [(prefix + path, "Token geheim")]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "http://{other}/data/upload/1/a.jpg",
            "//{other}/data/a.jpg",
            "///{other}/data/a.jpg",
            "http:/{other}/data/a",
        ),
        *(
            "{site}@{other}/data/a.jpg",
            "{site}.{other}/data/a.jpg",
            "{site}0/data/a.jpg",
            "{site}\\@{other}/data/a.jpg",
        ),
        *("http://geheim@{host}/data/a.jpg", "HTTP://{host}/data/a.jpg", "{site}//{other}/data/a.jpg", "{site}"),
        *(
            "http://169.254.169.254/latest/meta-data/",
            "http://[::1]:80/data/a",
            "gopher://{host}/data/a",
            "ftp://{host}/",
        ),
        *("file:///etc/passwd", "/etc/passwd", "data/a.jpg", "data:image/png;base64,AAAA", "javascript:1", "", "/"),
        *("/api/projects/1", "/logout", "/data", "/data/", "/tasks/9/", "/tasks/x/resolve/", "/tasks/9/resolve/x"),
        *("/data/../api/projects", "/data/%2e%2e/api/projects", "/data/%252e%252e/api", "/data/..%2fapi", "/data/./a"),
        *("/data/..\\api", "/data/a\r\nHost: x", "/data/a\0", "/data/a#b", "/data//a", "/data/\u202ea"),
        *("s3://other/datasets/a.jpg", "s3://planes/captures/a.jpg", "s3://planes/datasets", "s3://planes/datasetsx/a"),
        *("s3://planes/datasets/../models/a", "s3://planes/datasets/%2e%2e/models/a", "s3://planes/datasets/a?b"),
        *("s3://planes@{other}/datasets/a", "S3://planes/datasets/a", "/data/" + "a" * 5_000),
        *(None, 7, True, ["/data/upload/1/a.jpg"], {"url": "/data/upload/1/a.jpg"}),
    ],
)
def test_nobody_asked_when_a_task_names_something_else(name: object, sites: tuple[Site, Site]) -> None:
    ours, other = sites
    if isinstance(name, str):
        host = ours.url.removeprefix("http://")
        name = name.format(site=ours.url, host=host, other=other.url.removeprefix("http://"))
    with pytest.raises(Refused) as refused:
        pictures(ours.url).fetch(name)
    assert (refused.value.status_code, refused.value.reason) == (422, "elsewhere")
    assert ours.asked == other.asked == []


@pytest.mark.parametrize("settings", [{"label_studio_url": None}, {"ml_backend_bucket": None}])
def test_nothing_fetched_when_its_place_is_not_set(settings: dict[str, Any], sites: tuple[Site, Site]) -> None:
    (unset,) = settings
    name = "/data/upload/1/a.jpg" if unset == "label_studio_url" else "s3://planes/datasets/a.jpg"
    with pytest.raises(Refused, match="expected an upload"):
        pictures(sites[0].url, **settings).fetch(name)
    assert sites[0].asked == []


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(10_000))
    except OSError:
        pass


def dripping(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.05)
    except OSError:
        pass


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (endless, 413),
        (dripping, 503),
        (lambda handler: send(handler, b"", 404), 422),
        (lambda handler: handler.connection.close(), 503),
    ],
)
def test_given_up_when_label_studio_answers_oddly(answer: Answer, status: int, sites: tuple[Site, Site]) -> None:
    sites[0].answer = answer
    with pytest.raises(Refused) as refused:
        pictures(sites[0].url, max_picture_bytes=50_000, upload_seconds=0.2).fetch("/data/upload/1/a.jpg")
    assert refused.value.status_code == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_not_followed(status: int, sites: tuple[Site, Site]) -> None:
    ours, other = sites
    ours.answer = lambda handler: send(handler, b"", status, Location=f"{other.url}/data/a.jpg")
    with pytest.raises(Refused) as refused:
        pictures(ours.url).fetch("/data/upload/1/a.jpg")
    assert (refused.value.reason, other.asked) == ("elsewhere", [])


def test_not_inflated_when_compressed(sites: tuple[Site, Site]) -> None:
    sites[0].answer = lambda handler: send(handler, b"no gzip", Content_Encoding="gzip")
    assert pictures(sites[0].url).fetch("/data/upload/1/a.jpg") == b"no gzip"


def test_personal_token_exchanged_once(sites: tuple[Site, Site]) -> None:
    ours, token = sites[0], "eyJh.eyJi.c2ln"
    both = pictures(ours.url, label_studio_api_key=token)
    for _ in range(2):
        both.fetch("/data/a.jpg")
    assert ours.asked == [("/api/token/refresh/", token), *[("/data/a.jpg", "Bearer of minutes")] * 2]


def test_tags_read_when_named_otherwise() -> None:
    tags = read_tags(CONFIG.format('<Label value="a &amp; b"/><Label value="c"/>'))
    assert tags == Tags("box", "img", "photo", frozenset({"a & b", "c"}))


@pytest.mark.parametrize(
    "config",
    [
        "",
        "<View>",
        "<View/>",
        CONFIG.replace("$photo", "http://x/a.jpg"),
        CONFIG.replace('toName="img"', 'toName="other"'),
        '<!DOCTYPE View [<!ENTITY a "aaaa">]>' + CONFIG.format("&a;"),
        CONFIG.format("<a>" * 100_000),
        "\ud800",
    ],
)
def test_refused_when_a_configuration_has_no_boxes(config: str) -> None:
    with pytest.raises(Refused, match="expected a labelling configuration"):
        read_tags(config)
