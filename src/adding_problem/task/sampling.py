"""One batch of the adding problem: what a sequence is and how it is drawn.

A sequence is T pairs (value, mark). Values are uniform. The mark is 1 at two random steps and 0
elsewhere. The target is the sum of the two marked values, or their difference, their product, or
the first of them. Variants:

    any      values U[0, 1); two distinct steps anywhere (Le, Jaitly & Hinton 2015, section 4.1)
    halves   values U[0, 1); one mark in each half (Arjovsky et al. 2016; most later papers)
    hs1997   Hochreiter & Schmidhuber 1997, section 5.4, experiment 4. Values U[-1, 1).
             The length is uniform on T..T + T//10.
             One mark is among the first ten pairs, the other among the first T//2 - 1.
             The first and the last mark are -1, and a marked first pair counts as zero.
             The target is 0.5 + f(X1, X2) / 4, for the sum 0.5 + (X1 + X2) / 4.
             A sequence ends at the last of T + T//10 steps; the steps before it are zeros.

Beside value and mark there may be columns of U[0, 1) noise. All columns may be mixed: value and
mark exchanged, or the vector of every step rotated, x_t Q.

Letters: n sequences, T length, W = `sequence_width(T, variant)` steps (T except in hs1997), K
marked steps, C = 2 + noise columns.

Item i of a stream depends only on (seed, i, T, task), however it is batched; see `philox`. Noise
is a stream of its own: values, marks and targets are the same with and without it.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from adding_problem.task import philox
from adding_problem.task.philox import Float32, Words
from adding_problem.task.variants import DEFAULT_TASK, MIN_LENGTH, Target, Task, Variant

__all__ = [
    "HEADER_WORDS",
    "Sequences",
    "assemble",
    "check_arguments",
    "draw",
    "noise_key",
    "place",
    "sample_batch",
    "sample_batch_numpy",
    "scale",
    "sequence_width",
    "targets_of",
    "unmix",
    "values_key",
]

# Spawn keys: new numbers would change every sequence.
_VARIANT_ID = {"any": 0, "halves": 1, "hs1997": 2}
_NOISE_ID, _ROTATION_ID = 1, 2

# Written in this order: a -1 at the first pair hides a mark there.
_MARKERS = {"any": (1.0, 1.0), "halves": (1.0, 1.0), "hs1997": (1.0, 1.0, -1.0, -1.0)}

HEADER_WORDS = 4
"""Words before the values of an item, for positions and length: one block of the generator."""

Steps = NDArray[np.int64]


class Sequences(NamedTuple):
    """Sequences in compact form, without marks and mix.

    Values (n, W) float32, noise (n, W, C - 2) float32, positions (n, K) int64, targets (n, 1)
    float32.
    """

    values: Float32
    noise: Float32
    positions: Steps
    targets: Float32

    @classmethod
    def empty(cls, n: int, length: int, task: Task) -> Sequences:
        """Arrays to be filled."""
        width = sequence_width(length, task.variant)
        return cls(
            np.empty((n, width), np.float32),
            np.empty((n, width, task.noise_columns), np.float32),
            np.empty((n, len(_MARKERS[task.variant])), np.int64),
            np.empty((n, 1), np.float32),
        )

    def fill(self, first: int, part: Sequences) -> None:
        """Copy other sequences into these, from index `first` on."""
        rows = slice(first, first + len(part.targets))
        self.values[rows], self.noise[rows] = part.values, part.noise
        self.positions[rows], self.targets[rows] = part.positions, part.targets

    def take(self, index: NDArray[np.int64]) -> Sequences:
        """Those of these indices."""
        return Sequences(
            self.values[index], self.noise[index], self.positions[index], self.targets[index]
        )

    def inputs(self, task: Task) -> Float32:
        """Inputs (n, W, C)."""
        return assemble(self.values, self.noise, self.positions, task)


def sequence_width(length: int, variant: Variant = "any") -> int:
    """Number of steps W in an array of sequences of nominal length T."""
    return length + length // 10 if variant == "hs1997" else length


def sample_batch(
    n: int,
    length: int,
    *,
    seed: int,
    start: int = 0,
    task: Task = DEFAULT_TASK,
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

        Item i depends only on the seed and i, however it is batched:

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
    n: int, length: int, *, seed: int, start: int = 0, task: Task = DEFAULT_TASK
) -> tuple[Float32, Float32]:
    """`sample_batch` as NumPy arrays.

    Examples:
        >>> x, y = sample_batch_numpy(2, 10, seed=0)
        >>> x.dtype, x.shape, y.shape
        (dtype('float32'), (2, 10, 2), (2, 1))
    """
    drawn = draw(n, length, seed, start, task)
    return drawn.inputs(task), drawn.targets


def draw(n: int, length: int, seed: int, start: int, task: Task) -> Sequences:
    """`sample_batch` in compact form.

    Raises:
        ValueError: when an argument is out of its range.
    """
    check_arguments(n, length, seed, start, task)
    width = sequence_width(length, task.variant)
    key = values_key(seed, length, task.variant)
    words = philox.item_words(n, HEADER_WORDS, width, start, key)
    positions, begin = place(words, length, task.variant)
    numbers = philox.float32_numbers(words[:, HEADER_WORDS:], width)
    values = scale(numbers, 0, begin, task.variant)
    in_order = np.sort(positions[:, :2], axis=1)
    targets = targets_of(np.take_along_axis(values, in_order, axis=1), in_order, begin, task)
    return Sequences(values, _draw_noise(n, length, seed, start, task), positions, targets)


def check_arguments(n: int, length: int, seed: int, start: int, task: Task) -> None:
    """Raise ValueError unless every argument is in its range."""
    variant = task.variant
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


# --- values, marks, targets, noise ---


def values_key(seed: int, length: int, variant: Variant) -> Words:
    """The key of the stream of values and positions."""
    return philox.stream_key(seed, _VARIANT_ID[variant], length)


def noise_key(seed: int, length: int, variant: Variant) -> Words:
    """The key of the stream of noise."""
    return philox.stream_key(seed, _VARIANT_ID[variant], length, _NOISE_ID)


def _draw_noise(n: int, length: int, seed: int, start: int, task: Task) -> Float32:
    """U[0, 1) noise (n, W, C - 2); the columns of a step are adjacent."""
    width = sequence_width(length, task.variant)
    numbers = width * task.noise_columns
    if not numbers:
        return np.empty((n, width, 0), np.float32)
    words = philox.item_words(n, 0, numbers, start, noise_key(seed, length, task.variant))
    return philox.float32_numbers(words, numbers).reshape(n, width, task.noise_columns)


def place(words: Words, length: int, variant: Variant) -> tuple[Steps, Steps]:
    """Steps of the markers (n, K), the two marks first, and first step of each sequence (n,).

    Args:
        words: random words (n, ...), which begin with the header.
        length: T.
        variant: of the task.
    """
    uniform = (words[:, :HEADER_WORDS] >> np.uint64(11)).astype(np.float64)
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


def _pick(uniform: NDArray[np.float64], choices: int | Steps) -> Steps:
    """Uniform integers below `choices`."""
    return (uniform * choices).astype(np.int64)


def _pick_other(uniform: NDArray[np.float64], choices: int, taken: Steps) -> Steps:
    """Uniform integers below `choices` other than `taken`, which may be beyond `choices`."""
    picked = _pick(uniform, choices - (taken < choices))
    return picked + (picked >= taken)


def scale(values: Float32, step: int, begin: Steps, variant: Variant) -> Float32:
    """Values (n, steps) of the variant, from `step` on, made of U[0, 1) numbers.

    Those of hs1997 are zero before the sequence begins.
    """
    if variant != "hs1997":
        return values
    values = values * np.float32(2) - np.float32(1)
    values[step + np.arange(values.shape[1]) < begin[:, None]] = 0
    return values


def targets_of(marked: Float32, in_order: Steps, begin: Steps, task: Task) -> Float32:
    """Targets (n, 1) of marked values (n, 2) at steps (n, 2), both in the order of the steps."""
    if task.variant == "hs1997":
        marked = np.where(in_order == begin[:, None], np.float32(0), marked)
        return np.float32(0.5) + _combine(marked, task.target)[:, None] / np.float32(4)
    return _combine(marked, task.target)[:, None]


def _combine(marked: Float32, target: Target) -> Float32:
    """f(X1, X2) of marked values (n, 2) in the order of their steps: (n,)."""
    match target:
        case "sum":
            return marked[:, 0] + marked[:, 1]
        case "difference":
            return marked[:, 0] - marked[:, 1]
        case "product":
            return marked[:, 0] * marked[:, 1]
        case "first":
            return marked[:, 0]


# --- inputs and their mix ---


def assemble(values: Float32, noise: Float32, positions: Steps, task: Task) -> Float32:
    """Inputs (n, W, C), mixed.

    Args:
        values: (n, W).
        noise: (n, W, C - 2).
        positions: steps of the variant's markers, (n, K); those outside 0..W - 1 are skipped.
        task: for its markers and mix.
    """
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
            return np.ascontiguousarray(x[:, :, _swap_order(task.width)])
        case "rotate":
            return _rotate(x, _rotation(task).astype(np.float32))


def unmix(x: Float32, task: Task) -> Float32:
    """Inputs (..., C) as they were before the mix: value, mark, noise.

    Serves gradients with respect to the inputs, and rows of input weights, as well.
    """
    match task.mix:
        case "none":
            return x
        case "swap":
            return x[..., _swap_order(task.width)]
        case "rotate":
            return _rotate(x, _rotation(task).T.astype(np.float32))


def _swap_order(width: int) -> list[int]:
    return [1, 0, *range(2, width)]


def _rotate(x: Float32, rotation: Float32) -> Float32:
    """x Q, column by column: a matrix product may round an item differently in another batch."""
    turned: Float32 = x[..., :1] * rotation[0]
    for row, column in zip(rotation[1:], range(1, x.shape[-1]), strict=True):
        turned += x[..., column, None] * row
    return turned


@functools.cache
def _rotation(task: Task) -> NDArray[np.float64]:
    """A uniformly distributed rotation Q (C, C): orthogonal with determinant 1.

    Gram-Schmidt on rows of normal numbers, which are made by the Box-Muller method.
    """
    width = task.width
    key = philox.stream_key(task.mix_seed, _VARIANT_ID["any"], width, _ROTATION_ID)
    words = np.random.Philox(key=key).random_raw(2 * width * width)
    uniform = ((words >> np.uint64(11)) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log(uniform[0::2])), 2 * np.pi * uniform[1::2]
    rotation: NDArray[np.float64] = (radius * np.cos(angle)).reshape(width, width)
    for index in range(width):
        for before in range(index):
            rotation[index] -= (rotation[index] @ rotation[before]) * rotation[before]
        rotation[index] /= np.sqrt(rotation[index] @ rotation[index])
    if np.linalg.det(rotation) < 0:
        rotation[0] *= -1
    return rotation
