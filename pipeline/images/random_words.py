"""Random words by key, from the counter-based generator Philox-4x64 (Salmon et al., SC 2011), one by one or in blocks.

The words depend on the key alone: not on the order of the keys, on their number or on NumPy's distributions.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
KEY_STEPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
ROUNDS = 10
WORDS_OF_A_BLOCK = 4
LOW, HALF = np.uint64(2**32 - 1), np.uint64(32)


def philox_words(count: int, *key: str | int) -> Words:
    """`count` random 64-bit words that depend on the key alone, on every machine and in every version."""
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    words: Words = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)
    return words


def digests_of(seed: int, image_ids: Iterable[str], number: int) -> Words:
    """The SHA-256 of the key (seed, id, number) of each of N images, as four words: (N, 4)."""
    head, tail, sha256 = f"{seed}\0".encode(), f"\0{number}".encode(), hashlib.sha256
    joined = b"".join([sha256(head + image_id.encode() + tail).digest() for image_id in image_ids])
    return np.frombuffer(joined, "<u8").astype(np.uint64).reshape(-1, 4)


def words_of(digests: Words, count: int) -> Words:
    """The words that `philox_words` gives for each of N keys, computed for all of them at once.

    Args:
        digests: (N, 4), the SHA-256 of the keys.
        count: the number of words of each; a multiple of 4.

    Returns:
        (count, N) uint64.
    """
    blocks = count // WORDS_OF_A_BLOCK
    counter = np.arange(1, blocks + 1, dtype=np.uint64)[:, None]  # NumPy's generator counts before its first block
    first = np.repeat(counter, len(digests), axis=1)
    second, third, fourth = np.zeros((3, *first.shape), np.uint64)
    key = [digests[:, 0].copy(), digests[:, 1].copy()]
    for _ in range(ROUNDS):
        high, low = _product(MULTIPLIERS[0], first)
        other_high, other_low = _product(MULTIPLIERS[1], third)
        first, second, third, fourth = other_high ^ second ^ key[0], other_low, high ^ fourth ^ key[1], low
        key = [words + np.uint64(step) for words, step in zip(key, KEY_STEPS, strict=True)]
    return np.stack([first, second, third, fourth], axis=1).reshape(count, len(digests))


def _product(factor: int, words: Words) -> tuple[Words, Words]:
    """The upper and the lower 64 bits of each product, from products of halves."""
    factor_high, factor_low = np.uint64(factor >> 32), np.uint64(factor & 0xFFFFFFFF)
    high, low = words >> HALF, words & LOW
    middle = factor_high * low + (factor_low * low >> HALF)
    other = factor_low * high + (middle & LOW)
    return factor_high * high + (middle >> HALF) + (other >> HALF), np.uint64(factor) * words


def uniform(words: Words) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), one for each word: its upper 53 bits fill a float64's mantissa."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
