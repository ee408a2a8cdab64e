"""Memory certificates of the LSTM's initialisations and of the zoo's families.

    python benchmarks/certificates.py --models lstm --t 1000 --budget 2000000  # all initialisations
    python benchmarks/certificates.py --models gru s6 pooling --t 100 --budget 300000
    python benchmarks/certificates.py --table docs/certificates.json

Each is one `adding-problem certify`, seed 0, on one thread, two at a time. The record keeps the
verdicts and the numbers behind them. Certificates that it holds, of the same T and budget, are not
made again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import results

from adding_problem.config import families
from adding_problem.experiments import certificate
from adding_problem.system.device import processor, versions

LSTM_INITS = families.FAMILIES["lstm"].choices["init"]

Entry = dict[str, Any]


def certified(model: str, init: str | None, arguments: argparse.Namespace) -> Entry:
    """One certificate, as the record holds it."""
    name = model if init is None else f"{model}-{init}"
    folder = arguments.certificates / f"{name}-{arguments.t}"
    command = [
        sys.executable,
        "-m",
        "adding_problem",
        "certify",
        "--model",
        model,
        "--t",
        str(arguments.t),
        "--budget",
        str(arguments.budget),
        "--threads",
        "1",
        "--out",
        str(folder),
    ]
    if init is not None:
        memory = "1000000000" if init in families.TOLD else "null"
        command += ["--model.init", init, "--model.memory", memory]
    began = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    entry: Entry = {
        "model": model,
        "init": init,
        "t": arguments.t,
        "budget": arguments.budget,
        "command": " ".join(["adding-problem", *command[3:]]),
        "seconds": round(time.monotonic() - began, 1),
        "commit": results.commit(),
        "processor": processor(),
        "versions": versions(),
    }
    if ended.returncode:
        return entry | {"error": ended.stderr.strip()[-500:]}
    made = certificate.read(folder / certificate.RECORD)
    rows = [
        {
            "question": row.name,
            "verdict": row.verdict.word,
            "reason": row.verdict.reason,
            "fitted_short": _mse(row.short.at(made.t) if row.short else None),
            "fitted_at_t": _mse(row.full.at(made.t) if row.full else None),
            "readout_alone": _mse(row.alone),
            "trained": row.trained.error.mse,
            "beyond": _mse(row.trained.beyond),
            "longest": row.trained.longest,
            "to_solved": row.trained.to_solved,
        }
        for row in made.rows
    ]
    return entry | {
        "title": made.title,
        "recipe": made.recipe,
        "seed": made.seed,
        "parameters": made.parameters,
        "order": made.order,
        "rows": rows,
    }


def _mse(measured: certificate.Measured | None) -> float | None:
    return measured.mse if measured else None


def table(entries: list[Entry]) -> str:
    """Markdown: a row for each model, a column for each question."""
    questions = list(dict.fromkeys(row["question"] for entry in entries for row in entry["rows"]))
    head = ["model", "T", "budget", *questions]
    rows = []
    for entry in entries:
        words = {row["question"]: _cell(row) for row in entry["rows"]}
        name = entry["model"] if entry["init"] is None else f"{entry['model']}, `{entry['init']}`"
        cells = [
            name,
            f"{entry['t']:,}",
            f"{entry['budget'] / 1e6:g} M",
            *(words.get(question, "-") for question in questions),
        ]
        rows.append(cells)
    return results.markdown(head, rows)


def _cell(row: dict[str, Any]) -> str:
    trained = "not finite" if row["trained"] is None else f"{row['trained']:.0e}"
    return f"{row['verdict']} ({trained})"


def main() -> None:
    """Make the certificates that the record lacks, or print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["lstm"], choices=sorted(families.FAMILIES))
    parser.add_argument("--inits", nargs="+", default=list(LSTM_INITS), help="of the LSTM")
    parser.add_argument("--t", type=int, default=1_000)
    parser.add_argument(
        "--budget", type=int, default=2_000_000, help="sequence-steps of each training"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--certificates", type=Path, default=Path("artifacts/certificates"), help="where they go"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/certificates.json"))
    parser.add_argument(
        "--table", type=Path, help="print the table of this record, and make nothing"
    )
    arguments = parser.parse_args()
    if arguments.table:
        print(table(results.read(arguments.table, "certificates")))
        return
    entries = results.read(arguments.out, "certificates")
    held = {_key(entry) for entry in entries}
    asked = [
        (model, init)
        for model in arguments.models
        for init in (arguments.inits if model == "lstm" else [None])
    ]
    with ThreadPoolExecutor(arguments.workers) as pool:
        made = [
            pool.submit(certified, *one, arguments)
            for one in asked
            if (*one, arguments.t, arguments.budget) not in held
        ]
        for future in as_completed(made):
            entry = future.result()
            if "error" in entry:  # and so it is tried again by the next call
                print(f"{entry['command']}: {entry['error']}", flush=True)
                continue
            entries = sorted(
                [*entries, entry], key=lambda one: (one["model"], str(one["init"]), one["t"])
            )
            results.write(
                arguments.out,
                {"command": "python benchmarks/certificates.py", "certificates": entries},
            )
            said = "; ".join(f"{row['question']}: {row['verdict']}" for row in entry["rows"])
            print(
                f"{entry['model']} {entry['init'] or ''}, T = {entry['t']:,}, "
                f"{entry['seconds']:.0f} s: {said}",
                flush=True,
            )
    print(table(entries))


def _key(entry: Entry) -> tuple[str, str | None, int, int]:
    return entry["model"], entry["init"], entry["t"], entry["budget"]


if __name__ == "__main__":
    main()
