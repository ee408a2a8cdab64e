"""Many runs: a grid over any configuration key, on this machine or on a Ray cluster.

plan.py      a sweep file -> the runs, each with a folder named by what varies and a digest
job.py       the work of one run: train, score, return the outcome
driver.py    gives runs to an engine until all are done; keeps sweep.json
engines.py   which engine, with how many workers
local.py     the engine of this machine: processes
cluster.py   the engine of a Ray cluster (extra `ray`)
display.py   tables of the runs on a terminal
"""

from adding_problem.experiments.sweep.driver import SweepError, run
from adding_problem.experiments.sweep.plan import PlannedRun, read

__all__ = ["PlannedRun", "SweepError", "read", "run"]
