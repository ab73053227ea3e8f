"""docs/rotation.md has a section for every Secret that the manifests name, and its commands are a shell's."""

import subprocess

from tests.cluster.test_rotation import BLOCK, BY_THEMSELVES, HEADING, PAGE, secrets_of
from tests.contract.test_gitops_references import PLATFORMS, made
from tests.contract.test_gitops_secret_holders import general


def test_every_secret_has_a_section() -> None:
    told = {pair for heading in HEADING.findall(PAGE) for pair in secrets_of(heading)}
    found = [each for platform in PLATFORMS for each in made(platform) if each[0] == "Secret"]
    assert told == {(general(namespace), general(name)) for _, namespace, name in found}


def test_the_commands_are_a_shells_and_no_secret_is_one_of_their_words() -> None:
    names = [name for name, _ in BLOCK.findall(PAGE)]
    assert {*BY_THEMSELVES, "all", "git", "webhook", "signing"} == set(names)
    text = "\n".join(block for _, block in BLOCK.findall(PAGE))
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
