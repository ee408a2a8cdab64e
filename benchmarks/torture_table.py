"""The table of docs/reliability.md, from the record that `torture.py` leaves."""

from __future__ import annotations

from typing import Any

_KILLED = "commands: "
_NAMES = {"commands: more epochs": "`train --resume` with more epochs"}
_COLUMNS = [
    "part",
    "trials",
    "what came of them",
    "lost",
    "tracebacks",
    "wrong without a word",
    "peak memory",
    "worst time",
]
# Of each part, what came of its trials; the names are those of its outcome.
_FOUND = {
    "kills": "SIGKILL: {at_random_moments} at random moments, {at_file_operations} at an operation "
    "on files; {chains} runs, each killed again until it ended, both recipes, both backends",
    "damage": "{fell_back} fell back to the checkpoint before and ended bit for bit alike; "
    "{refused} had nothing intact left, or were weights, and were refused",
    "disk": "every operation on files of a run found the disk full ({typed_errors} errors with a "
    "hint, {unharmed} did no harm), {real_disk_trials} of them on a real disk of 2 MB",
    "configs": "{accepted} accepted, {refused} refused with a message",
    "folders": "{read} readings succeeded, {refused} were refused; files outside that were "
    "changed: {escaped}",
    "faults": "fixtures, one for each kind of fault and its neighbours: {as_expected} ended as "
    "expected, {unexpected} with another exit code or message; {left_out} left out, for want of an "
    "extra",
}


def table(record: dict[str, Any]) -> str:
    """In Markdown, with what it was measured on."""
    parts = record["parts"]
    lines = [_row(_COLUMNS), "|---" * len(_COLUMNS) + "|"]
    lines += [
        _line(name, parts[name]["all"], found) for name, found in _FOUND.items() if name in parts
    ]
    lines += [
        _line(
            _NAMES.get(name, f"`{name.removeprefix(_KILLED)}`"),
            part["all"],
            _of_command(part["all"]),
        )
        for name, part in parts.items()
        if name.startswith(_KILLED)
    ]
    machine, versions = record["machine"], record["versions"]
    tried = [part for name, part in parts.items() if name != "cost"]
    commits = sorted({part["commit"] for part in tried})
    text = (
        f"{machine['cores']} cores of an {machine['processor']}, {versions['platform']}, "
        f"Python {versions['python']}, PyTorch "
        f"{versions['torch']}, one thread, at {'commits' if len(commits) > 1 else 'commit'} "
        + ", ".join(f"`{commit}`" for commit in commits)
        + "."
    )
    return "\n".join([*lines, "", text])


def _of_command(outcome: dict[str, Any]) -> str:
    every = outcome["trials"] == outcome["operations"]
    at = (
        "every operation on files"
        if every
        else f"{outcome['trials']:,} of {outcome['operations']:,} operations on files, drawn"
    )
    return (
        f"SIGKILL at {at}; then the same command again, {outcome['repetitions']:,} times in all, "
        "and its result compared"
    )


def _line(name: str, outcome: dict[str, Any], found: str) -> str:
    numbers = {key: f"{value:,}" for key, value in outcome.items() if isinstance(value, int)}
    return _row(
        [
            name,
            numbers["trials"],
            found.format_map(numbers),
            numbers["lost"],
            numbers["tracebacks"],
            numbers.get("wrong_without_a_word", "-"),
            f"{outcome['peak_memory_mib']:.0f} MiB",
            f"{outcome['worst_seconds']:.1f} s",
        ]
    )


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
