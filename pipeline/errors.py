"""The one exception that reaches the user as a message instead of a traceback."""


class PipelineError(Exception):
    """Bad input or a mismatch: the text says what happened, what was expected and what to do."""


def first_few(items: list[str], limit: int = 5) -> str:
    """Joins the first `limit` items for a message, and says how many were left out."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"
