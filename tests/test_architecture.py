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


def test_folders_are_layers() -> None:
    """The contract stands in pyproject.toml."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_six_modules_at_most_lie_outside_the_folders() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 6


def test_public_names_are_listed_once_and_exist() -> None:
    assert adding_problem.__all__ == sorted(set(adding_problem.__all__))
    for name in adding_problem.__all__:
        assert getattr(adding_problem, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        adding_problem.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("main", ["--help"]),
        ("main", ["train", "--help"]),
        ("main", ["train", "--help-all"]),
        ("main", ["validate", "--help"]),
        ("main", ["compare", "--help"]),
        ("main", ["train", "--print_config"]),
        ("original_main", ["--help"]),
    ],
)
def test_help_loads_nothing_that_is_slow(command: str, arguments: list[str]) -> None:
    program = (
        f"import sys\nfrom adding_problem.cli import {command}\n"
        f"try:\n    {command}({arguments!r})\nexcept SystemExit:\n    pass\n"
        "print('LOADED', sorted({'torch', 'matplotlib', 'numpy', 'rich'} & set(sys.modules)))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert "LOADED []" in out
    assert "dataset" in out or "COMMAND" in out or "folders" in out


def test_training_loads_no_compiler_and_matplotlib_after_the_result(tmp_path: Path) -> None:
    """Each takes as long to load as the quick start trains."""
    run = tmp_path / "run"
    sizes = ["--dataset.t", "30", "--model.hidden", "8", "--train.epochs", "2"]
    words = ["train", "--recipe", "fast", *sizes, "--artifacts", str(run)]
    program = (
        "import sys, pathlib\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'matplotlib':\n"
        f"            there = pathlib.Path({str(run)!r}, 'result.json').is_file()\n"
        "            print('RESULT THERE', there, flush=True)\n"
        "sys.meta_path.insert(0, Watch())\n"
        "from adding_problem.cli import main\n"
        f"assert main({words!r}) == 0\n"
        "print('COMPILER', 'torch._dynamo' in sys.modules)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert out.index("best epoch") < out.index("RESULT THERE True")
    assert "COMPILER False" in out
    assert (run / "loss.png").stat().st_size > 1000


def test_help_of_the_original_command(command: Command) -> None:
    done = command("--help", program=[REPOSITORY / "main.py"])
    assert done.returncode == 0
    assert "--mode {train,validate}" in done.stdout


POSIX_ONLY = {"fcntl", "grp", "posix", "pwd", "resource", "termios"}
POSIX_CALLS = {
    "fork",
    "getuid",
    "killpg",
    "mkfifo",
    "sched_getaffinity",
    "sched_setaffinity",
    "setsid",
    "statvfs",
}


@pytest.mark.parametrize(
    "file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE))
)
def test_what_only_posix_has_is_behind_a_branch(file: Path) -> None:
    tree = ast.parse(file.read_text())
    top = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    top += [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert not POSIX_ONLY & {name.split(".")[0] for name in top}
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        source = ast.unparse(function)
        used = {
            node.attr
            for node in ast.walk(function)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os"
        }
        if used & POSIX_CALLS:
            assert "hasattr(os" in source or "sys.platform" in source or "os.name" in source, (
                function.name
            )
