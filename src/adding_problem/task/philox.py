"""Random numbers of items: a counter-based generator, Philox 4x64 (Salmon et al. 2011).

Every item of a stream has its own range of counters. So a batch of consecutive items is one bulk
draw, and a stretch of an item can be drawn without the numbers before it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK_NUMBERS",
    "Float32",
    "Words",
    "float32_numbers",
    "item_words",
    "numbers_between",
    "stream_key",
    "words_between",
]

Float32 = NDArray[np.float32]
Words = NDArray[np.uint64]

_BLOCK_WORDS = 4
BLOCK_NUMBERS = 2 * _BLOCK_WORDS
"""Float32 numbers of a block, the unit in which the generator counts."""


def stream_key(seed: int, *spawn_key: int) -> Words:
    """The 128-bit key of the stream that belongs to a seed and a spawn key."""
    sequence = np.random.SeedSequence(seed, spawn_key=spawn_key)
    return sequence.generate_state(2, np.uint64).astype(np.uint64, copy=False)


def item_words(n: int, header: int, numbers: int, start: int, key: Words) -> Words:
    """Random words (n, ...) of n items from `start` on, in one draw.

    Args:
        n: number of items.
        header: words before the numbers of an item.
        numbers: float32 numbers of an item; each takes half a word.
        start: index of the first item.
        key: of the stream.
    """
    blocks = _blocks(header, numbers)
    # NumPy advances the counter before it makes a block: block b always comes from counter b + 1.
    philox = np.random.Philox(key=key, counter=start * blocks)
    return philox.random_raw(n * blocks * _BLOCK_WORDS).reshape(n, blocks * _BLOCK_WORDS)


def words_between(
    items: Iterable[int], header: int, numbers: int, key: Words, first_block: int, blocks: int
) -> Words:
    """The words of `item_words` in `blocks` blocks of every item, from `first_block` on."""
    counters = (item * _blocks(header, numbers) + first_block for item in items)
    return np.stack(
        [
            np.random.Philox(key=key, counter=counter).random_raw(blocks * _BLOCK_WORDS)
            for counter in counters
        ]
    )


def numbers_between(
    items: range, header: int, numbers: int, key: Words, first: int, size: int
) -> Float32:
    """U[0, 1) numbers first .. first + size - 1 of every item, (items, size).

    `first` must be the first number of a block.
    """
    if not size:
        return np.empty((len(items), 0), np.float32)
    first_block = header // _BLOCK_WORDS + first // BLOCK_NUMBERS
    words = words_between(items, header, numbers, key, first_block, _blocks(0, size))
    return float32_numbers(words, size)


def float32_numbers(words: Words, numbers: int) -> Float32:
    """U[0, 1) numbers (n, numbers) from words (n, ...): two from a word, 24 bits each."""
    halves = words.astype("<u8", copy=False).view("<u4")[:, :numbers]
    uniform = (halves >> np.uint32(8)).astype(np.float32)
    uniform *= np.float32(2.0**-24)
    return uniform


def _blocks(header: int, numbers: int) -> int:
    """Blocks of an item with `header` words of header and `numbers` numbers."""
    return (header + (numbers + 1) // 2 + _BLOCK_WORDS - 1) // _BLOCK_WORDS
