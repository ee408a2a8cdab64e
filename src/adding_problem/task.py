"""The adding problem: what a sequence is, how it is drawn, and what the constant predictor scores.

A sequence is T pairs (value, mark). The value is drawn uniformly; the mark is 0 but at two random steps, where it is 1.
The target is the sum of the two marked values. Variants:

    any      values U[0, 1), two distinct steps anywhere (Le, Jaitly & Hinton 2015, section 4.1)
    halves   values U[0, 1), one mark in each half (Arjovsky et al. 2016; most of the later literature)
    hs1997   Hochreiter & Schmidhuber 1997, section 5.4, experiment 4: values U[-1, 1); length uniform on
             T..T + T//10; one mark among the first ten pairs, another among the first T//2 - 1; the first and
             the last mark are -1, and a marked first pair counts as zero; target 0.5 + (X1 + X2) / 4. The sequences
             stand at the end of T + T//10 steps, zeros before them, so that every one ends at the last step.

Letters: n sequences, T length, W = `sequence_width(T, variant)` steps (W = T but for hs1997), K marked steps.

Item i of a stream depends on (seed, i, T, variant) alone, however it is batched: a counter-based generator (Philox 4x64,
Salmon et al. 2011) gives every item its own range of counters, so that a batch of consecutive items is one bulk draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from adding_problem.config import MIN_LENGTH, Variant

__all__ = [
    "HIT_TOLERANCE",
    "AddingDataset",
    "AddingStream",
    "affordable",
    "batches",
    "constant_predictor_mse",
    "constant_predictor_standard_error",
    "evaluation_batch",
    "sample_batch",
    "sample_batch_numpy",
    "sequence_width",
]

HIT_TOLERANCE = 0.04
"""A prediction within this distance of the target counts as right (Hochreiter & Schmidhuber 1997)."""

_VARIANT_ID = {"any": 0, "halves": 1, "hs1997": 2}  # spawn keys: to number them anew would change every sequence
_MARKERS = {
    "any": (1.0, 1.0),
    "halves": (1.0, 1.0),
    "hs1997": (1.0, 1.0, -1.0, -1.0),  # written in this order: a -1 at the first pair hides a mark there
}
_HEADER_WORDS = 4  # one Philox block of 64-bit words for positions and length, before the values of an item
_BLOCK_WORDS = 4
_EVALUATION_STEPS = 1 << 18  # sequence-steps per batch: 100 MB of torch's LSTM outputs at hidden=100
_BULK_STEPS = 1 << 20  # most steps drawn at once, so that long streams need little memory beside their result

Float32 = NDArray[np.float32]


class _Sequences(NamedTuple):
    """Drawn sequences in compact form: values (n, W) float32, positions (n, K) int64, targets (n, 1) float32."""

    values: Float32
    positions: NDArray[np.int64]
    targets: Float32


def sequence_width(length: int, variant: Variant = "any") -> int:
    """Number of steps W in an array of sequences of nominal length T."""
    return length + length // 10 if variant == "hs1997" else length


def sample_batch(
    n: int,
    length: int,
    *,
    seed: int,
    start: int = 0,
    variant: Variant = "any",
    device: torch.device | str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Items ``start .. start + n - 1`` of the stream of a seed.

    Args:
        n: number of sequences, at least 1.
        length: T, at least 2 (22 for hs1997).
        seed: root seed of the stream, at least 0.
        start: index of the first item, at least 0.
        variant: ``any``, ``halves`` or ``hs1997``.
        device: where the tensors go; None is the CPU.

    Returns:
        x, float32 (n, W, 2), values and marks; y, float32 (n, 1), targets.

    Raises:
        ValueError: when an argument is out of its range.

    Examples:
        >>> x, y = sample_batch(64, 1000, seed=0)
        >>> x.shape, y.shape
        (torch.Size([64, 1000, 2]), torch.Size([64, 1]))
        >>> values, marks = x[..., 0], x[..., 1]
        >>> marks.sum(dim=1).unique()  # two marked steps each
        tensor([2.])
        >>> torch.allclose((values * marks).sum(dim=1, keepdim=True), y)
        True

        Item i depends on the seed and i alone, however it is batched:

        >>> torch.equal(sample_batch(1, 1000, seed=0, start=63)[0][0], x[63])
        True
    """
    x, y = sample_batch_numpy(n, length, seed=seed, start=start, variant=variant)
    return torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)


def sample_batch_numpy(
    n: int, length: int, *, seed: int, start: int = 0, variant: Variant = "any"
) -> tuple[Float32, Float32]:
    """`sample_batch` as NumPy arrays.

    Examples:
        >>> x, y = sample_batch_numpy(2, 10, seed=0)
        >>> x.dtype, x.shape, y.shape
        (dtype('float32'), (2, 10, 2), (2, 1))
    """
    drawn = _draw(n, length, seed, start, variant)
    return _assemble(drawn.values, drawn.positions, variant), drawn.targets


def batches(
    n: int, length: int, *, seed: int, batch: int, start: int = 0, variant: Variant = "any",
    device: torch.device | str | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Items ``start .. start + n - 1`` in their order, `batch` at a time, each batch drawn when it is asked for."""
    for first in range(start, start + n, batch):
        size = min(batch, start + n - first)
        yield sample_batch(size, length, seed=seed, start=first, variant=variant, device=device)


def evaluation_batch(length: int) -> int:
    """Sequences per batch when no gradients are needed: 2^18 steps together, but 16 at least, for speed, and 512 at most.

    Up to T = 16,384 torch's outputs of 100 cells then take about 100 MB.
    """
    return max(16, min(512, _EVALUATION_STEPS // length))


def affordable(wanted: int, length: int, *, steps: int, fewest: int) -> int:
    """How many sequences of a length to score: as many as wanted, or so many steps together, but the fewest at least."""
    return min(wanted, max(fewest, steps // length))


class AddingDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A fixed set of n sequences, map-style: item i is item i of the stream of the seed.

    Held compactly, 4 bytes a step instead of 8; pairs are put together when a batch is asked for.

    Args:
        n, length, seed, start, variant: as for `sample_batch`.

    Examples:
        >>> from torch.utils.data import DataLoader
        >>> data = AddingDataset(1000, 50, seed=0)
        >>> x, y = next(iter(DataLoader(data, batch_size=32, shuffle=True)))
        >>> x.shape, y.shape
        (torch.Size([32, 50, 2]), torch.Size([32, 1]))
    """

    def __init__(self, n: int, length: int, *, seed: int, start: int = 0, variant: Variant = "any") -> None:
        _check_arguments(n, length, seed, start, variant)
        self.variant: Variant = variant
        width, marks = sequence_width(length, variant), len(_MARKERS[variant])
        self._values = np.empty((n, width), np.float32)
        self._positions = np.empty((n, marks), np.int64)
        self._targets = np.empty((n, 1), np.float32)
        chunk = max(1, _BULK_STEPS // width)
        for first in range(0, n, chunk):
            part = slice(first, min(first + chunk, n))
            drawn = _draw(part.stop - first, length, seed, start + first, variant)
            self._values[part], self._positions[part], self._targets[part] = drawn

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.batch([range(len(self))[index]])
        return x[0], y[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """What `torch.utils.data.DataLoader` calls for a batch."""
        x, y = self.batch(indices)
        return list(zip(x, y, strict=True))

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """The sequences of these indices: x float32 (len(indices), W, 2), y float32 (len(indices), 1)."""
        index = np.asarray(indices)
        x = _assemble(self._values[index], self._positions[index], self.variant)
        return torch.from_numpy(x), torch.from_numpy(self._targets[index])


class AddingStream(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """An endless (or n-batch) stream of fresh batches; give it to a `DataLoader` with ``batch_size=None``.

    Batch k holds items ``k * batch .. (k + 1) * batch - 1``. With W workers, worker w makes the batches
    w, w + W, ...: together they give every batch once, in the order of a single process.

    Args:
        batch: sequences per batch.
        n_batches: number of batches; None is endless.
        length, seed, variant: as for `sample_batch`.

    Examples:
        >>> from torch.utils.data import DataLoader
        >>> stream = AddingStream(16, 50, seed=0, n_batches=3)
        >>> [len(x) for x, y in DataLoader(stream, batch_size=None)]
        [16, 16, 16]
    """

    def __init__(
        self, batch: int, length: int, *, seed: int, n_batches: int | None = None, variant: Variant = "any"
    ) -> None:
        _check_arguments(batch, length, seed, 0, variant)
        self.batch, self.length, self.seed, self.n_batches = batch, length, seed, n_batches
        self.variant: Variant = variant

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = get_worker_info()
        index, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        while self.n_batches is None or index < self.n_batches:
            start = index * self.batch
            yield sample_batch(self.batch, self.length, seed=self.seed, start=start, variant=self.variant)
            index += stride


def constant_predictor_mse(variant: Variant = "any", length: int = 1000) -> float:
    """Mean squared error of the best constant answer: the variance of the target.

    1/6 for `any` and `halves` at every length. For hs1997, 1/24 less what the rare marked first pair takes away.

    Args:
        variant: ``any``, ``halves`` or ``hs1997``.
        length: T; matters to hs1997 alone.

    Examples:
        >>> round(constant_predictor_mse(), 4)
        0.1667
    """
    return _target_moments(variant, length)[0]


def constant_predictor_standard_error(n: int, variant: Variant = "any", length: int = 1000) -> float:
    """Standard error of `constant_predictor_mse` when it is estimated from n sequences.

    Args:
        n: number of sequences.
        variant, length: as for `constant_predictor_mse`.

    Examples:
        >>> round(constant_predictor_standard_error(10_000), 4)
        0.002
    """
    second, fourth = _target_moments(variant, length)
    return math.sqrt((fourth - second**2) / n)


def _target_moments(variant: Variant, length: int) -> tuple[float, float]:
    """Second and fourth central moment of the target."""
    if variant != "hs1997":
        return 1 / 6, 1 / 15  # the sum of two U[0, 1) is triangular on [0, 2]
    first = 1 / 10  # probability that the first mark stands on the first pair
    second = (1 - first) / (length // 2 - 2)  # ... that the second one does
    both = 1 - first - second
    # Of U[-1, 1): E X^2 = 1/3, E X^4 = 1/5; of the sum of two: E = 2/3 and 2/5 + 6/9.
    return (both * 2 / 3 + (1 - both) / 3) / 4**2, (both * (2 / 5 + 6 / 9) + (1 - both) / 5) / 4**4


# --- drawing ---------------------------------------------------------------------------------------------------------


def _draw(n: int, length: int, seed: int, start: int, variant: Variant) -> _Sequences:
    _check_arguments(n, length, seed, start, variant)
    width = sequence_width(length, variant)
    key = _stream_key(seed, length, variant)
    words = _item_words(n, width, start, key)
    uniform = (words[:, :_HEADER_WORDS] >> np.uint64(11)).astype(np.float64)
    uniform *= 2.0**-53  # the 53 bits of a float64 in [0, 1)
    halves = words[:, _HEADER_WORDS:].astype("<u8", copy=False).view("<u4")[:, :width]
    values = (halves >> np.uint32(8)).astype(np.float32)
    values *= np.float32(2.0**-24)  # the 24 bits of a float32 in [0, 1)
    if variant == "hs1997":
        return _hochreiter_schmidhuber(values, uniform, length)
    positions = _marked_steps(uniform, length, variant)
    targets = np.take_along_axis(values, positions, axis=1).sum(axis=1, keepdims=True)
    return _Sequences(values, positions, targets)


def _stream_key(seed: int, length: int, variant: Variant) -> NDArray[np.uint64]:
    """The 128-bit key of the generator of a stream."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_VARIANT_ID[variant], length))
    return sequence.generate_state(2, np.uint64).astype(np.uint64, copy=False)


def _item_words(n: int, width: int, start: int, key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Random 64-bit words (n, header + values) of items from `start` on, in one draw."""
    blocks = (_HEADER_WORDS + (width + 1) // 2 + _BLOCK_WORDS - 1) // _BLOCK_WORDS
    # NumPy advances the counter before it makes a block, so that block b comes from counter b + 1 everywhere.
    philox = np.random.Philox(key=key, counter=start * blocks)
    return philox.random_raw(n * blocks * _BLOCK_WORDS).reshape(n, blocks * _BLOCK_WORDS)


def _pick(uniform: NDArray[np.float64], choices: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Uniform whole numbers below `choices`."""
    return (uniform * choices).astype(np.int64)


def _pick_other(uniform: NDArray[np.float64], choices: int, taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """Uniform whole numbers below `choices` other than `taken`, which may also lie beyond `choices`."""
    picked = _pick(uniform, choices - (taken < choices))
    return picked + (picked >= taken)


def _marked_steps(uniform: NDArray[np.float64], length: int, variant: Variant) -> NDArray[np.int64]:
    if variant == "halves":
        first = _pick(uniform[:, 0], length // 2)
        return np.stack([first, length // 2 + _pick(uniform[:, 1], length - length // 2)], axis=1)
    first = _pick(uniform[:, 0], length)
    return np.stack([first, _pick_other(uniform[:, 1], length, first)], axis=1)


def _hochreiter_schmidhuber(values: Float32, uniform: NDArray[np.float64], length: int) -> _Sequences:
    n, width = values.shape
    values = values * np.float32(2) - np.float32(1)
    begin = _pick(uniform[:, 2], width - length + 1)  # zeros before it: the length is width - begin
    first = _pick(uniform[:, 0], 10)
    second = _pick_other(uniform[:, 1], length // 2 - 1, first)
    values[np.arange(width) < begin[:, None]] = 0
    positions = np.stack([begin + first, begin + second, begin, np.full(n, width - 1)], axis=1)
    marked = np.take_along_axis(values, positions[:, :2], axis=1)
    marked[positions[:, :2] == begin[:, None]] = 0
    targets = np.float32(0.5) + marked.sum(axis=1, keepdims=True) / np.float32(4)
    return _Sequences(values, positions, targets)


def _assemble(values: Float32, positions: NDArray[np.int64], variant: Variant) -> Float32:
    """Pairs (n, W, 2) of values (n, W) and the variant's markers at positions (n, K)."""
    x = np.zeros((*values.shape, 2), np.float32)
    x[:, :, 0] = values
    rows = np.arange(len(values))
    for column, marker in enumerate(_MARKERS[variant]):
        x[rows, positions[:, column], 1] = marker
    return x


def _check_arguments(n: int, length: int, seed: int, start: int, variant: Variant) -> None:
    if variant not in MIN_LENGTH:
        raise ValueError(f"variant: expected one of {', '.join(MIN_LENGTH)}, found {variant!r}")
    bounds = [("n", n, 1), ("length", length, MIN_LENGTH[variant]), ("seed", seed, 0), ("start", start, 0)]
    for name, value, least in bounds:
        if value < least:
            raise ValueError(f"{name}: expected at least {least} for the variant {variant!r}, found {value}")
