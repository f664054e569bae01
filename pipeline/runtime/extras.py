"""How the packages of an extra are installed: not from an index by the name `softlabel`, which is nobody's there."""


def how_to_install(extra: str) -> str:
    """The commands, for a message.

    Args:
        extra: one of `[project.optional-dependencies]` in pyproject.toml.
    """
    return f"`pip install -e '.[{extra}]'` in softlabel's folder, or `pip install './FILE.whl[{extra}]'` with its wheel"
