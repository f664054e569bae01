"""Changes by bytes, of any kind of file: flipped bits, numbers that are too large, parts cut out, repeated or moved."""

import random
from collections.abc import Callable, Sequence

NUMBERS = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**60, 2**63 - 1, 2**63, 2**64 - 1)
MOST_CHANGES = 4
LONGEST = 64
"""Bytes of a part that is cut out, repeated or random; now and then a whole file is."""


def changed(seeds: Sequence[bytes], words: Sequence[bytes], number: int) -> bytes:
    """One of the seeds after one to four changes.

    Args:
        seeds: contents of files.
        words: bytes that mean something in such files.
        number: what the changes are drawn from; the same number gives the same bytes.
    """
    chance = random.Random(number)  # noqa: S311
    content = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, MOST_CHANGES)):
        chance.choice(CHANGES)(content, chance)
        if words and chance.random() < 0.3:
            _put(content, chance.choice(words), chance)
        if chance.random() < 0.1:
            _put(content, _part(chance.choice(seeds), chance), chance)
    return bytes(content)


def _flip(content: bytearray, chance: random.Random) -> None:
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _any_byte(content: bytearray, chance: random.Random) -> None:
    if content:
        content[chance.randrange(len(content))] = chance.randrange(256)


def _number(content: bytearray, chance: random.Random) -> None:
    """Writes a number that programs forget, in one of the usual sizes, over what is there."""
    size = chance.choice((1, 2, 4, 8))
    number = (chance.choice(NUMBERS) + chance.randint(-1, 1)) % 2 ** (8 * size)
    place = chance.randrange(max(len(content) - size, 0) + 1)
    content[place : place + size] = number.to_bytes(size, chance.choice(("little", "big")))


def _cut_out(content: bytearray, chance: random.Random) -> None:
    place, size = _place_and_size(content, chance)
    del content[place : place + size]


def _cut_off(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content) + 1) :]


def _repeat(content: bytearray, chance: random.Random) -> None:
    place, size = _place_and_size(content, chance)
    content[place:place] = content[place : place + size] * chance.choice((1, 1, 1, 2, 100))


def _move(content: bytearray, chance: random.Random) -> None:
    place, size = _place_and_size(content, chance)
    part = content[place : place + size]
    del content[place : place + size]
    _put(content, part, chance)


def _insert(content: bytearray, chance: random.Random) -> None:
    _put(content, chance.randbytes(chance.randint(1, LONGEST)), chance)


CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip, _flip, _any_byte, _any_byte, _number, _number),
    *(_cut_out, _cut_off, _repeat, _move, _insert),
)
"""What happens most in nature stands twice."""


def _put(content: bytearray, part: bytes | bytearray, chance: random.Random) -> None:
    """Writes a part into the content, or over what is there."""
    place = chance.randrange(len(content) + 1)
    content[place : place + (len(part) if chance.random() < 0.5 else 0)] = part


def _part(content: bytes, chance: random.Random) -> bytes:
    place, size = _place_and_size(content, chance)
    return content[place : place + size]


def _place_and_size(content: bytes | bytearray, chance: random.Random) -> tuple[int, int]:
    longest = len(content) if chance.random() < 0.1 else LONGEST
    return chance.randrange(len(content) + 1), chance.randint(1, max(longest, 1))
