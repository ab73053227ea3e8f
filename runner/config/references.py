"""References between values of the configuration: `${another.key}`, and nothing else in `${…}`.

Resolvers of OmegaConf and Hydra, such as `${oc.env:NAME}`, would read the environment of the process that composes a
commit's files, and the commit's author need not be allowed to. They are looked for before Hydra, OmegaConf or DVC see
a text, because these resolve early: Hydra in `defaults` and in names of files, DVC in params.yaml when it overrides.
Grammar: https://omegaconf.readthedocs.io/en/2.3_branch/grammar.html (a resolver's name may be a reference itself).
"""

import re
from pathlib import Path

import yaml

from runner.errors import ConfigError
from runner.workspace import CONF

EXPECTED = "expected ${another.key}"
_SUSPECT = re.compile(r"[$\\]|hydra")  # without one, or an escape that makes one, a text has nothing to refuse
_REFERENCE = re.compile(r"\$\{\.*[A-Za-z_][\w-]*(?:\.[\w-]+|\[\w+\])*\}")


def has_resolver(text: object) -> bool:
    """Whether `${` begins anything but a reference to a key."""
    return "${" in _REFERENCE.sub("", str(text))


def refuse_resolvers(file: Path, name: Path) -> None:
    """Raise ConfigError with the line if a key or value of a YAML file has a resolver, or it sets Hydra up.

    `name` stands for the file in the message. A file that is not YAML is checked as far as it is.
    """
    try:
        text = file.read_text(encoding="utf-8")
        if not _SUSPECT.search(text):
            return
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            if isinstance(event, yaml.ScalarEvent) and has_resolver(event.value):
                where = f"{name}:{event.start_mark.line + 1}" if event.start_mark else str(name)
                raise ConfigError(f"{where}: found {event.value!r}, {EXPECTED}")
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return  # whoever reads it says so
    for key, _ in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "hydra":  # its searchpath names folders elsewhere
            raise ConfigError(f"{name}:{key.start_mark.line + 1}: found hydra, expected sections of the schema alone")


def refuse_resolvers_in_presets(project: Path) -> None:
    """Do so for every file of conf/; hidden ones are of editors and tools."""
    for file in sorted((project / CONF).rglob("*.yaml")):
        if not file.name.startswith("."):
            refuse_resolvers(file, file.relative_to(project))
