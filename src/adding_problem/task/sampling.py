"""The adding problem: what a sequence is, how it is drawn, and what the constant predictor scores.

A sequence is T pairs (value, mark). The value is drawn uniformly; the mark is 0 but at two random steps, where it is 1.
The target is the sum of the two marked values, or their difference, their product or the first of them. Variants:

    any      values U[0, 1), two distinct steps anywhere (Le, Jaitly & Hinton 2015, section 4.1)
    halves   values U[0, 1), one mark in each half (Arjovsky et al. 2016; most of the later literature)
    hs1997   Hochreiter & Schmidhuber 1997, section 5.4, experiment 4: values U[-1, 1); length uniform on
             T..T + T//10; one mark among the first ten pairs, another among the first T//2 - 1; the first and
             the last mark are -1, and a marked first pair counts as zero; target 0.5 + (X1 + X2) / 4, likewise
             0.5 + f(X1, X2) / 4 for the other targets. The sequences
             stand at the end of T + T//10 steps, zeros before them, so that every one ends at the last step.

Beside value and mark may stand columns of U[0, 1) noise, and all columns may be mixed: value and mark exchanged, or the
vector of every step turned by a rotation, x_t Q.

Letters: n sequences, T length, W = `sequence_width(T, variant)` steps (W = T but for hs1997), K marked steps,
C = 2 + noise columns.

Item i of a stream depends on (seed, i, T, task) alone, however it is batched: a counter-based generator (Philox 4x64,
Salmon et al. 2011) gives every item its own range of counters, so that a batch of consecutive items is one bulk draw.
Noise has a stream of its own: values, marks and targets are the same with it and without.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from adding_problem.task.variants import MIN_LENGTH, Target, Task, Variant, target_moments

__all__ = [
    "HIT_TOLERANCE",
    "AddingDataset",
    "AddingStream",
    "LongSequences",
    "Task",
    "affordable",
    "batches",
    "constant_predictor_mse",
    "constant_predictor_standard_error",
    "evaluation_batch",
    "sample_batch",
    "sample_batch_numpy",
    "sequence_width",
    "unmixed",
]

HIT_TOLERANCE = 0.04
"""A prediction within this distance of the target counts as right (Hochreiter & Schmidhuber 1997)."""

_PLAIN = Task()
_VARIANT_ID = {
    "any": 0,
    "halves": 1,
    "hs1997": 2,
}  # spawn keys: to number them anew would change every sequence
_MARKERS = {
    "any": (1.0, 1.0),
    "halves": (1.0, 1.0),
    "hs1997": (
        1.0,
        1.0,
        -1.0,
        -1.0,
    ),  # written in this order: a -1 at the first pair hides a mark there
}
_NOISE_ID, _ROTATION_ID = 1, 2  # likewise
_HEADER_WORDS = (
    4  # one Philox block of 64-bit words for positions and length, before the values of an item
)
_BLOCK_WORDS = 4
_BLOCK_NUMBERS = 2 * _BLOCK_WORDS  # float32 numbers of a block
_EVALUATION_STEPS = (
    1 << 18
)  # sequence-steps per batch: 100 MB of torch's LSTM outputs at hidden=100
_BULK_STEPS = (
    1 << 20
)  # most steps drawn at once, so that long streams need little memory beside their result

Float32 = NDArray[np.float32]


class _Sequences(NamedTuple):
    """Drawn sequences in compact form.

    Values (n, W) float32, noise (n, W, C - 2) float32, positions (n, K) int64, targets (n, 1) float32.
    """

    values: Float32
    noise: Float32
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
    task: Task = _PLAIN,
    device: torch.device | str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Items ``start .. start + n - 1`` of the stream of a seed.

    Args:
        n: number of sequences, at least 1.
        length: T, at least 2 (22 for hs1997).
        seed: root seed of the stream, at least 0.
        start: index of the first item, at least 0.
        task: variant, target, noise columns and mix.
        device: where the tensors go; None is the CPU.

    Returns:
        x, float32 (n, W, C), values, marks and noise; y, float32 (n, 1), targets.

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

        Six columns of noise, and a target that depends on the order of the marks:

        >>> x, y = sample_batch(64, 1000, seed=0, task=Task(target="difference", noise_columns=6))
        >>> x.shape
        torch.Size([64, 1000, 8])
    """
    x, y = sample_batch_numpy(n, length, seed=seed, start=start, task=task)
    return torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)


def sample_batch_numpy(
    n: int, length: int, *, seed: int, start: int = 0, task: Task = _PLAIN
) -> tuple[Float32, Float32]:
    """`sample_batch` as NumPy arrays.

    Examples:
        >>> x, y = sample_batch_numpy(2, 10, seed=0)
        >>> x.dtype, x.shape, y.shape
        (dtype('float32'), (2, 10, 2), (2, 1))
    """
    drawn = _draw(n, length, seed, start, task)
    return _assemble(drawn.values, drawn.noise, drawn.positions, task), drawn.targets


def batches(
    n: int,
    length: int,
    *,
    seed: int,
    batch: int,
    start: int = 0,
    task: Task = _PLAIN,
    device: torch.device | str | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Items ``start .. start + n - 1`` in their order, `batch` at a time, each batch drawn when it is asked for."""
    for first in range(start, start + n, batch):
        size = min(batch, start + n - first)
        yield sample_batch(size, length, seed=seed, start=first, task=task, device=device)


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

    Held compactly, without the marks; inputs are put together when a batch is asked for.

    Args:
        n, length, seed, start, task: as for `sample_batch`.

    Examples:
        >>> from torch.utils.data import DataLoader
        >>> data = AddingDataset(1000, 50, seed=0)
        >>> x, y = next(iter(DataLoader(data, batch_size=32, shuffle=True)))
        >>> x.shape, y.shape
        (torch.Size([32, 50, 2]), torch.Size([32, 1]))
    """

    def __init__(
        self, n: int, length: int, *, seed: int, start: int = 0, task: Task = _PLAIN
    ) -> None:
        _check_arguments(n, length, seed, start, task.variant)
        self.task = task
        width, marks = sequence_width(length, task.variant), len(_MARKERS[task.variant])
        self._values = np.empty((n, width), np.float32)
        self._noise = np.empty((n, width, task.noise_columns), np.float32)
        self._positions = np.empty((n, marks), np.int64)
        self._targets = np.empty((n, 1), np.float32)
        chunk = max(1, _BULK_STEPS // width)
        for first in range(0, n, chunk):
            part = slice(first, min(first + chunk, n))
            drawn = _draw(part.stop - first, length, seed, start + first, task)
            self._values[part], self._noise[part] = drawn.values, drawn.noise
            self._positions[part], self._targets[part] = drawn.positions, drawn.targets

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.batch([range(len(self))[index]])
        return x[0], y[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """What `torch.utils.data.DataLoader` calls for a batch."""
        x, y = self.batch(indices)
        return list(zip(x, y, strict=True))

    def batch(
        self, indices: Sequence[int] | NDArray[np.int64]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The sequences of these indices: x float32 (len(indices), W, C), y float32 (len(indices), 1)."""
        index = np.asarray(indices)
        x = _assemble(self._values[index], self._noise[index], self._positions[index], self.task)
        return torch.from_numpy(x), torch.from_numpy(self._targets[index])


class AddingStream(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """An endless (or n-batch) stream of fresh batches; give it to a `DataLoader` with ``batch_size=None``.

    Batch k holds items ``k * batch .. (k + 1) * batch - 1``. With W workers, worker w makes the batches
    w, w + W, ...: together they give every batch once, in the order of a single process.

    Args:
        batch: sequences per batch.
        n_batches: number of batches; None is endless.
        length, seed, task: as for `sample_batch`.

    Examples:
        >>> from torch.utils.data import DataLoader
        >>> stream = AddingStream(16, 50, seed=0, n_batches=3)
        >>> [len(x) for x, y in DataLoader(stream, batch_size=None)]
        [16, 16, 16]
    """

    def __init__(
        self,
        batch: int,
        length: int,
        *,
        seed: int,
        n_batches: int | None = None,
        task: Task = _PLAIN,
    ) -> None:
        _check_arguments(batch, length, seed, 0, task.variant)
        self.batch, self.length, self.seed, self.n_batches = batch, length, seed, n_batches
        self.task = task

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = get_worker_info()
        index, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        while self.n_batches is None or index < self.n_batches:
            start = index * self.batch
            yield sample_batch(self.batch, self.length, seed=self.seed, start=start, task=self.task)
            index += stride


class LongSequences:
    """Sequences that need not fit into memory: their targets, and their inputs a stretch of steps at a time.

    The same numbers as `sample_batch` gives.

    Args:
        n, length, seed, start, task: as for `sample_batch`.

    Attributes:
        targets: float32 (n, 1).

    Examples:
        >>> long = LongSequences(4, 100_000, seed=0)
        >>> [len(x[0]) for x in long.inputs(40_000)]
        [40000, 40000, 20000]
    """

    def __init__(
        self, n: int, length: int, *, seed: int, start: int = 0, task: Task = _PLAIN
    ) -> None:
        _check_arguments(n, length, seed, start, task.variant)
        self._n, self._length, self._seed, self._start, self._task = n, length, seed, start, task
        self._key = _stream_key(seed, length, task.variant)
        self._width = sequence_width(length, task.variant)
        items = range(start, start + n)
        headers = _stretch_words(items, _HEADER_WORDS, self._width, self._key, 0, 1)
        self._positions, self._begin = _places(headers, length, task.variant)
        in_order = np.sort(self._positions[:, :2], axis=1)
        marked = np.array(
            [
                [self._value_of(item, step) for step in steps]
                for item, steps in enumerate(in_order.tolist())
            ]
        )
        self.targets = _targets(marked, in_order, self._begin, task)

    def inputs(self, steps: int) -> Iterator[Float32]:
        """Float32 (n, up to `steps`, C) one after the other, W steps in all; `steps` is rounded up to a multiple of 8."""
        n, task, steps = self._n, self._task, -(-steps // _BLOCK_NUMBERS) * _BLOCK_NUMBERS
        items, columns = range(self._start, self._start + n), task.noise_columns
        noise_key = _stream_key(self._seed, self._length, task.variant, _NOISE_ID)
        for first in range(0, self._width, steps):
            size = min(steps, self._width - first)
            values = _stretch(items, _HEADER_WORDS, self._width, self._key, first, size)
            noise = _stretch(
                items, 0, self._width * columns, noise_key, first * columns, size * columns
            )
            yield _assemble(
                _scaled(values, first, self._begin, task.variant),
                noise.reshape(n, size, columns),
                self._positions - first,
                task,
            )

    def _value_of(self, item: int, step: int) -> np.float32:
        first = step // _BLOCK_NUMBERS * _BLOCK_NUMBERS
        items = range(self._start + item, self._start + item + 1)
        values = _stretch(items, _HEADER_WORDS, self._width, self._key, first, step - first + 1)
        scaled: np.float32 = _scaled(
            values, first, self._begin[item : item + 1], self._task.variant
        )[0, -1]
        return scaled


def constant_predictor_mse(task: Task = _PLAIN, length: int = 1000) -> float:
    """Mean squared error of the best constant answer: the variance of the target.

    1/6 for the sum and the difference in `any` and `halves`, at every length; the other closed forms: `target_moments`.

    Args:
        task: of which variant and target matter.
        length: T; matters to hs1997 alone.

    Examples:
        >>> round(constant_predictor_mse(), 4)
        0.1667
        >>> round(constant_predictor_mse(Task(target="product")), 4)
        0.0486
    """
    return target_moments(task, length).second


def constant_predictor_standard_error(n: int, task: Task = _PLAIN, length: int = 1000) -> float:
    """Standard error of `constant_predictor_mse` when it is estimated from n sequences.

    Args:
        n: number of sequences.
        task, length: as for `constant_predictor_mse`.

    Examples:
        >>> round(constant_predictor_standard_error(10_000), 4)
        0.002
    """
    return target_moments(task, length).standard_error(n)


# --- drawing ---------------------------------------------------------------------------------------------------------


def _draw(n: int, length: int, seed: int, start: int, task: Task) -> _Sequences:
    _check_arguments(n, length, seed, start, task.variant)
    width = sequence_width(length, task.variant)
    words = _item_words(n, _HEADER_WORDS, width, start, _stream_key(seed, length, task.variant))
    positions, begin = _places(words, length, task.variant)
    values = _scaled(_uniform_float32(words[:, _HEADER_WORDS:], width), 0, begin, task.variant)
    in_order = np.sort(positions[:, :2], axis=1)
    targets = _targets(np.take_along_axis(values, in_order, axis=1), in_order, begin, task)
    return _Sequences(values, _noise(n, width, length, seed, start, task), positions, targets)


def _targets(
    marked: Float32, in_order: NDArray[np.int64], begin: NDArray[np.int64], task: Task
) -> Float32:
    """Targets (n, 1) of marked values (n, 2) at their steps (n, 2), both in the order of the steps."""
    if task.variant == "hs1997":
        marked = np.where(in_order == begin[:, None], np.float32(0), marked)
        return np.float32(0.5) + _target(marked, task.target)[:, None] / np.float32(4)
    return _target(marked, task.target)[:, None]


def _target(marked: Float32, target: Target) -> Float32:
    """What is asked of the marked values (n, 2), in the order of their steps: (n,)."""
    match target:
        case "sum":
            return marked[:, 0] + marked[:, 1]
        case "difference":
            return marked[:, 0] - marked[:, 1]
        case "product":
            return marked[:, 0] * marked[:, 1]
        case "first":
            return marked[:, 0]


def _noise(n: int, width: int, length: int, seed: int, start: int, task: Task) -> Float32:
    """U[0, 1) noise (n, W, C - 2), the columns of a step beside each other."""
    numbers = width * task.noise_columns
    if not numbers:
        return np.empty((n, width, 0), np.float32)
    words = _item_words(n, 0, numbers, start, _stream_key(seed, length, task.variant, _NOISE_ID))
    return _uniform_float32(words, numbers).reshape(n, width, task.noise_columns)


def _uniform_float32(words: NDArray[np.uint64], numbers: int) -> Float32:
    """U[0, 1) from random words (n, ...): (n, numbers), two of a word, each the 24 bits of a float32."""
    halves = words.astype("<u8", copy=False).view("<u4")[:, :numbers]
    uniform = (halves >> np.uint32(8)).astype(np.float32)
    uniform *= np.float32(2.0**-24)
    return uniform


def _stream_key(seed: int, length: int, variant: Variant, *part: int) -> NDArray[np.uint64]:
    """The 128-bit key of the generator of a stream, or of a part of it."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_VARIANT_ID[variant], length, *part))
    return sequence.generate_state(2, np.uint64).astype(np.uint64, copy=False)


def _item_words(
    n: int, header: int, numbers: int, start: int, key: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Random 64-bit words of items from `start` on, in one draw: a header, then half a word for each number."""
    blocks = _blocks(header, numbers)
    # NumPy advances the counter before it makes a block, so that block b comes from counter b + 1 everywhere.
    philox = np.random.Philox(key=key, counter=start * blocks)
    return philox.random_raw(n * blocks * _BLOCK_WORDS).reshape(n, blocks * _BLOCK_WORDS)


def _blocks(header: int, numbers: int) -> int:
    """Blocks of an item with so many words of header and so many numbers."""
    return (header + (numbers + 1) // 2 + _BLOCK_WORDS - 1) // _BLOCK_WORDS


def _stretch_words(
    items: range, header: int, numbers: int, key: NDArray[np.uint64], first_block: int, blocks: int
) -> NDArray[np.uint64]:
    """A stretch of the words of `_item_words`: so many blocks of every item, from one on."""
    begins = (item * _blocks(header, numbers) + first_block for item in items)
    return np.stack(
        [
            np.random.Philox(key=key, counter=begin).random_raw(blocks * _BLOCK_WORDS)
            for begin in begins
        ]
    )


def _stretch(
    items: range, header: int, numbers: int, key: NDArray[np.uint64], first: int, size: int
) -> Float32:
    """U[0, 1) numbers first, ..., first + size - 1 of every item, (items, size); `first` begins a block."""
    if not size:
        return np.empty((len(items), 0), np.float32)
    first_block = header // _BLOCK_WORDS + first // _BLOCK_NUMBERS
    words = _stretch_words(items, header, numbers, key, first_block, _blocks(0, size))
    return _uniform_float32(words, size)


def _pick(uniform: NDArray[np.float64], choices: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Uniform whole numbers below `choices`."""
    return (uniform * choices).astype(np.int64)


def _pick_other(
    uniform: NDArray[np.float64], choices: int, taken: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Uniform whole numbers below `choices` other than `taken`, which may also lie beyond `choices`."""
    picked = _pick(uniform, choices - (taken < choices))
    return picked + (picked >= taken)


def _places(
    words: NDArray[np.uint64], length: int, variant: Variant
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Steps of the markers (n, K), the two marks first, and the first step of each sequence (n,).

    Args:
        words: random words (n, ...) of which the header is taken.
        length: T.
        variant: of the task.
    """
    uniform = (words[:, :_HEADER_WORDS] >> np.uint64(11)).astype(np.float64)
    uniform *= 2.0**-53  # the 53 bits of a float64 in [0, 1)
    begin = np.zeros(len(words), np.int64)
    match variant:
        case "any":
            first = _pick(uniform[:, 0], length)
            return np.stack([first, _pick_other(uniform[:, 1], length, first)], axis=1), begin
        case "halves":
            first = _pick(uniform[:, 0], length // 2)
            second = length // 2 + _pick(uniform[:, 1], length - length // 2)
            return np.stack([first, second], axis=1), begin
        case "hs1997":
            width = sequence_width(length, variant)
            begin = _pick(uniform[:, 2], width - length + 1)  # the length is width - begin
            first = _pick(uniform[:, 0], 10)
            second = _pick_other(uniform[:, 1], length // 2 - 1, first)
            end = np.full_like(begin, width - 1)
            return np.stack([begin + first, begin + second, begin, end], axis=1), begin


def _scaled(values: Float32, step: int, begin: NDArray[np.int64], variant: Variant) -> Float32:
    """U[0, 1) values (n, steps) from `step` on as the variant has them; hs1997 has zeros before the sequence."""
    if variant != "hs1997":
        return values
    values = values * np.float32(2) - np.float32(1)
    values[step + np.arange(values.shape[1]) < begin[:, None]] = 0
    return values


def _assemble(values: Float32, noise: Float32, positions: NDArray[np.int64], task: Task) -> Float32:
    """Inputs (n, W, C): values (n, W), the variant's markers at positions (n, K), noise (n, W, C - 2); then mixed."""
    x = np.zeros((*values.shape, task.width), np.float32)
    x[:, :, 0] = values
    for column, marker in enumerate(_MARKERS[task.variant]):
        (rows,) = np.nonzero((positions[:, column] >= 0) & (positions[:, column] < values.shape[1]))
        x[rows, positions[rows, column], 1] = marker
    x[:, :, 2:] = noise
    match task.mix:
        case "none":
            return x
        case "swap":
            return np.ascontiguousarray(x[:, :, _swapped(task.width)])
        case "rotate":
            return _rotated(x, _rotation(task).astype(np.float32))


def unmixed(x: Float32, task: Task) -> Float32:
    """Inputs (..., C) as they were before the mix: value, mark, noise; likewise gradients by them and rows of weights."""
    match task.mix:
        case "none":
            return x
        case "swap":
            return x[..., _swapped(task.width)]
        case "rotate":
            return _rotated(x, _rotation(task).T.astype(np.float32))


def _swapped(width: int) -> list[int]:
    return [1, 0, *range(2, width)]


def _rotated(x: Float32, rotation: Float32) -> Float32:
    """x Q, column by column: a matrix product may round an item differently in another batch."""
    turned: Float32 = x[..., :1] * rotation[0]
    for row, column in zip(rotation[1:], range(1, x.shape[-1]), strict=True):
        turned += x[..., column, None] * row
    return turned


@functools.cache
def _rotation(task: Task) -> NDArray[np.float64]:
    """A rotation Q (C, C), evenly distributed: Gram and Schmidt's method on rows of normal numbers, determinant 1."""
    width = task.width
    philox = np.random.Philox(key=_stream_key(task.mix_seed, width, "any", _ROTATION_ID))
    uniform = ((philox.random_raw(2 * width * width) >> np.uint64(11)) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log(uniform[0::2])), 2 * np.pi * uniform[1::2]
    rotation: NDArray[np.float64] = (radius * np.cos(angle)).reshape(
        width, width
    )  # normal numbers, by Box and Muller
    for index in range(width):
        for before in range(index):
            rotation[index] -= (rotation[index] @ rotation[before]) * rotation[before]
        rotation[index] /= np.sqrt(rotation[index] @ rotation[index])
    if np.linalg.det(rotation) < 0:
        rotation[0] *= -1
    return rotation


def _check_arguments(n: int, length: int, seed: int, start: int, variant: Variant) -> None:
    if variant not in MIN_LENGTH:
        raise ValueError(f"variant: expected one of {', '.join(MIN_LENGTH)}, found {variant!r}")
    bounds = [
        ("n", n, 1),
        ("length", length, MIN_LENGTH[variant]),
        ("seed", seed, 0),
        ("start", start, 0),
    ]
    for name, value, least in bounds:
        if value < least:
            raise ValueError(
                f"{name}: expected at least {least} for the variant {variant!r}, found {value}"
            )
