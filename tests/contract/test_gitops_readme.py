import re
from urllib.parse import urlsplit

from runner.__main__ import _parser
from tests.contract.test_gitops_references import PLATFORMS, ROW, made, objects
from tests.contract.test_names import commands
from tests.support import gitops

SECRET = re.compile(r"'secretKeyRef': \{[^{}]*'name': '([\w-]+)'")
TEXT = (gitops.GITOPS / "README.md").read_text(encoding="utf-8")


def test_the_tree_shows_every_folder_of_gitops() -> None:
    shown = re.findall(r"^[├└]── ([a-z-]+)/", TEXT, re.MULTILINE)
    assert sorted(shown) == sorted(path.name for path in gitops.GITOPS.iterdir() if path.is_dir())


def test_the_table_of_waves_is_what_argocd_gets() -> None:
    told = {
        (int(wave), name)
        for wave, names in re.findall(r"^\| (\d) \| (.*?) \|", TEXT, re.MULTILINE)
        for name in re.findall(r"`([a-z-]+)`", names)
    }
    found = {
        (int(obj["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]), obj["metadata"]["name"])
        for platform in PLATFORMS
        for obj in gitops.leaf(f"argocd/overlays/{platform}").of_kind("Application", "ApplicationSet")
    }
    assert told == found


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    headings = {
        re.sub(r"[^a-z -]", "", line.lower()).strip().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", TEXT, re.M)
    }
    for link in links:
        if link.startswith("#"):
            assert link[1:] in headings, link
        elif "://" not in link:
            assert (gitops.GITOPS / link).exists(), link


def test_every_secret_that_nothing_makes_has_a_command_that_does() -> None:
    for row in ROW.finditer(TEXT):
        line = next(line for line in TEXT.splitlines() if line.startswith(row[0]))
        assert re.search(rf"`kubectl -n [<a-z>-]+ create secret [a-z-]+ {row['name']} ", line), row["name"]
    for platform in PLATFORMS:  # the optional ones too
        named = [(obj["metadata"].get("namespace"), SECRET.findall(str(obj))) for obj in objects(platform)]
        assert {("Secret", namespace, name) for namespace, names in named for name in names} <= made(platform)


def test_the_forge_tells_argocd_at_the_path_and_with_the_key_of_pin() -> None:
    urls = [
        obj["data"].get("ARGOCD_WEBHOOK_URL")
        for obj in gitops.leaf("pipelines/overlays/kubernetes").of_kind("ConfigMap")
    ]
    assert [f"`https://<argocd-server>{urlsplit(url).path}`" in TEXT for url in urls if url] == [True]
    copied = (gitops.GITOPS / "credentials/tables/argocd.txt").read_text(encoding="utf-8").splitlines()[-1].split()
    assert (
        f"`{copied[-1]}` of `{copied[-2]}`:\n\n    oc -n {copied[0].replace('/', ' extract secret/')} --keys=secret"
        in TEXT
    )


def test_every_command_of_ours_is_known() -> None:
    makefile = (gitops.PROJECT / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"`make ([a-z-]+)", TEXT)) <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"python -m runner ([a-z-]+)", TEXT)) <= {word for word, _ in commands(_parser())}
