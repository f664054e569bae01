"""The page: fills the template `page.html` with what the other modules make."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from ruamel.yaml import YAML

TEMPLATE = Path(__file__).with_name("page.html")


def as_yaml(params: Mapping[str, Any]) -> str:
    """Parameters as text in the format of params.yaml."""
    text = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = None  # lists of numbers on one line
    yaml.dump(dict(params), text)
    return text.getvalue()


def filled(**content: Any) -> str:
    """Fills the template; all content but the figures is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE.name).render(**content) + "\n"
