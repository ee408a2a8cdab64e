"""Sampling against mathematics: marks, values, targets, streams, noise and mix."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adding_problem.task.data_sets import AddingDataset, AddingStream, batches
from adding_problem.task.sampling import sample_batch, sample_batch_numpy, sequence_width, unmix
from adding_problem.task.variants import Task
from tests.helpers.tasks import NOISY, TARGETS, VARIANTS

MANY = 40_000


def marked(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Positions (n, 2) of the marks that are 1; each sequence must have exactly two."""
    marks = x[:, :, 1] == 1
    assert (marks.sum(axis=1) == 2).all()
    return np.nonzero(marks)[1].reshape(len(x), 2)


def test_shapes_and_types() -> None:
    x, y = sample_batch(3, 10, seed=0)
    assert (x.shape, x.dtype, y.shape, y.dtype) == (
        (3, 10, 2),
        torch.float32,
        (3, 1),
        torch.float32,
    )
    assert sample_batch(3, 100, seed=0, task=Task(variant="hs1997"))[0].shape == (3, 110, 2)


def test_two_marks_uniform_over_all_pairs_of_steps() -> None:
    length = 12
    positions = marked(sample_batch_numpy(MANY, length, seed=1)[0])
    pairs = positions[:, 0] * length + positions[:, 1]
    counts = [np.sum(pairs == a * length + b) for a, b in itertools.combinations(range(length), 2)]
    assert sum(counts) == MANY
    assert stats.chisquare(counts).pvalue > 1e-4


def test_marks_are_uniform_in_each_half() -> None:
    length = 11
    positions = marked(sample_batch_numpy(MANY, length, seed=2, task=Task(variant="halves"))[0])
    for column, steps in ((0, range(5)), (1, range(5, 11))):
        counts = [np.sum(positions[:, column] == step) for step in steps]
        assert sum(counts) == MANY
        assert stats.chisquare(counts).pvalue > 1e-4


def test_values_are_uniform_and_independent() -> None:
    values = sample_batch_numpy(2000, 50, seed=3)[0][:, :, 0].astype(np.float64)
    assert stats.kstest(values.ravel(), "uniform").pvalue > 1e-4
    assert values.min() >= 0
    assert values.max() < 1
    for lag_pair in ((values[:, 1:], values[:, :-1]), (values[1:], values[:-1])):
        assert stats.pearsonr(lag_pair[0].ravel(), lag_pair[1].ravel()).pvalue > 1e-4


@pytest.mark.parametrize("variant", ["any", "halves"])
def test_the_target_is_the_sum_of_the_marked_values(variant: Any) -> None:
    x, y = sample_batch_numpy(500, 30, seed=4, task=Task(variant=variant))
    assert np.allclose((x[:, :, 0] * x[:, :, 1]).sum(1, keepdims=True), y, atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(
    length=st.integers(2, 300),
    seed=st.integers(0, 2**64),
    variant=st.sampled_from(["any", "halves"]),
)
def test_marks_of_every_length(length: int, seed: int, variant: Any) -> None:
    x, y = sample_batch_numpy(20, length, seed=seed, task=Task(variant=variant))
    positions = marked(x)
    assert set(np.unique(x[:, :, 1])) <= {0.0, 1.0}
    assert ((y >= 0) & (y < 2)).all()
    if variant == "halves":
        assert (positions[:, 0] < length // 2).all()
        assert (positions[:, 1] >= length // 2).all()


@settings(deadline=None, max_examples=50)
@given(length=st.integers(22, 400), seed=st.integers(0, 2**64))
def test_hochreiter_and_schmidhubers_sequences(length: int, seed: int) -> None:
    x, y = sample_batch_numpy(30, length, seed=seed, task=Task(variant="hs1997"))
    assert x.shape == (30, length + length // 10, 2)
    for pairs, target in zip(x, y[:, 0], strict=True):
        begin = int(np.nonzero(pairs[:, 1])[0][0])
        assert not pairs[:begin].any()
        sequence = pairs[begin:]
        assert length <= len(sequence) <= length + length // 10
        assert sequence[0, 1] == sequence[-1, 1] == -1
        steps = np.nonzero(sequence[:, 1] == 1)[0]
        assert len(steps) in (1, 2)
        assert (
            len(steps) == 2 or steps[0] < length // 2 - 1
        )  # the other mark is hidden under the first pair's -1
        assert len(steps) == 1 or (steps.min() < 10 and steps.max() < length // 2 - 1)
        assert set(np.unique(sequence[:, 1])) <= {-1.0, 0.0, 1.0}
        assert target == pytest.approx(0.5 + sequence[steps, 0].sum() / 4, abs=1e-6)
        assert (np.abs(sequence[:, 0]) <= 1).all()


def test_lengths_of_1997_are_uniform() -> None:
    x, _ = sample_batch_numpy(20_000, 100, seed=5, task=Task(variant="hs1997"))
    begins = (x[:, :, 1] != 0).argmax(axis=1)
    assert stats.chisquare(np.bincount(begins, minlength=11)).pvalue > 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_item_i_is_the_same_in_any_batching(variant: Any) -> None:
    whole = sample_batch_numpy(40, 33, seed=6, task=Task(variant=variant))
    pieces = [
        sample_batch_numpy(n, 33, seed=6, start=s, task=Task(variant=variant))
        for s, n in ((0, 1), (1, 7), (8, 32))
    ]
    data = AddingDataset(30, 33, seed=6, start=10, task=Task(variant=variant))
    streamed = list(AddingStream(8, 33, seed=6, n_batches=5, task=Task(variant=variant)))
    drawn = list(batches(40, 33, seed=6, batch=13, task=Task(variant=variant)))
    for part in (0, 1):
        assert np.array_equal(np.concatenate([piece[part] for piece in pieces]), whole[part])
        assert np.array_equal(data.batch(range(30))[part], whole[part][10:])
        assert np.array_equal(torch.cat([batch[part] for batch in streamed]), whole[part])
        assert np.array_equal(torch.cat([batch[part] for batch in drawn]), whole[part])
        assert np.array_equal(data[-1][part], whole[part][39])


def test_seed_length_and_variant_change_everything() -> None:
    base = sample_batch_numpy(4, 30, seed=0)[0][:, :22, 0]
    others = [
        sample_batch_numpy(4, 30, seed=1)[0],
        sample_batch_numpy(4, 31, seed=0)[0],
        sample_batch_numpy(4, 30, seed=0, task=Task(variant="halves"))[0],
        sample_batch_numpy(4, 30, seed=0, start=1)[0],
    ]
    for other in others:
        assert not np.isclose(other[:, :22, 0], base).any()


def test_known_items_on_every_machine() -> None:
    """Philox 4x64 with ten rounds from its definition (Salmon et al. 2011), in Python integers."""
    mask = 2**64 - 1

    def philox(counter: list[int], key: list[int]) -> list[int]:
        for _ in range(10):
            low, high = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
            counter = [
                (high >> 64) ^ counter[1] ^ key[0],
                high & mask,
                (low >> 64) ^ counter[3] ^ key[1],
                low & mask,
            ]
            key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
        return counter

    item, length = 5, 6
    key = [
        int(k)
        for k in np.random.SeedSequence(7, spawn_key=(0, length)).generate_state(2, np.uint64)
    ]
    words = [word for block in (1, 2) for word in philox([2 * item + block, 0, 0, 0], key)]
    halves = [half for word in words[4:] for half in (word & 0xFFFFFFFF, word >> 32)]
    x, _ = sample_batch_numpy(1, length, seed=7, start=item)
    assert x[0, :, 0].tolist() == [(half >> 8) / 2**24 for half in halves[:length]]
    first = int((words[0] >> 11) / 2**53 * length)
    assert x[0, first, 1] == 1


@pytest.mark.parametrize("variant", ["any", "halves"])
def test_targets_of_the_marked_values_in_order(variant: Any) -> None:
    drawn = {
        target: sample_batch_numpy(500, 30, seed=4, task=Task(variant=variant, target=target))
        for target in TARGETS
    }
    x = drawn["sum"][0]
    assert all(np.array_equal(x, other) for other, _ in drawn.values())
    first, second = np.take_along_axis(
        x[:, :, 0], marked(x), axis=1
    ).T  # nonzero gives the steps in order
    expected = {
        "sum": first + second,
        "difference": first - second,
        "product": first * second,
        "first": first,
    }
    for target, (_, y) in drawn.items():
        assert np.array_equal(y[:, 0], expected[target])


def test_targets_of_1997_count_a_marked_first_pair_as_zero() -> None:
    """From the inputs only: a mark hidden by a -1 counts as zero and is before the other one."""
    for target in TARGETS:
        x, y = sample_batch_numpy(3000, 100, seed=4, task=Task(variant="hs1997", target=target))
        hidden = 0
        for sequence, (answer,) in zip(x, y, strict=True):
            places = np.flatnonzero(sequence[:, 1] == 1)
            first, second = [0.0, *sequence[places, 0]][-2:]
            hidden += len(places) == 1
            result = {
                "sum": first + second,
                "difference": first - second,
                "product": first * second,
                "first": first,
            }
            assert answer == pytest.approx(0.5 + result[target] / 4, abs=1e-6)
        assert 200 < hidden < 500


@pytest.mark.parametrize("task", NOISY, ids=lambda task: f"{task.variant}-{task.mix}")
def test_noise_and_mix_leave_the_sequences_as_they_are(task: Task) -> None:
    plain = sample_batch_numpy(20, 33, seed=6, task=Task(variant=task.variant, target="difference"))
    x, y = sample_batch_numpy(20, 33, seed=6, task=task)
    assert x.shape[2] == 5 and np.array_equal(y, plain[1])
    assert np.allclose(unmix(x, task)[..., :2], plain[0], atol=1e-6)


@pytest.mark.parametrize("task", NOISY, ids=lambda task: f"{task.variant}-{task.mix}")
def test_an_item_with_noise_is_the_same_in_any_batching(task: Task) -> None:
    whole = sample_batch_numpy(40, 33, seed=6, task=task)
    pieces = [
        sample_batch_numpy(n, 33, seed=6, start=s, task=task) for s, n in ((0, 1), (1, 7), (8, 32))
    ]
    data = AddingDataset(30, 33, seed=6, start=10, task=task)
    streamed = list(AddingStream(8, 33, seed=6, n_batches=5, task=task))
    for part in (0, 1):
        assert np.array_equal(np.concatenate([piece[part] for piece in pieces]), whole[part])
        assert np.array_equal(torch.cat([batch[part] for batch in streamed]), whole[part])
        assert np.array_equal(data.batch(range(30))[part], whole[part][10:])


def test_noise_is_uniform_and_depends_on_nothing() -> None:
    task = Task(noise_columns=6)
    x, y = sample_batch_numpy(200, 100, seed=1, task=task)
    noise = x[..., 2:].reshape(-1, 6)
    assert stats.kstest(noise.ravel(), "uniform").pvalue > 1e-3
    everything = np.column_stack([x[..., :2].reshape(-1, 2), noise, np.repeat(y, 100)])
    correlations = np.asarray(np.corrcoef(everything, rowvar=False))
    assert np.abs(correlations[2:8] - np.eye(9)[2:8]).max() < 5 / np.sqrt(len(noise))
    other = sample_batch_numpy(200, 100, seed=2, task=task)[0]
    assert not np.isclose(x[..., 2:], other[..., 2:]).all(axis=2).any()


def test_swap_exchanges_value_and_mark() -> None:
    x, _ = sample_batch_numpy(20, 33, seed=6, task=Task(noise_columns=1))
    swapped, _ = sample_batch_numpy(20, 33, seed=6, task=Task(noise_columns=1, mix="swap"))
    assert np.array_equal(swapped, x[:, :, [1, 0, 2]])


@pytest.mark.parametrize("columns", [0, 1, 6])
def test_a_rotation_is_one_and_every_seed_has_its_own(columns: int) -> None:
    """Orthogonal with determinant 1; the first entries are distributed as Haar measure says."""
    plain, _ = sample_batch_numpy(30, 40, seed=0, task=Task(noise_columns=columns))
    flat, entries = plain.reshape(-1, 2 + columns), []
    for seed in range(200):
        turned, _ = sample_batch_numpy(
            30, 40, seed=0, task=Task(noise_columns=columns, mix="rotate", mix_seed=seed)
        )
        rotation = np.linalg.lstsq(flat, turned.reshape(flat.shape), rcond=None)[0].astype(
            np.float64
        )
        assert np.allclose(rotation @ rotation.T, np.eye(2 + columns), atol=1e-5)
        assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-5)
        entries.append(rotation[0, 0])
    # The square of an entry of a uniform unit vector in n dimensions is Beta(1/2, (n - 1)/2).
    assert stats.kstest(np.square(entries), stats.beta(0.5, (1 + columns) / 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n: expected at least 1"),
        ({"length": 1}, "length: expected at least 2"),
        ({"seed": -1}, "seed: expected"),
        ({"start": -1}, "start: expected"),
        ({"task": Task(variant="hs1997")}, "length: expected at least 22"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_batch(**({"n": 1, "length": 5, "seed": 0} | arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        {"variant": "other"},
        {"target": "total"},
        {"mix": "shuffle"},
        {"noise_columns": -1},
        {"mix_seed": -1},
    ],
)
def test_tasks_that_there_are_not(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}: expected"):
        Task(**arguments)


def test_width() -> None:
    assert [sequence_width(105, variant) for variant in ("any", "halves", "hs1997")] == [
        105,
        105,
        115,
    ]
