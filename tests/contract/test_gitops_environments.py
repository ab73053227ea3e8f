"""Another environment takes two folders of serving/ and four files, as gitops/README.md says."""

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
    compared = root / "serving/components/compared/kustomization.yaml"
    (line,) = re.findall(rf"^.*flywheel-{LIKE}.*\n", compared.read_text(), re.MULTILINE)
    compared.write_text(compared.read_text().replace(line, line + line.replace(LIKE, NEW)))
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


def words(leaf: gitops.Leaf, environment: str) -> Counter[str]:
    """Count the names that end in an environment's, with its own taken out."""
    names = rf"[^\s']*(?:flywheel-|server-|ENVIRONMENT': '){environment}\b[^\s']*"
    return Counter(name.replace(environment, "<environment>") for name in re.findall(names, str(leaf.objects)))


def test_the_files_that_name_an_environment_are_those_of_the_readme() -> None:
    (row,) = re.findall(r"^\| another environment \|.*$", (gitops.GITOPS / "README.md").read_text(), re.MULTILINE)
    told = set(re.findall(r"`([\w./-]+\.yaml)`", row))
    assert naming(gitops.GITOPS, LIKE) == sorted(told)
    for environment in gitops.environments():
        if environment != "prod":  # which is synced by hand too
            assert set(naming(gitops.GITOPS, environment)) <= told


def test_it_is_wherever_another_one_is_when_it_was_added(tmp_path: Path) -> None:
    root = gitops.template(tmp_path)
    before = {leaf.path: words(leaf, LIKE) for leaf in gitops.leaves()}
    add(root)
    assert NEW in gitops.environments(root)
    paths = [path for path in gitops.leaf_paths(root) if before.get(path, True)]  # the others name no environment
    after = [gitops.render(path, root) for path in paths]
    wanted = sum(before.values(), Counter[str]())
    assert wanted
    assert not sum((words(leaf, NEW) for leaf in gitops.leaves()), Counter[str]())
    for environment in (LIKE, NEW):
        assert sum((words(leaf, environment) for leaf in after), Counter[str]()) == wanted
    (job,) = gitops.render("credentials", root).of_kind("Job")
    settings = {each["name"]: each["value"] for each in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert sorted(settings["ENVIRONMENTS"].split()) == gitops.environments(root)
