"""Many sequences: fixed and endless data sets for a `DataLoader`, batches, and long sequences.

Letters as in `sampling`: n sequences, T length, W steps, C columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from adding_problem.task import philox
from adding_problem.task.philox import Float32
from adding_problem.task.sampling import (
    HEADER_WORDS,
    Sequences,
    assemble,
    check_arguments,
    draw,
    noise_key,
    place,
    sample_batch,
    scale,
    sequence_width,
    targets_of,
    values_key,
)
from adding_problem.task.variants import DEFAULT_TASK, Task

__all__ = [
    "AddingDataset",
    "AddingStream",
    "LongSequences",
    "affordable",
    "batches",
    "evaluation_batch",
]

# Sequence-steps of a batch: the outputs of torch's LSTM with 100 cells then take 100 MB.
_EVALUATION_STEPS = 1 << 18
# Most steps drawn at once: a long data set needs little memory beside its result.
_BULK_STEPS = 1 << 20


class AddingDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A fixed set of n sequences, map-style: item i is item i of the stream of the seed.

    Held in compact form, without the marks; inputs are assembled when a batch is asked for.

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
        self, n: int, length: int, *, seed: int, start: int = 0, task: Task = DEFAULT_TASK
    ) -> None:
        check_arguments(n, length, seed, start, task)
        self.task = task
        self._sequences = Sequences.empty(n, length, task)
        chunk = max(1, _BULK_STEPS // sequence_width(length, task.variant))
        for first in range(0, n, chunk):
            drawn = draw(min(chunk, n - first), length, seed, start + first, task)
            self._sequences.fill(first, drawn)

    def __len__(self) -> int:
        return len(self._sequences.targets)

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
        """The sequences of m indices: x float32 (m, W, C), y float32 (m, 1)."""
        chosen = self._sequences.take(np.asarray(indices))
        return torch.from_numpy(chosen.inputs(self.task)), torch.from_numpy(chosen.targets)


class AddingStream(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """An endless (or n-batch) stream of new batches; use a `DataLoader` with ``batch_size=None``.

    Batch k holds items ``k * batch .. (k + 1) * batch - 1``. With W workers, worker w makes the
    batches w, w + W, ...: together they give every batch once, in the order of a single process.

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
        task: Task = DEFAULT_TASK,
    ) -> None:
        check_arguments(batch, length, seed, 0, task)
        self.batch, self.length, self.seed, self.n_batches = batch, length, seed, n_batches
        self.task = task

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = get_worker_info()
        index, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        while self.n_batches is None or index < self.n_batches:
            start = index * self.batch
            yield sample_batch(self.batch, self.length, seed=self.seed, start=start, task=self.task)
            index += stride


def batches(
    n: int,
    length: int,
    *,
    seed: int,
    batch: int,
    start: int = 0,
    task: Task = DEFAULT_TASK,
    device: torch.device | str | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Items ``start .. start + n - 1`` in order, `batch` at a time; each batch is drawn lazily."""
    for first in range(start, start + n, batch):
        size = min(batch, start + n - first)
        yield sample_batch(size, length, seed=seed, start=first, task=task, device=device)


def evaluation_batch(length: int) -> int:
    """Sequences per batch without gradients: 2^18 steps in all, at least 16, at most 512.

    Up to T = 16,384 the outputs of torch's LSTM with 100 cells then take about 100 MB. Fewer than
    16 sequences would be slow.
    """
    return max(16, min(512, _EVALUATION_STEPS // length))


def affordable(wanted: int, length: int, *, steps: int, fewest: int) -> int:
    """How many of the wanted sequences to score: at most `steps` steps, but at least `fewest`."""
    return min(wanted, max(fewest, steps // length))


class LongSequences:
    """Sequences that need not fit into memory: targets, and inputs a stretch of steps at a time.

    The numbers are those of `sample_batch`.

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
        self, n: int, length: int, *, seed: int, start: int = 0, task: Task = DEFAULT_TASK
    ) -> None:
        check_arguments(n, length, seed, start, task)
        self._items, self._task = range(start, start + n), task
        self._width = sequence_width(length, task.variant)
        self._key = values_key(seed, length, task.variant)
        self._noise_key = noise_key(seed, length, task.variant)
        headers = philox.words_between(self._items, HEADER_WORDS, self._width, self._key, 0, 1)
        self._positions, self._begin = place(headers, length, task.variant)
        in_order = np.sort(self._positions[:, :2], axis=1)
        marked = np.array(
            [
                [self._value_at(index, step) for step in steps]
                for index, steps in enumerate(in_order.tolist())
            ]
        )
        self.targets = targets_of(marked, in_order, self._begin, task)

    def inputs(self, steps: int) -> Iterator[Float32]:
        """Stretches of float32 (n, up to `steps`, C), W steps in all.

        Args:
            steps: of a stretch; rounded up to a multiple of 8.
        """
        steps = -(-steps // philox.BLOCK_NUMBERS) * philox.BLOCK_NUMBERS
        columns = self._task.noise_columns
        for first in range(0, self._width, steps):
            size = min(steps, self._width - first)
            values = self._values(slice(None), first, size)
            noise = philox.numbers_between(
                self._items,
                0,
                self._width * columns,
                self._noise_key,
                first * columns,
                size * columns,
            ).reshape(len(self._items), size, columns)
            yield assemble(values, noise, self._positions - first, self._task)

    def _value_at(self, index: int, step: int) -> np.float32:
        first = step // philox.BLOCK_NUMBERS * philox.BLOCK_NUMBERS
        value: np.float32 = self._values(slice(index, index + 1), first, step - first + 1)[0, -1]
        return value

    def _values(self, part: slice, first: int, size: int) -> Float32:
        """Values first .. first + size - 1 of some of the sequences."""
        numbers = philox.numbers_between(
            self._items[part], HEADER_WORDS, self._width, self._key, first, size
        )
        return scale(numbers, first, self._begin[part], self._task.variant)
