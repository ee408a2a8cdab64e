"""A bench: several models under the same conditions, and one table of what came of it.

contenders.py   the models, by what is typed; the same number of parameters for all
plan.py         the pieces of work: tuning, horizon runs, certificates, sizes
pieces.py       each piece and its record
sizes.py        parameters, state, FLOPs and speed
driver.py       gives pieces to an engine until all are done
standings.py    the records -> a line for each model and target, and tables
"""

from adding_problem.experiments.bench.contenders import Contender, contender, match_parameters
from adding_problem.experiments.bench.driver import Progress, run
from adding_problem.experiments.bench.plan import RATES, Plan
from adding_problem.experiments.bench.standings import Line, lines_of, notes_of, tables_of

__all__ = [
    "RATES",
    "Contender",
    "Line",
    "Plan",
    "Progress",
    "contender",
    "lines_of",
    "match_parameters",
    "notes_of",
    "run",
    "tables_of",
]
