"""The house's rules: who may import whom, what is public, what `--help` may load."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import adding_problem
from tests.conftest import REPOSITORY, Command

PACKAGE = REPOSITORY / "src" / "adding_problem"
LEVELS = {
    "config": 0, "errors": 0,
    "artifacts": 1, "models": 1, "runtime": 1, "task": 1,
    "plots": 2,
    "validate": 3,
    "interop": 4,
    "train": 5,
    "display": 6, "horizon": 6,
    "cli": 7, "__main__": 8, "__init__": 8,
}
SAME_LEVEL = {("config", "errors")}


def module_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
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
        assert LEVELS[imported] < LEVELS[importer] or (importer, imported) in SAME_LEVEL, f"{importer} -> {imported}"


def test_the_level_test_sees_imports() -> None:
    assert {"task", "artifacts", "config"} <= imported_modules(PACKAGE / "train.py")


def test_public_names_are_listed_once_and_exist() -> None:
    assert adding_problem.__all__ == sorted(set(adding_problem.__all__))
    for name in adding_problem.__all__:
        assert getattr(adding_problem, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        adding_problem.nothing  # noqa: B018


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["train", "--print_config"]])
def test_help_loads_neither_torch_nor_matplotlib(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom adding_problem.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "print('LOADED', sorted({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "LOADED []" in out
    assert "dataset" in out or "COMMAND" in out


def test_help_of_the_original_command(command: Command) -> None:
    begin = time.perf_counter()
    done = command("--help", script=REPOSITORY / "main.py")
    assert time.perf_counter() - begin < 5  # loading torch alone would show as an import, tested above
    assert done.returncode == 0
    assert "--mode {train,validate}" in done.stdout


POSIX_ONLY = {"fcntl", "grp", "posix", "pwd", "resource", "termios"}
POSIX_CALLS = {"fork", "getuid", "killpg", "mkfifo", "sched_getaffinity", "sched_setaffinity", "setsid", "statvfs"}


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_what_only_posix_has_is_behind_a_branch(file: Path) -> None:
    tree = ast.parse(file.read_text())
    top = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    assert not POSIX_ONLY & {name.split(".")[0] for name in top}
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        source = ast.unparse(function)
        used = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os"}
        if used & POSIX_CALLS:
            assert "hasattr(os" in source or "sys.platform" in source or "os.name" in source, function.name
