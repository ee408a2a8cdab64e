"""Data sets and long sequences: the numbers of one batch, and the memory that they take."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from adding_problem.task.data_sets import AddingDataset, AddingStream, LongSequences
from adding_problem.task.sampling import sample_batch, sample_batch_numpy
from adding_problem.task.variants import Task
from tests.helpers.tasks import NOISY, VARIANTS


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_share_a_stream_without_loss_or_repeat(workers: int) -> None:
    stream = AddingStream(4, 10, seed=8, n_batches=7)
    loaded = torch.cat([x for x, _ in DataLoader(stream, batch_size=None, num_workers=workers)])
    assert torch.equal(loaded, sample_batch(28, 10, seed=8)[0])


def test_a_data_loader_over_the_map_style_set() -> None:
    data = AddingDataset(10, 6, seed=9)
    loaded = torch.cat([y for _, y in DataLoader(data, batch_size=4)])
    assert torch.equal(loaded, sample_batch(10, 6, seed=9)[1])


@pytest.mark.parametrize(
    "task", NOISY + [Task(variant=variant) for variant in VARIANTS], ids=lambda task: task.title
)
def test_long_sequences_are_the_same_numbers(task: Task) -> None:
    for length in (22, 45, 101):
        x, y = sample_batch_numpy(6, length, seed=3, start=4, task=task)
        long = LongSequences(6, length, seed=3, start=4, task=task)
        assert np.array_equal(long.targets, y)
        for steps in (1, 16, 40, 500):
            assert np.array_equal(np.concatenate(list(long.inputs(steps)), axis=1), x)


def test_a_large_draw_needs_little_more_memory_than_its_result() -> None:
    tracemalloc.start()
    data = AddingDataset(20_000, 250, seed=11)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data) * 250 * 4 < peak < 3 * len(data) * 250 * 4
