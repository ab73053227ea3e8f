"""References between values of the configuration: `${another.key}`, and nothing else in `${…}`.

Resolvers of OmegaConf and Hydra, such as `${oc.env:NAME}`, would read the environment of the process that composes a
commit's files, and the commit's author need not be allowed to. They are looked for before Hydra, OmegaConf or DVC see
a text, because these resolve early: Hydra in `defaults` and in names of files, DVC in params.yaml when it overrides.
Grammar: https://omegaconf.readthedocs.io/en/2.3_branch/grammar.html (a resolver's name may be a reference itself).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from runner.errors import ConfigError
from runner.workspace import CONF

EXPECTED = "expected ${another.key}"
RESOLVERS = (
    *("oc.env", "oc.decode", "oc.create", "oc.deprecated", "oc.select", "oc.dict.keys", "oc.dict.values"),
    *("hydra", "now", "python_version"),
)
_MOST_VALUES = 100_000  # of a file, as often as aliases repeat them
_SUSPECT = re.compile(r"[$\\&]|hydra")  # without one, or an escape that makes one, a text has nothing to refuse
_REFERENCE = re.compile(r"\$\{\.*[A-Za-z_][\w-]*(?:\.[\w-]+|\[\w+\])*\}")


def has_resolver(text: object) -> bool:
    """Whether `${` begins anything but a reference to a key."""
    return "${" in _REFERENCE.sub("", str(text))


@contextmanager
def no_resolvers() -> Iterator[None]:
    """Take every resolver from OmegaConf until the block ends, for files that were not looked at before.

    A preset may name a file as its default that `refuse_resolvers_in_presets` does not list, such as a hidden one.
    """
    for name in RESOLVERS:
        OmegaConf.clear_resolver(name)
    try:
        yield
    finally:
        OmegaConf.clear_resolvers()  # and register its own again


def refuse_resolvers(file: Path, name: Path) -> None:
    """Raise ConfigError with the line if a key or value of a YAML file has a resolver, or it sets Hydra up.

    It is raised too where aliases repeat so much that nobody can read it all. `name` stands for the file in the
    message. A file that is not YAML is checked as far as it is.
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
    if root is not None and _values_in(root, {}) > _MOST_VALUES:
        raise ConfigError(f"{name}: its aliases (*name) make more than {_MOST_VALUES:,} values, expected fewer")
    for key, _ in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "hydra":  # its searchpath names folders elsewhere
            raise ConfigError(f"{name}:{key.start_mark.line + 1}: found hydra, expected sections of the schema alone")


def _values_in(node: yaml.Node, known: dict[int, float]) -> float:
    """Return how many values a node has, those of an alias counted each time; infinite where it has itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        nodes = (each for item in inner for each in (item if isinstance(item, tuple) else (item,)))
        known[id(node)] = 1 + sum(_values_in(each, known) for each in nodes)
    return known[id(node)]


def refuse_resolvers_in_presets(project: Path) -> None:
    """Do so for every file of conf/; hidden ones are of editors and tools."""
    for file in sorted((project / CONF).rglob("*.yaml")):
        if not file.name.startswith("."):
            refuse_resolvers(file, file.relative_to(project))
