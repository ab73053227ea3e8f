"""Another environment takes two folders of serving/ and four files, as gitops/README.md says."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import yaml

from tests.support import gitops

LIKE, NEW = "staging", "qa"
LISTS = "cluster/environments/kustomization.yaml"


def naming(root: Path, environment: str) -> list[str]:
    """Return the files outside of serving/ that name an environment."""
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".md"]
    named = [
        path for path in files if re.search(rf"(flywheel|server)-{environment}\b", path.read_text(encoding="utf-8"))
    ]
    return sorted(path.relative_to(root).as_posix() for path in named if root / "serving" not in path.parents)


def add(root: Path) -> None:
    """Add an environment to a copy of gitops/, that is as another one."""
    for folder in (root / "serving/environments", *(root / "serving/overlays").iterdir()):
        shutil.copytree(folder / LIKE, folder / NEW)
        path = folder / NEW / "kustomization.yaml"
        path.write_text(path.read_text().replace(LIKE, NEW))
    for name in naming(root, LIKE):
        path = root / name
        if name == LISTS:
            path.write_text(yaml.safe_dump(with_another(gitops.load(path))))
        else:
            documents = path.read_text().removesuffix("\n").split("\n---\n")
            documents += [each.replace(LIKE, NEW) for each in documents if LIKE in each]
            path.write_text("\n---\n".join(documents) + "\n")


def with_another(lists: gitops.Manifest) -> gitops.Manifest:
    """Return the lists with a line more in each, or a word more in a line that names all environments."""
    for patch in lists["patches"]:
        operations = []
        for each in yaml.safe_load(patch["patch"]):
            text = yaml.safe_dump(each, width=1000)
            if "ENVIRONMENTS" in text:
                operations.append(yaml.safe_load(text.replace(LIKE, f"{LIKE} {NEW}")))
            else:
                operations += [each, *([yaml.safe_load(text.replace(LIKE, NEW))] if LIKE in text else [])]
        patch["patch"] = yaml.safe_dump(operations)
    return lists


def words(texts: list[str], environment: str) -> Counter[str]:
    """Count the names that end in an environment's, with its own taken out."""
    names = rf"\S*(?:flywheel-|server-|ENVIRONMENT: ){environment}\b\S*"
    return Counter(name.replace(environment, "<environment>") for text in texts for name in re.findall(names, text))


def test_an_environment_stands_in_four_files_beside_its_own_folders() -> None:
    for environment in gitops.environments():
        if environment != "prod":  # which is synced by hand too
            assert len(naming(gitops.GITOPS, environment)) <= 4, naming(gitops.GITOPS, environment)
    readme = (gitops.GITOPS / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| another environment \|.*$", readme, re.MULTILINE)
    assert set(re.findall(r"`([\w./-]+\.yaml)`", row)) == set(naming(gitops.GITOPS, LIKE))


def test_it_is_wherever_another_one_is_when_it_was_added(tmp_path: Path) -> None:
    root = gitops.copy_with(gitops.SAMPLE, tmp_path)
    before = [gitops.render_text(root / path) for path in gitops.leaf_paths(root)]
    add(root)
    assert NEW in gitops.environments(root)
    after = [gitops.render_text(root / path) for path in gitops.leaf_paths(root)]
    assert words(before, LIKE)
    assert words(before, NEW) == Counter()
    assert words(after, NEW) == words(after, LIKE) == words(before, LIKE)
    (job,) = gitops.render("credentials", root).of_kind("Job")
    settings = {each["name"]: each["value"] for each in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert sorted(settings["ENVIRONMENTS"].split()) == gitops.environments(root)
