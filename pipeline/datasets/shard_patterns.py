"""Which files are the shards of each split: names, braces and wildcards as users of WebDataset write them."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.datasets.folders import is_left_by_a_system
from pipeline.datasets.labelled import refuse_leaving
from pipeline.images.index import SplitName
from pipeline.runtime.errors import MissingError, ParameterError, UnusableError, all_named

BRACES = re.compile(r"\{(?:(?P<first>\d+)\.\.(?P<last>\d+)|(?P<words>[^{}]*,[^{}]*))\}")
WILDCARDS = set("*?[")
MOST_SHARDS = 1_000_000
"""More names than this in one pattern are taken for a mistake."""


def shards_of(
    data: Path, patterns: Mapping[SplitName, Sequence[str] | None], extension: str
) -> dict[SplitName, list[Path]]:
    """The shards of each split that has patterns, sorted.

    Args:
        data: the folder of the data set.
        patterns: names of shards relative to `data`, with wildcards (`*`), or braces (`{000..146}`, `{a,b}`) as users
            of WebDataset write them; None is no shard.
        extension: how the names of shards end.

    Raises:
        MissingError: a shard is missing, or no shard fits a pattern.
        ParameterError: a pattern has too many names.
        UnusableError: a shard has another extension, belongs to two splits, or is a link that leaves the data set.
    """
    if not data.is_dir():
        raise MissingError(f"there is no folder {data}. Put the shards there, or correct split.data.")
    found: dict[SplitName, list[Path]] = {}
    for split, of_split in patterns.items():
        if of_split is not None:
            fitting = {shard for pattern in of_split for shard in _matches(data, pattern, split)}
            found[split] = sorted(fitting, key=lambda shard: shard.relative_to(data).as_posix())
    for split, shards in found.items():
        other = [shard.as_posix() for shard in shards if shard.suffix.lower() != extension]
        if other:
            raise UnusableError(
                f"split.{split} names {len(other)} file(s) that do not end in {extension}: {all_named(other)}. "
                "A compressed file cannot be read in place: unpack its compression (gunzip), and name the result."
            )
        for shard in shards:
            refuse_leaving(data, shard, split)
    _refuse_in_two_splits(found)
    return found


def _refuse_in_two_splits(found: Mapping[SplitName, Iterable[Path]]) -> None:
    splits: dict[Path, list[str]] = {}
    for split, shards in found.items():
        for shard in shards:
            splits.setdefault(shard.resolve(), []).append(split)
    twice = [f"{shard.name} ({' and '.join(names)})" for shard, names in splits.items() if len(names) > 1]
    if twice:
        raise UnusableError(
            f"{len(twice)} shard(s) belong to more than one split, or twice to one: {all_named(twice)}. "
            "An image can be in one split only: name each shard once in split.train, split.val and split.test."
        )


def _matches(data: Path, pattern: str, split: SplitName) -> Iterator[Path]:
    for name in _without_braces(pattern):
        if not WILDCARDS & set(name):
            if not (data / name).is_file():
                raise MissingError(
                    f"there is no shard {data / name}. Put it there, or correct split.{split}, which names it."
                )
            yield data / name
            continue
        fitting = [file for file in data.glob(name) if file.is_file() and not is_left_by_a_system(file.name)]
        if not fitting:
            raise MissingError(f"no shard fits {data / name}. Put the shards there, or correct split.{split}.")
        yield from fitting


def _without_braces(pattern: str) -> Iterator[str]:
    """The names that a pattern with braces means: {08..10} is 08, 09, 10, and {a,b} is a, b."""
    parts: list[Sequence[object]] = []
    end = 0
    for braces in BRACES.finditer(pattern):
        parts += [[pattern[end : braces.start()]], _alternatives(braces)]
        end = braces.end()
    parts.append([pattern[end:]])
    count = math.prod(map(len, parts))
    if count > MOST_SHARDS:
        raise ParameterError(
            f"split names {count:,} shards by {pattern!r}; expected at most {MOST_SHARDS:,}. Correct the braces."
        )
    widths = [len(braces["first"] or "") for braces in BRACES.finditer(pattern)]
    for chosen in itertools.product(*parts):
        numbers = iter(widths)
        yield "".join(str(part).zfill(next(numbers)) if place % 2 else str(part) for place, part in enumerate(chosen))


def _alternatives(braces: re.Match[str]) -> Sequence[object]:
    if braces["words"] is not None:
        return braces["words"].split(",")
    first, last = int(braces["first"]), int(braces["last"])
    if first > last:
        raise ParameterError(
            f"split names shards by {braces[0]!r}, which counts down. Expected the smaller number first: "
            f"{{{braces['last']}..{braces['first']}}}."
        )
    return range(first, last + 1)
