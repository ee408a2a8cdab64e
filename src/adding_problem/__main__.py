"""`python -m adding_problem` is the command `adding-problem`."""

import sys

from adding_problem.cli import main

sys.exit(main())
