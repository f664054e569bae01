"""The one exception that reaches the user as a message instead of a traceback."""


class PipelineError(Exception):
    """Bad input or a mismatch: the text says what happened, what was expected and what to do."""


def one_line(error: object, limit: int = 200) -> str:
    """The text of another library's error for a message: one line of at most `limit` characters."""
    text = str(error) or type(error).__name__
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= limit else f"{line[: limit - 4].rstrip()} ..."


def first_few(items: list[str], limit: int = 5) -> str:
    """Joins the first `limit` items for a message, and says how many were left out."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"
