"""The table of docs/reliability.md, from the record that `torture.py` leaves."""

from __future__ import annotations

from typing import Any

_KILLED = "commands: "
_NAMES = {"commands: more epochs": "`train --resume` with more epochs"}
_COLUMNS = [
    "part",
    "trials",
    "outcome",
    "lost",
    "tracebacks",
    "silently wrong",
    "peak MiB",
    "worst s",
]
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
        f"one thread, Python {versions['python']},\nPyTorch {versions['torch']}; "
        f"{'commits' if len(commits) > 1 else 'commit'} "
        + ", ".join(f"`{commit}`" for commit in commits)
        + "."
    )
    return "\n".join([*lines, "", text])


def _of_command(outcome: dict[str, Any]) -> str:
    every = outcome["trials"] == outcome["operations"]
    at = "each operation" if every else f"{outcome['trials']:,} of {outcome['operations']:,}"
    return f"{at}; {outcome['repetitions']:,} repetitions"


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
            f"{outcome['peak_memory_mib']:.0f}",
            f"{outcome['worst_seconds']:.1f}",
        ]
    )


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
