"""The random words of a view, computed from the paper alone."""

import hashlib


def philox_4x64(counter, key):
    """Ten rounds of Philox-4x64 as published by Salmon et al. (SC 2011), on Python's integers."""
    mask = 2**64 - 1
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(second >> 64) ^ c[1] ^ k[0], second & mask, (first >> 64) ^ c[3] ^ k[1], first & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return c


def words_by_hand(count, *key):
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    halves = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")
    blocks = [philox_4x64([number, 0, 0, 0], halves) for number in range(1, count // 4 + 2)]
    return [word for block in blocks for word in block][:count]


def fractions_by_hand(*key, count=16):
    """The first numbers from 0 to 1 of one view; sixteen, if nothing else is said."""
    return [(word >> 11) / 2**53 for word in words_by_hand(count, *key)]
