"""gitops/README.md tells what is there: its tree, its table of waves, its links and its Secrets."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from tests.contract.test_gitops_references import ROW
from tests.support import gitops

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
        for platform in ("openshift", "kubernetes")
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


def test_every_supplied_secret_has_a_command_that_makes_it() -> None:
    rows = list(ROW.finditer(TEXT))
    assert {row["name"] for row in rows} == {"git", "webhook", "repository", "registry"}
    for row in rows:
        line = next(line for line in TEXT.splitlines() if line.startswith(row[0]))
        assert re.search(rf"`kubectl -n [<a-z>-]+ create secret [a-z-]+ {row['name']} ", line), row["name"]


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
    for target in set(re.findall(r"`make ([a-z-]+)", TEXT)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    modules = [gitops.PROJECT / "runner/__main__.py", *gitops.PROJECT.glob("runner/*/cli.py")]
    commands = "".join(module.read_text(encoding="utf-8") for module in modules)
    for name in set(re.findall(r"python -m runner ([a-z-]+)", TEXT)):
        assert f'add_parser("{name}"' in commands, name
