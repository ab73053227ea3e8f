"""What docs/releases.md declares of models of other families, and the models that `make libreyolo` makes."""

import re
from typing import Any

import yaml

from tests.conftest import PROJECT
from tests.support.processes import CACHE

MODELS = CACHE / "libreyolo" / "models"


def _declared() -> dict[str, dict[str, Any]]:
    """Return the declarations of the page, by family, so that what is documented is what is tested."""
    page = (PROJECT / "docs" / "releases.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n# (yolox|dfine|rfdetr)\.yaml.*?\n(.*?)```", page, re.DOTALL)
    return {family: yaml.safe_load(text) for family, text in blocks}


DECLARATIONS = _declared()
