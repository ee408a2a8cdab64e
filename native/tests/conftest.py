"""Without a compiler there are no kernels, and nothing of them to test."""

import importlib.util

if importlib.util.find_spec("adding_problem_native") is None:
    collect_ignore_glob = ["test_*.py"]
