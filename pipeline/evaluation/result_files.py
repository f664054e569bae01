"""Reading files of results: a missing or damaged one is refused, with the command that makes it again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.runtime.errors import DamagedError, MissingError


@contextmanager
def reading(path: Path, what: str, remedy: str, if_missing: str = "") -> Iterator[None]:
    """Turns every error that occurs while a file is read into a message for the user.

    Args:
        path: the file that the block reads.
        what: the content of the file, in the plural: "metrics".
        remedy: how to make the file again, as a sentence.
        if_missing: the same where there is no such file, if that differs.

    Raises:
        MissingError: there is no such file.
        DamagedError: it cannot be read, or does not hold what the block looks for.
    """
    if not path.is_file():
        raise MissingError(f"there are no {what} at {path}. {if_missing or remedy}")
    try:
        yield
    except (OSError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise DamagedError(f"{path} is damaged, its {what} cannot be read: {error!r}. {remedy}") from None
