"""The audit of continuous integration: exits with 1 and says what it found. Works offline.

1. What is installed is what constraints.txt pins.
2. No release is installed that is known to be malicious.
3. requirements.lock has hashes for exactly the pins of constraints.txt above its line `# extras`,
   where it has one; PyTorch is left out (docs/security.md says why).
4. Nothing in src, native, benchmarks or .ci calls what can execute the content of a file.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = {"adding-problem", "adding-problem-native"}
UNPINNED = {"pip", "setuptools", "wheel"}  # what venv brings
WITHOUT_HASHES = {"torch"}
KNOWN_BAD = {
    ("lightning", "2.6.2"),
    ("lightning", "2.6.3"),
}  # releases with a credential stealer, withdrawn

DANGEROUS = {
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "cPickle.load",
    "dill.load",
    "dill.loads",
    "joblib.load",
    "torch.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "marshal.loads",
    "marshal.load",
    "shelve.open",
    "eval",
    "exec",
    "os.system",
}
SAFE_LOADERS = {"_Loader", "SafeLoader", "yaml.SafeLoader"}


def pins(text: str) -> dict[str, str]:
    """Version by normalised name."""
    lines = (line.partition("#")[0].partition(";")[0].strip() for line in text.splitlines())
    return {
        normalised(name): version
        for name, _, version in (line.partition("==") for line in lines if "==" in line)
    }


def normalised(name: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def installed() -> dict[str, str]:
    """What this Python sees, local parts of versions (+cpu) left out."""
    return {
        normalised(each.metadata["Name"]): each.version.partition("+")[0]
        for each in importlib.metadata.distributions()
    }


def wrong_versions(pinned: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Distributions that are not the pinned ones."""
    found = []
    for name, version in sorted(there.items()):
        if name in OURS | UNPINNED:
            continue
        if name not in pinned:
            found.append(f"{name} {version} is installed and not pinned")
        elif pinned[name] != version:
            found.append(f"{name} {version} is installed, {pinned[name]} is pinned")
    return found


def known_bad(versions: Mapping[str, str]) -> list[str]:
    """Releases that nobody should have."""
    return [
        f"{name} {version} is known to be malicious"
        for name, version in versions.items()
        if (name, version) in KNOWN_BAD
    ]


def lock_problems(constraints: Path, lock: Path) -> list[str]:
    """Where the lock and the pins differ."""
    everywhere = constraints.read_text().partition("\n# extras")[0]
    wanted = {
        name: version for name, version in pins(everywhere).items() if name not in WITHOUT_HASHES
    }
    locked: dict[str, str] = {}
    problems = []
    for entry in lock.read_text().replace("\\\n", " ").splitlines():
        if "==" not in entry or entry.startswith("#"):
            continue
        name, _, rest = entry.partition("==")
        locked[normalised(name)] = rest.split()[0]
        if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", rest):
            problems.append(f"{name} has no hash in {lock.name}")
    if locked != wanted:
        odd = sorted(
            name for name in locked.keys() | wanted.keys() if locked.get(name) != wanted.get(name)
        )
        problems.append(
            f"{lock.name} and {constraints.name} differ in {', '.join(odd)}: run `make lock`"
        )
    return problems


def dangerous_calls(folder: Path) -> list[str]:
    """Calls that could execute what a file holds, as FILE:LINE: CALL."""
    return [
        f"{file}:{node.lineno}: {what}"
        for file in sorted(folder.rglob("*.py"))
        for node, what in _dangers(ast.parse(file.read_text(encoding="utf-8")))
    ]


def _dangers(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "dill", "marshal"):
            yield node, f"from {node.module} import"
        if not isinstance(node, ast.Call):
            continue
        name, keywords = (
            ast.unparse(node.func),
            {key.arg: ast.unparse(key.value) for key in node.keywords},
        )
        unsafe_yaml = (
            name in ("yaml.load", "yaml.load_all") and keywords.get("Loader") not in SAFE_LOADERS
        )
        if name in DANGEROUS or unsafe_yaml or keywords.get("allow_pickle", "False") != "False":
            yield node, name


def main() -> int:
    """All findings, printed."""
    constraints, there = ROOT / "constraints.txt", installed()
    pinned = pins(constraints.read_text())
    findings = wrong_versions(pinned, there) + known_bad(there | pinned)
    findings += lock_problems(constraints, ROOT / "requirements.lock")
    for folder in ("src", "native/adding_problem_native", "benchmarks", ".ci"):
        findings += dangerous_calls(ROOT / folder)
    print(
        "\n".join(findings)
        or f"audit: {len(there)} distributions as pinned, no call that could execute a file"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
