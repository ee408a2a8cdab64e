"""The rule against leakage: no model is scored on sequences that it was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from adding_problem.config import RunConfig
from adding_problem.errors import ConfigError
from adding_problem.runs import atomic_io
from adding_problem.runs.folder import RunFolder

__all__ = ["ancestors", "require_unseen_seed"]


def ancestors(config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    """The run whose weights this one begins with (`model.start_from`), the one before it, ...

    It ends where a folder is missing.
    """
    seen: set[str] = set()
    while (
        (path := config.model.start_from)
        and path not in seen
        and atomic_io.is_regular(RunFolder(path).config_copy)
    ):
        seen.add(path)
        config = RunFolder(path).read_config()
        yield path, config


def require_unseen_seed(seed: int, runs: Iterable[tuple[object, RunConfig]]) -> None:
    """Refuse to score on sequences that one of these runs, by folder, was trained on.

    Raises:
        ConfigError: when the seed is that of one.
    """
    for path, trained in runs:
        if trained.seed == seed:
            raise ConfigError(
                "validate.seed",
                "another seed than that of the training",
                f"{seed}, with which {path} was trained",
                "change validate.seed: scoring on the training data shows nothing",
            )
