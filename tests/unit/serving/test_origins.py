import pytest

from serving.origins import is_foreign, parse_origins, parse_urls


@pytest.mark.parametrize("text", [None, "", " , ,"])
def test_none_when_nothing_is_named(text: str | None) -> None:
    assert parse_urls(text) == parse_origins(text) == ()


def test_written_as_browsers_do_when_they_are_named() -> None:
    text = "HTTPS://A.Example.org:443/, http://127.0.0.1:8080 ,https://b.example.org:8443"
    origins = ("https://a.example.org", "http://127.0.0.1:8080", "https://b.example.org:8443")
    assert parse_origins(text) == origins
    assert parse_urls(text) == tuple(f"{origin}/" for origin in origins)
    assert parse_urls("https://a.example.org/Vision/x/") == ("https://a.example.org/Vision/x/",)


@pytest.mark.parametrize(
    "text",
    [
        *("*", "https://*", "https://*.example.org", "null", "a.example.org", "//a.example.org", "javascript:alert(1)"),
        *("https://user:secret@a.example.org", "https://a.example.org?x", "https://a.example.org#x", "ftp://a.org"),
        *("https://a.org; script-src *", "https://a.org 'unsafe-inline'", "https://a.org\nx", "https://a.org:0"),
        *("https://a.org:70000", "https://a.org/'x'", "https://a.org/;x", "https://$(APPS_DOMAIN)", "https://ä.org"),
    ],
)
def test_refused_when_it_is_no_address_of_one_server(text: str) -> None:
    for parse in (parse_urls, parse_origins):
        with pytest.raises(ValueError, match="expected"):
            parse(text)


def test_refused_when_an_origin_has_a_path() -> None:
    with pytest.raises(ValueError, match=r"a\.example\.org/x"):
        parse_origins("https://a.example.org/x")


@pytest.mark.parametrize(
    ("foreign", "headers"),
    [
        (False, {}),  # curl
        (False, {"sec-fetch-site": "same-origin", "origin": "https://dev.example.org"}),
        (False, {"sec-fetch-site": "same-origin", "origin": "https://dev.example.org", "host": "model:8080"}),
        (False, {"sec-fetch-site": "none"}),  # typed by a person
        (False, {"sec-fetch-site": "same-site", "origin": "https://known.example.org"}),
        (False, {"origin": "http://model:8080", "host": "model:8080"}),
        (False, {"origin": "http://public", "host": "model:8080", "x-forwarded-host": "public"}),
        (True, {"sec-fetch-site": "cross-site", "origin": "https://a.org"}),
        (True, {"sec-fetch-site": "cross-site"}),
        (True, {"sec-fetch-site": "same-site", "origin": "https://known.example.org.evil.org"}),
        (True, {"sec-fetch-site": "cross-site", "origin": "null"}),
        (True, {"origin": "null", "host": "null"}),
        (True, {"origin": "http://model:8081", "host": "model:8080"}),
        (True, {"origin": "http://a.org"}),
    ],
)
def test_foreign_when_a_browser_says_so_and_the_origin_is_not_allowed(foreign: bool, headers: dict[str, str]) -> None:
    assert is_foreign(headers, ("https://known.example.org",)) is foreign
