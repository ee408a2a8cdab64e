"""The table of docs/reliability.md, from the record that `torture.py` leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_KILLED = "commands: "
_HARM = ["lost", "tracebacks", "wrong_without_a_word"]
_COUNTED = ["lost, tracebacks, silently wrong", "peak MiB", "worst s"]
# Of each part, what came of its trials; the names are those of its outcome.
_FOUND = {
    "kills": "{at_random_moments} at random moments, {at_file_operations} at file operations, "
    "in {chains} runs",
    "damage": "{fell_back} resumed from the previous checkpoint; {refused} had no intact copy and "
    "were refused",
    "disk": "{typed_errors} errors with a hint, {unharmed} without effect; {real_disk_trials} on a "
    "real disk of 2 MB",
    "configs": "{accepted} accepted, {refused} refused with a message",
    "folders": "{read} readings succeeded, {refused} refused; {escaped} files outside changed",
    "faults": "{as_expected} as expected, {unexpected} otherwise; {left_out} without their extra",
    "commands": "{commands} commands, {repetitions} repetitions",
}


def table(record: dict[str, Any]) -> str:
    """In Markdown, a row for each part, with what they were measured on."""
    parts = record["parts"]
    outcomes = {name: part["all"] for name, part in parts.items()}
    killed = [outcome for name, outcome in outcomes.items() if name.startswith(_KILLED)]
    if killed:
        outcomes["commands"] = _together(killed)
    lines = _head("part", "trials", "outcome")
    lines += [
        _line(name, outcomes[name], found) for name, found in _FOUND.items() if name in outcomes
    ]
    machine, versions = record["machine"], record["versions"]
    tried = [part for name, part in parts.items() if name != "cost"]
    commits = sorted({part["commit"] for part in tried})
    text = (
        f"{machine['cores']} cores of an {machine['processor']}, {versions['platform']}, "
        f"one thread, Python {versions['python']},\nPyTorch {versions['torch']}; "
        f"{'commits' if len(commits) > 1 else 'commit'} "
        + ", ".join(f"`{commit}`" for commit in commits)
        + "."
    )
    return "\n".join([*lines, "", text])


def _together(outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One outcome of several: counts are added, and of memory and time the largest is taken."""
    counts = ("trials", "operations", "repetitions", *_HARM)
    largest = ("peak_memory_mib", "worst_seconds")
    return {
        "commands": len(outcomes),
        **{key: sum(outcome[key] for outcome in outcomes) for key in counts},
        **{key: max(outcome[key] for outcome in outcomes) for key in largest},
    }


def _head(*columns: str) -> list[str]:
    columns += tuple(_COUNTED)
    return [_row(columns), "|---" * len(columns) + "|"]


def _line(name: str, outcome: dict[str, Any], found: str) -> str:
    numbers = {key: f"{value:,}" for key, value in outcome.items() if isinstance(value, int)}
    return _row(
        [
            name,
            _trials(outcome),
            found.format_map(numbers),
            ", ".join(numbers.get(key, "-") for key in _HARM),
            f"{outcome['peak_memory_mib']:.0f}",
            f"{outcome['worst_seconds']:.1f}",
        ]
    )


def _trials(outcome: dict[str, Any]) -> str:
    """How many, and of how many operations where some were drawn."""
    trials = outcome["trials"]
    drawn = trials != outcome.get("operations", trials)
    return f"{trials:,}" + (f" of {outcome['operations']:,}" if drawn else "")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
