"""Many runs: a grid over any configuration key, on this machine or on a Ray cluster.

plan.py      a sweep file -> the runs, each with a folder named by what varies and the digest of its configuration
job.py       the work of one run: train, score, say what became of it
driver.py    hands runs to an engine until all are done; keeps sweep.json
local.py     the engine of this machine: processes
cluster.py   the engine of a Ray cluster (extra `ray`)
watch.py     the table of a sweep while it goes on
"""

from adding_problem.experiments.sweep.driver import SweepError, run
from adding_problem.experiments.sweep.plan import PlannedRun, read

__all__ = ["PlannedRun", "SweepError", "read", "run"]
