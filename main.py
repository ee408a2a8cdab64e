"""The original system's command: `python main.py --mode train|validate --config FILE`."""

import sys

try:
    from adding_problem.cli import original_main
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}\n  hint: run `make install`, then `.venv/bin/python main.py ...`")

if __name__ == "__main__":
    sys.exit(original_main())
