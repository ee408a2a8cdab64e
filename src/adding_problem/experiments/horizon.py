"""The horizon of a model: the longest T that it learns to solve within a budget of training.

Every length is a run of its own, with a complete run folder. It starts from the weights that solved
the length before. The configurations of the runs are on disk, so that a cut one can be resumed.
`horizon.json` records every run before it begins. Only recorded runs are ever deleted, see
`runs.collection`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from adding_problem.analysis import plots
from adding_problem.config import RunConfig
from adding_problem.errors import AddingProblemError, BackendError, ModelError, RunFolderError
from adding_problem.evaluation import validate
from adding_problem.experiments.train import train
from adding_problem.runs import atomic_io
from adding_problem.runs.collection import RunsFolder, read_summary
from adding_problem.runs.folder import HORIZON, RunFolder
from adding_problem.runs.records import Budget, HorizonResult, Rung, RunResult, Spent
from adding_problem.system.seeding import stream_seed
from adding_problem.task.data_sets import affordable
from adding_problem.task.thresholds import SOLVED
from adding_problem.training.loop import Listener

__all__ = ["LENGTHS", "PICTURE", "Budget", "Rung", "find_horizon"]

LENGTHS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
"""The lengths that are tried, as far as the budget reaches."""

PICTURE = "horizon.png"
"""What every length cost, drawn into the horizon run's folder."""

_LARGER = 1.01  # times a budget; the time left varies by some seconds, which make no larger budget
_NO_END = 1_000_000  # epochs on fresh sequences, which the budget ends
# Sequence-steps of a validation set and of a test set at most, and their fewest sequences: scoring
# must not outlast training.
_HELD_OUT_STEPS, _FEWEST_HELD_OUT = 10**7, 64
_TEST_STEPS, _FEWEST_TESTED, _MOST_TESTED = 2 * 10**7, 64, 10_000


def find_horizon(
    config: RunConfig,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    lengths: Sequence[int] = LENGTHS,
    overwrite: bool = False,
    following: Callable[[RunConfig], AbstractContextManager[Listener | None]],
    on_refusal: Callable[[AddingProblemError], None] | None = None,
) -> Iterator[Rung]:
    """Train at one length after the other until one is not solved; give each when it is done.

    Where the validation error of a length is below the goal but its test error is not solved, it
    is trained further, to half the goal.

    Leaves in `config.artifacts` a run folder for each length, `horizon.json` and `horizon.png`. A
    horizon run that was cut is resumed: solved lengths are read, a length under way is resumed, and
    one that a smaller budget left unsolved is tried again.

    Args:
        config: of all runs. Set here are `dataset.t`, `curriculum.start`, `train.budget_minutes`,
            `train.budget_steps`, `train.epochs`, `model.start_from`, `model.memory` of an LSTM that
            has none, and, for long sequences, a smaller `dataset.held_out` and
            `validate.dt_length`.
        minutes, steps: the budget of training over all lengths together, in minutes or in
            sequence-steps; one of the two. A training ends with the epoch that reaches it.
        lengths: to try, in rising order.
        overwrite: delete the runs that `horizon.json` records, and begin again.
        following: gives the listener of a length's run.
        on_refusal: is told why the horizon run ends at a length that the model does not accept or
            memory does not hold.

    Raises:
        ConfigError, RunFolderError: see `adding_problem.errors`; the latter also when a run would
            have to be deleted that is not this horizon run's, or a link is in the place of a run.
        ModelError, BackendError: when the first length is refused, or without `on_refusal`.
        ValueError: unless one budget is given.
    """
    rungs: list[Rung] = []
    folder = RunsFolder(config.artifacts, HORIZON)
    begin = _Begin(config, Budget(minutes, steps), folder)
    with folder.locked():
        _require_own_picture(folder)
        if overwrite:
            _forget(begin, lengths)
        for t in sorted(set(lengths)):
            if _left(begin, rungs).is_spent:
                return
            try:
                rungs.append(_train_length(begin, t, rungs, following))
            except (ModelError, BackendError) as error:
                if on_refusal is None or not rungs:
                    raise
                on_refusal(error)
                return
            _leave(begin, rungs)
            yield rungs[-1]
            if not rungs[-1].solved:
                return


@dataclass(frozen=True)
class _Begin:
    """What a horizon run was called with, and its folder."""

    config: RunConfig
    budget: Budget
    folder: RunsFolder


def _train_length(
    begin: _Begin,
    t: int,
    rungs: Sequence[Rung],
    following: Callable[[RunConfig], AbstractContextManager[Listener | None]],
) -> Rung:
    """Train and test at one length; train to half of the goal while the test is not solved."""
    tried = list(rungs)
    while True:
        run = _run_of(begin, t, tried)
        _make_way(begin, run, tried)
        with following(run) as listener:
            result = train(run, resume=True, listener=listener)
        if _outgrown(_run_of(begin, t, tried)):
            continue  # it was cut under a smaller budget and has used that up: there is more now
        tried.append(_rung(run, result, tried))
        if tried[-1].solved or tried[-1].stop_reason != "solved" or _left(begin, tried).is_spent:
            return tried[-1]


def _make_way(begin: _Begin, run: RunConfig, rungs: Sequence[Rung]) -> None:
    """Delete a run of this horizon run that is tried again, and record the run that begins now."""
    name = Path(run.artifacts).name
    if _outgrown(run) or (begin.folder.owns(name) and _bare(run)):
        begin.folder.require_own(name)
        begin.folder.delete([name])
    if not os.path.lexists(RunFolder(run.artifacts).config_copy):
        begin.folder.record(run)
        _write_summary(begin, rungs)


def _left(begin: _Begin, rungs: Sequence[Rung]) -> Budget:
    """The budget without what the lengths so far have taken."""
    return begin.budget.without(rungs[-1]) if rungs else begin.budget


def _require_own_picture(folder: RunsFolder) -> None:
    """Raise RunFolderError if a picture would be replaced that no horizon run has drawn."""
    if os.path.lexists(folder.path / PICTURE) and not read_summary(folder.summary):
        raise RunFolderError(
            folder.path,
            f"holds a file {PICTURE} and no {HORIZON}: a horizon run would replace it",
            "give --artifacts another folder, or move the file away",
        )


def _forget(begin: _Begin, lengths: Sequence[int]) -> None:
    """Delete the horizon run that a folder holds: its recorded runs, and what it says of them.

    Nothing is deleted if a length's folder holds a run that is not the horizon run's.
    """
    for path in begin.folder.path.iterdir():
        first, _, again = path.name.partition("-")  # t100, or a later try such as t100-2
        if first in {f"t{t}" for t in lengths} and (again.isdecimal() or path.name == first):
            begin.folder.require_own(path.name)
    if not read_summary(begin.folder.summary):
        return
    # Before they are deleted, the rungs of these runs leave the summary, which still records them.
    begin.folder.delete(first=lambda: _write_summary(begin, []))
    atomic_io.remove(begin.folder.path / PICTURE)
    _write_summary(begin, [])


def _run_of(begin: _Begin, t: int, rungs: Sequence[Rung]) -> RunConfig:
    """The configuration of a length's run: the one in its folder, or a new one.

    Where the last of the rungs are of this length already, training goes on from these, on other
    sequences and to a lower goal.

    Raises:
        RunFolderError: when a link is in the place of its folder.
    """
    config = begin.config
    again = sum(rung.t == t for rung in rungs)
    folder = begin.folder.run(f"t{t}-{again + 1}" if again else f"t{t}")
    below, goal = rungs[-1] if rungs else None, config.train.stop_val_loss
    left = _left(begin, rungs)
    run = replace(
        config,
        seed=_seed(config.seed, again),
        dataset=replace(
            config.dataset,
            t=t,
            held_out=affordable(
                config.dataset.n_held_out, t, steps=_HELD_OUT_STEPS, fewest=_FEWEST_HELD_OUT
            ),
        ),
        model=replace(
            config.model,
            start_from=below.folder if below else config.model.start_from,
            memory=config.model.memory or (LENGTHS[-1] if config.model.name == "lstm" else None),
        ),
        curriculum=replace(
            config.curriculum,
            start=below.t if below and config.dataset.stream else config.curriculum.start,
        ),
        train=replace(
            config.train,
            budget_minutes=left.minutes,
            budget_steps=left.steps,
            epochs=_NO_END if config.dataset.stream else config.train.epochs,
            stop_val_loss=goal and goal / 2**again,
        ),
        validate=replace(
            config.validate,
            seed=_seed(config.validate.seed, again),
            dt_length=affordable(
                config.validate.dt_length or _MOST_TESTED,
                t,
                steps=_TEST_STEPS,
                fewest=_FEWEST_TESTED,
            ),
        ),
        artifacts=str(folder.path),
    )
    if folder.config_copy.exists() and not _outgrown(run):
        # Of another call, with another budget, perhaps from another place: its work is kept.
        there = folder.read_config()
        run = replace(
            run,
            train=replace(
                run.train,
                budget_minutes=there.train.budget_minutes,
                budget_steps=there.train.budget_steps,
                epochs=there.train.epochs,
            ),
        )
        if below and (folder.has_checkpoint or folder.result.is_file()):
            run = replace(run, model=replace(run.model, start_from=there.model.start_from))
    return run


def _seed(seed: int, again: int) -> int:
    """The seed of a try after `again` others, which trains and tests on other sequences."""
    return functools.reduce(stream_seed, ["horizon"] * again, seed)


def _outgrown(run: RunConfig) -> bool:
    """Whether the folder holds a run of this length that a smaller budget left unsolved.

    A run without a score is scored.
    """
    folder = RunFolder(run.artifacts)
    if not folder.result.is_file():
        return False
    there = folder.read_config()
    key = "budget_steps" if run.train.budget_steps else "budget_minutes"
    had, has = (getattr(each.train, key) or 0.0 for each in (there, run))
    # A run of another model, for example, is refused, not tried again.
    if _comparable(there) != _comparable(run):
        return False
    if folder.read_result().stop_reason != "budget" or has <= _LARGER * had:
        return False
    # A run without `stop_val_loss` uses up its budget also where it solves its length.
    return not validate.score_once(run).mse < SOLVED


def _comparable(run: RunConfig) -> str:
    """The digest of all keys but those that depend on what the horizon run did before."""
    return replace(
        run,
        train=replace(run.train, budget_minutes=None, budget_steps=None, epochs=1),
        model=replace(run.model, start_from=None),
        curriculum=replace(run.curriculum, start=None),
    ).digest


def _bare(run: RunConfig) -> bool:
    """Whether the folder holds a run that was cut before its first checkpoint."""
    folder = RunFolder(run.artifacts)
    return folder.config_copy.exists() and not (
        folder.has_checkpoint or folder.loss_pickle.exists() or folder.result.exists()
    )


def _rung(run: RunConfig, result: RunResult, below: Sequence[Rung]) -> Rung:
    if result.imported:
        raise RunFolderError(
            run.artifacts,
            "holds a model that was trained elsewhere, at an unknown cost",
            "give --artifacts another folder",
        )
    score = validate.score_once(run)
    steps, seconds = (below[-1].sequence_steps, below[-1].seconds) if below else (0, 0.0)
    earlier = below[-1].reached if below and below[-1].t == run.dataset.t else {}
    here = {
        name: Spent(steps + cost.sequence_steps, seconds + cost.seconds) if cost else None
        for name, cost in result.reached.items()
    }
    return Rung(
        t=run.dataset.t,
        longest_length=RunFolder(run.artifacts).read(score=False).longest,
        mse=score.mse,
        mse_standard_error=score.mse_standard_error,
        sequences_tested=score.sequences,
        solved=score.mse < SOLVED,
        reached={name: earlier.get(name) or spent for name, spent in here.items()},
        sequence_steps=steps + result.sequence_steps,
        seconds=seconds + result.seconds,
        stop_reason=result.stop_reason,
        folder=run.artifacts,
    )


def _leave(begin: _Begin, rungs: Sequence[Rung]) -> None:
    """The summary, and the picture of it."""
    plots.draw_horizon(begin.folder.path / PICTURE, _write_summary(begin, rungs))


def _write_summary(begin: _Begin, rungs: Sequence[Rung]) -> HorizonResult:
    result = HorizonResult(
        horizon=max((rung.t for rung in rungs if rung.solved), default=None),
        minutes=begin.budget.minutes,
        steps=begin.budget.steps,
        **begin.config.task.to_record(),
        model=begin.config.model.title,
        seed=begin.config.seed,
        rungs=tuple(rungs),
        runs=tuple(begin.folder.records),
    )
    begin.folder.write(asdict(result))
    return result
