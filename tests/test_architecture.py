"""The house's rules: who may import whom, what is public, what `--help` may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import adding_problem
from tests.conftest import REPOSITORY, Command

PACKAGE = REPOSITORY / "src" / "adding_problem"
LEVELS = {
    "errors": 0,
    "documents": 1, "files": 1, "interruption": 1, "limits": 1, "output": 1, "predictions": 1, "schema": 1, "statistics": 1, "variants": 1, "yaml_file": 1, "zoo": 1,
    "config": 2,
    "descent": 3, "lock": 3, "runtime": 3, "task": 3,
    "artifacts": 4, "models": 4, "schedule": 4,
    "checkpoint": 5, "evaluate": 5, "groups": 5, "rehearsal": 5, "runs_folder": 5,
    "plots": 6,
    "validate": 7,
    "interop": 8,
    "train": 9,
    "certificate": 10, "display": 10, "horizon": 10, "loggers": 10,
    "report": 11, "sweep": 11,
    "cli": 12, "__main__": 13, "__init__": 13,
}


def module_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import, which this test does not follow"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adding_problem"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("adding_problem.")}
    return {name for name in found if not name.startswith("__")}


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_towards_lower_levels(file: Path) -> None:
    importer = module_of(file)
    for imported in imported_modules(file) - {importer}:
        assert LEVELS[imported] < LEVELS[importer], f"{importer} -> {imported}"


def test_the_level_test_sees_imports() -> None:
    assert {"task", "artifacts", "config"} <= imported_modules(PACKAGE / "train.py")


def test_public_names_are_listed_once_and_exist() -> None:
    assert adding_problem.__all__ == sorted(set(adding_problem.__all__))
    for name in adding_problem.__all__:
        assert getattr(adding_problem, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        adding_problem.nothing  # noqa: B018


@pytest.mark.parametrize(("command", "arguments"), [
    ("main", ["--help"]), ("main", ["train", "--help"]), ("main", ["train", "--print_config"]), ("original_main", ["--help"])])
def test_help_loads_neither_torch_nor_matplotlib(command: str, arguments: list[str]) -> None:
    program = (
        f"import sys\nfrom adding_problem.cli import {command}\n"
        f"try:\n    {command}({arguments!r})\nexcept SystemExit:\n    pass\n"
        "print('LOADED', sorted({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "LOADED []" in out
    assert "dataset" in out or "COMMAND" in out


def test_help_of_the_original_command(command: Command) -> None:
    done = command("--help", program=[REPOSITORY / "main.py"])
    assert done.returncode == 0
    assert "--mode {train,validate}" in done.stdout


POSIX_ONLY = {"fcntl", "grp", "posix", "pwd", "resource", "termios"}
POSIX_CALLS = {"fork", "getuid", "killpg", "mkfifo", "sched_getaffinity", "sched_setaffinity", "setsid", "statvfs"}


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_what_only_posix_has_is_behind_a_branch(file: Path) -> None:
    tree = ast.parse(file.read_text())
    top = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    top += [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert not POSIX_ONLY & {name.split(".")[0] for name in top}
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        source = ast.unparse(function)
        used = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os"}
        if used & POSIX_CALLS:
            assert "hasattr(os" in source or "sys.platform" in source or "os.name" in source, function.name
