"""The report, without a browser: it loads nothing, shows hostile text as text, and its numbers are
the run folders'."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import math
import os
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from adding_problem import config, report, sample_batch
from adding_problem.analysis.aggregate import Group
from adding_problem.config import families
from adding_problem.errors import RunFolderError
from adding_problem.evaluation.load_model import load_model
from adding_problem.experiments import certificate
from adding_problem.experiments.certificate import Certificate, Measured, Row, Training, Verdict
from adding_problem.experiments.train import train
from adding_problem.report import figures, measure, runs, summary
from adding_problem.report.page import Table
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow, RunRecord, RunResult, StopReason
from adding_problem.task.variants import Task
from tests.conftest import REPOSITORY, Command
from tests.helpers.pages import Page
from tests.helpers.reference import forward, weights_of
from tests.helpers.report_runs import make_runs

HOSTILE = '"><img src=x onerror=alert(1)>'
HOSTILE_FOLDERS = Path("=1+1<") / f"script>{HOSTILE}"  # their path holds "</script>"
SMALL = {
    "dataset.dt_length": 200,
    "model.hidden": 8,
    "train.epochs": 3,
    "train.batch": 32,
    "threads": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds at T = 12, one at T = 20 whose name, configuration and result are hostile, one
    unfinished, one damaged."""
    root = tmp_path_factory.mktemp("sweep")
    for name, t, seed in (
        ("a", 12, 0),
        ("b", 12, 1),
        (HOSTILE_FOLDERS, 20, 0),
        ("unfinished", 12, 2),
        ("damaged", 12, 3),
    ):
        train(
            config.load(None, SMALL | {"dataset.t": t, "seed": seed, "artifacts": str(root / name)})
        )
    (root / "unfinished" / "result.json").unlink()
    (root / "damaged" / "result.json").write_text('{"best_val_loss": "much"}')
    hostile = RunFolder(root / HOSTILE_FOLDERS)
    text = hostile.config_copy.read_text()
    hostile.config_copy.write_text(
        re.sub(r"start_from: null", "start_from: '</script><script>alert(2)</script>'", text)
    )
    result = hostile.read_result()
    hostile.write_result(replace(result, versions={"</pre><script>alert(3)</script>": "1"}))
    return root


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    out = folder.parent / "new" / "report.html"
    report.write([folder], out, lengths=[12, 20, 40], sequences=50, threads=1)
    return Page(out.read_text(encoding="utf-8"))


def test_it_loads_nothing_and_runs_only_its_own_scripts(page: Page, folder: Path) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "poster", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
        assert not [name for name in attributes if name.startswith("on")], tag
    assert {tag for tag, _ in page.elements} & {
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
    } == set()
    for style in page.content["style"]:
        assert "url(" not in style
        assert "@import" not in style
    policy = next(
        a["content"]
        for tag, a in page.elements
        if tag == "meta" and "Content-Security-Policy" in a.values()
    )
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy.partition("script-src")[2].partition(";")[0]
    scripts = [a for tag, a in page.elements if tag == "script"]
    run = [
        text
        for a, text in zip(scripts, page.content["script"], strict=True)
        if a.get("type") is None
    ]
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    assert allowed == [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run
    ]
    assert len(run) == 9
    assert (folder.parent / "new" / "report.html").stat().st_size < 6e6


def test_the_longest_trained_length_is_told(folder: Path, tmp_path: Path) -> None:
    """Every table has it beside T; what is not known is said to be unknown."""
    for name, longest in (("short", 5), ("old", None)):
        shutil.copytree(folder / "a", tmp_path / "runs" / name)
        copy = RunFolder(tmp_path / "runs" / name)
        copy.config_copy.write_text(
            copy.config_copy.read_text().replace("stream: false", "stream: true")
        )
        result = json.loads(copy.result.read_text())
        del result["longest_length"]
        copy.result.write_text(
            json.dumps(result | ({"longest_length": longest} if longest else {}))
        )
        copy.write_history([replace(row, longest_length=0) for row in copy.read_history()])
    report.write([tmp_path / "runs"], tmp_path / "out.html", lengths=[12], sequences=20, threads=1)
    page = Page((tmp_path / "out.html").read_text())
    assert {row["run"]: row["longest_trained"] for row in page.csv("runs")} == {
        "short": "5",
        "old": "",
    }
    assert "unknown" in page.content["td"]
    seen = "".join(page.seen)
    assert seen.count("trained up to") >= 4


def test_an_oracle_stands_below_the_learners(tmp_path: Path) -> None:
    """Its error is the lowest, and no figure at the top is its own."""
    for name, init, best in (("a", "oracle", 1e-6), ("b", "keras", 1e-2), ("c", "long", 2e-2)):
        train(
            config.load(
                None,
                SMALL
                | {"dataset.t": 12, "model.init": init, "artifacts": str(tmp_path / "runs" / name)},
            )
        )
        folder = RunFolder(tmp_path / "runs" / name)
        folder.write_result(replace(folder.read_result(), best_val_loss=best))
    report.write([tmp_path / "runs"], tmp_path / "out.html", lengths=[12], sequences=20, threads=1)
    text = (tmp_path / "out.html").read_text()
    page = Page(text)
    told = "init oracle: input gates preset from the mark column"
    for table in ("runs", "groups", "lengths", "reach"):
        assert [told in row["method"] for row in page.csv(table)] == [False, False, True], table
    assert text.count('<tr class="oracle">') == 4
    assert page.script("model")["name"] == "b"
    assert finding_of(page) == "None of these models remembers T = 12, the shortest length here"
    report.write(
        [tmp_path / "runs" / "a"], tmp_path / "alone.html", lengths=[12], sequences=20, threads=1
    )
    alone = Page((tmp_path / "alone.html").read_text())
    name = "LSTM, original, init oracle: input gat…eset from the mark column"
    assert finding_of(alone) == f"{name} remembers T = 12 (trained up to T = 12)"
    assert "oracle: input gates preset from the mark column" in alone.script("model")["told"]


def test_runs_with_the_same_weights_are_one_model(
    folder: Path, tmp_path: Path, command: Command
) -> None:
    """A model that is also told as one of T = 30 and 60: solved at 12 and 30, not at 60."""
    for name, t, best in (("a", 12, 1e-4), ("twin", 30, 2e-4), ("triplet", 60, 2e-3)):
        shutil.copytree(folder / "a", tmp_path / "runs" / name)
        copy = RunFolder(tmp_path / "runs" / name)
        copy.config_copy.write_text(copy.config_copy.read_text().replace("t: 12 ", f"t: {t} "))
        copy.write_result(replace(copy.read_result(), t=t, best_val_loss=best))
    shutil.copytree(folder / "b", tmp_path / "runs" / "b")
    report.write([tmp_path / "runs"], tmp_path / "out.html", lengths=[12], sequences=20, threads=1)
    page = Page((tmp_path / "out.html").read_text())
    assert [(row["T"], row["solved"], row["models"]) for row in page.csv("reach")] == [
        ("12", "1", "2"),
        ("30", "1", "1"),
        ("60", "0", "1"),
    ]
    assert [row["run"] for row in page.csv("lengths")] == ["a", "b"]
    far = summary.reaches(
        runs.collect([tmp_path / "runs"]),
        measure.measure([run_of(tmp_path / "runs" / "a")], [90], 10, threads=1),
    )
    assert far[0].cells[90].of == 1  # of the weights that are also those of T = 60
    assert {row["run"]: row["same_weights_as"] for row in page.csv("runs")} == {
        "a": "",
        "b": "",
        "twin": "a",
        "triplet": "a",
    }
    assert "same weights as T = 30 (twin), T = 60 (triplet)" in page.content["small"]
    assert [(row["T"], row["runs"], row["solved"]) for row in page.csv("groups")] == [
        ("12", "2", "1"),
        ("30", "1", "1"),
        ("60", "1", "0"),
    ]
    done = command(
        "report", "runs", "--out", "page.html", "--threads", 1, "--sequences", 20, "--lengths", 12
    )
    assert "4 runs of 2 models, 0 solved" in done.stdout


def finding_of(page: Page) -> str:
    """The title of the first figure."""
    return page.content["h2"][0].replace("\N{NO-BREAK SPACE}", " ")


def reach_of(*cells: tuple[int, int, int, bool], trained: int | None = 100) -> summary.Reach:
    """One whose cells are (T, solved, of, validated)."""
    made = {t: summary.Cell(t, n, of, 1e-4, own) for t, n, of, own in cells}
    return summary.Reach("m", Task(), False, trained, 1.0, made)


def test_how_far_a_method_remembers() -> None:
    """Up to the first length that most of its models do not solve, from their own on."""
    own = (100, 2, 3, True)
    for cells, far in (
        ([(50, 0, 3, False), own, (200, 3, 3, False), (500, 3, 3, False)], 500),
        ([own, (200, 1, 2, False), (500, 2, 2, False)], 100),
        ([(50, 3, 3, True), (100, 1, 3, True), (200, 2, 3, True)], 200),
    ):
        solved = reach_of(*cells).solved
        assert solved is not None
        assert solved.t == far
    assert reach_of((50, 1, 1, False), (100, 1, 2, True)).solved is None
    near, far_one = reach_of(own), reach_of(own, (200, 2, 3, False))
    assert min(near, far_one, key=lambda reach: reach.rank) is far_one
    same = summary.finding([far_one, replace(far_one, method="n", trained=150), near])
    assert same.replace("\N{NO-BREAK SPACE}", " ") == (
        "2 of 3 methods remember T = 200, and none more; m was only trained up to T = 100"
    )
    first = summary.finding([far_one, replace(near, method="n")]).replace("\xa0", " ")
    assert (
        first == "m remembers T = 200 (2 of 3 seeds, trained up to T = 100); next is n with T = 100"
    )


def certificate_of(folder: Path, **changes: Any) -> Certificate:
    """One of the run's model that nobody measured."""
    error = Measured(100, 10, 1e-4)
    training = Training(error, None, 12, 1000, 500, "budget", "a")
    verdict = Verdict("reservoir", "a readout scores 1.0e-05")
    row = Row("sum", Task(), 1 / 6, None, None, None, training, verdict)
    made = Certificate(
        title=RunFolder(folder).read_config().model.title,
        digest="d",
        model_source=None,
        parameters=1,
        recipe="original",
        seed=0,
        t=100,
        budget=1000,
        features="the readout's inputs",
        order=None,
        rows=(row,),
        pooling=(),
        notes=(),
    )
    return replace(made, **changes)


def test_the_verdict_of_a_certificate_stands_beside_its_model(
    folder: Path, tmp_path: Path, command: Command
) -> None:
    """In a run folder or given; of another model, recipe or task it says nothing."""
    shutil.copytree(folder / "a", tmp_path / "runs" / "a")
    record = tmp_path / "runs" / "certificate.json"

    def verdict() -> str:
        found = runs.collect([tmp_path / "runs"])
        (reach,) = summary.reaches(found, [])
        return reach.verdict.word if reach.verdict else ""

    made = certificate_of(folder / "a")
    for changes, word in (
        ({}, "reservoir"),
        ({"title": "gru"}, ""),
        ({"recipe": "fast"}, ""),
        ({"model_source": "0"}, ""),
        ({"rows": (replace(made.rows[0], task=Task(target="difference")),)}, ""),
    ):
        record.write_bytes(replace(made, **changes).to_json())
        assert verdict() == word, changes
    record.write_text("{}")
    assert "is not a certificate" in runs.collect([tmp_path / "runs"]).left_out[0]
    record.unlink()
    (tmp_path / "given.json").write_bytes(made.to_json())
    words = ("--threads", 1, "--sequences", 20, "--lengths", 12, "--out", "page.html")
    done = command("report", "runs", "--certificates", "given.json", *words)
    assert done.returncode == 0, done.stderr
    page = Page((tmp_path / "page.html").read_text())
    assert {row["certificate"] for row in page.csv("reach")} == {"reservoir"}
    assert "a readout scores 1.0e-05 (T = 100, seed 0)." in " ".join("".join(page.seen).split())
    row = {"question": "sum", "verdict": "learned", "reason": "of a record"}
    several = [
        {"title": title, "t": 50, "rows": [row], "recipe": made.recipe}
        for title in ("gru", made.title)
    ]
    (tmp_path / "several.json").write_text(json.dumps({"certificates": several}))
    done = command("report", "runs", "--certificates", "several.json", *words)
    assert done.returncode == 0, done.stderr
    page = Page((tmp_path / "page.html").read_text())
    assert {row["certificate"] for row in page.csv("reach")} == {"learned"}
    assert "of a record (T = 50, seed 0)." in " ".join("".join(page.seen).split())
    damaged = command("report", "runs", "--certificates", "page.html", *words)
    assert damaged.returncode == 2
    assert "is not a certificate" in damaged.stderr


def test_the_recorded_certificates_are_of_todays_models() -> None:
    """A report finds the certificate of a model by the model's title."""
    path = REPOSITORY / "docs" / "certificates.json"
    entries = json.loads(path.read_text())["certificates"]
    for entry, judged in zip(entries, certificate.read_judged(path), strict=True):
        given = {} if entry["init"] is None else {"model.init": entry["init"]}
        if given and entry["init"] not in families.TOLD:
            given["model.memory"] = None
        model = config.load(None, {"recipe": "fast", "model.name": entry["model"]} | given).model
        assert judged.title == model.title
        assert len(judged.verdicts) == len(entry["rows"])


def test_the_longest_length_of_each_method_is_scored_first(tmp_path: Path) -> None:
    """Where not all models are, then the best run of each method and length."""
    assert make_runs(tmp_path, ["lstm", "irnn"], [20, 30], 2) == 8
    found = runs.collect([tmp_path]).runs
    weights = {run.record.weights for run in found}
    assert len(weights) == 4  # the initial weights are those of the seed, whatever T is
    every = summary.to_score(found, 4)
    assert {run.record.weights for run in every} == weights
    assert {(run.config.model.name, run.t) for run in summary.to_score(found, 2)} == {
        ("lstm", 30),
        ("irnn", 30),
    }


def test_the_first_sequence_is_a_typical_one(page: Page, folder: Path) -> None:
    """As many new sequences have a larger error as have a smaller one."""
    packed = page.script("model")
    found = [row for row in page.csv("predictions") if row["run"] == packed["name"]]
    errors = [abs(float(row["prediction"]) - float(row["target"])) for row in found]
    marks = [float(step in packed["places"]) for step in range(packed["t"])]
    x = torch.tensor([list(zip(packed["values"], marks, strict=True))])
    right = sum(packed["values"][place] for place in packed["places"])
    mine = abs(load_model(str(folder / packed["name"]))(x).item() - right)
    assert sum(error < mine - 1e-4 for error in errors) <= len(errors) // 2
    assert sum(error > mine + 1e-4 for error in errors) <= len(errors) // 2
    assert packed["longest"] == 10 * packed["trained"]


def test_hostile_names_are_text(page: Page) -> None:
    name = str(HOSTILE_FOLDERS)
    assert [attributes for tag, attributes in page.elements if attributes.get("title") == name]
    assert name in [run["name"] for run in page.script("data")["runs"]]
    seen = "".join(page.seen)
    assert "start_from: </script><script>alert(2)</script>" in seen
    assert "</pre><script>alert(3)</script>" in seen
    # A spreadsheet takes a leading = for a formula.
    assert "'" + name in [row["run"] for row in page.csv("runs")]


def test_csv_is_what_the_run_folders_say(page: Page, folder: Path) -> None:
    rows = {row["run"].removeprefix("'"): row for row in page.csv("runs")}
    assert set(rows) == {"a", "b", str(HOSTILE_FOLDERS), "unfinished"}
    for name in ("a", "b", HOSTILE_FOLDERS):
        result, row = RunFolder(folder / name).read_result(), rows[str(name)]
        assert float(row["best_val_loss"]) == result.best_val_loss
        assert [
            int(row[key]) for key in ("T", "seed", "epochs", "sequences", "sequence_steps")
        ] == [result.t, result.seed, result.epochs, result.sequences, result.sequence_steps]
        assert float(row["seconds"]) == result.seconds
        assert (
            int(row["longest_trained"]) == result.longest_length == result.t
        )  # of a fixed data set
    assert rows["unfinished"]["state"] == "unfinished"
    assert float(rows["unfinished"]["best_val_loss"]) == min(
        r.val_loss for r in RunFolder(folder / "unfinished").read_history()
    )
    curve = [row for row in page.csv("curves") if row["run"] == "b"]
    with (folder / "b" / "metrics.csv").open(newline="") as stream:
        assert [{k: v for k, v in row.items() if k != "run"} for row in curve] == list(
            csv.DictReader(stream)
        )
    configurations = {row["run"]: row for row in page.csv("configurations")}
    assert configurations["a"]["digest"] == RunFolder(folder / "a").read_config().digest
    assert configurations["b"]["seed"] == "1"


def test_scores_are_those_of_the_models(page: Page, folder: Path) -> None:
    best = "b"
    assert {row["run"] for row in page.csv("predictions") if row["T"] == "12"} == {"a", best}
    model = load_model(str(folder / best))
    x, y = sample_batch(50, 12, seed=43)
    found = [row for row in page.csv("predictions") if row["run"] == best]
    assert np.allclose([float(row["target"]) for row in found], y[:, 0])
    assert np.allclose(
        [float(row["prediction"]) for row in found], model(x).detach()[:, 0], atol=1e-6
    )
    (memory,) = (one["memory"] for one in page.script("data")["models"] if one["name"] == best)
    gradient = [float(row["gradient_value"]) for row in page.csv("memory") if row["run"] == best]
    assert memory["at_marks"] == pytest.approx(
        [gradient[step] for step in memory["marks"]], rel=1e-3
    )
    lengths = {row["run"].removeprefix("'"): row for row in page.csv("lengths")}
    for t in (12, 20, 40):
        x, y = sample_batch(50, t, seed=43)
        assert float(lengths[best][f"T={t}"]) == pytest.approx(
            ((model(x) - y) ** 2).mean().item(), rel=1e-5
        )


def test_damaged_runs_are_named(page: Page, folder: Path) -> None:
    assert str(folder / "damaged") in "".join(page.seen)
    assert "result.json is damaged" in "".join(page.seen)
    with pytest.raises(RunFolderError, match="no run in any of them"):
        runs.collect([folder / "a" / "model"])
    with pytest.raises(RunFolderError, match="is no folder"):
        runs.collect([folder / "nowhere"])


def beside_a_horizon_run(folder: Path, tmp_path: Path, **changes: Any) -> Path:
    """A finished run beside a `horizon.json` whose only rung diverged, with values exchanged."""
    rung = {
        "t": 12,
        "mse": math.nan,
        "solved": False,
        "sequence_steps": 5,
        "seconds": 1.5,
        "reached": {"1e-2": None, "1e-3": None},
    }
    document = {
        "horizon": None,
        "minutes": 2.0,
        "variant": "any",
        "seed": 0,
        "rungs": [rung | changes],
    }
    shutil.copytree(folder / "a", tmp_path / "a")
    (tmp_path / "horizon.json").write_text(json.dumps(document))
    return tmp_path


def test_a_horizon_run_that_diverged_is_shown(folder: Path, tmp_path: Path) -> None:
    found = report.write(
        [beside_a_horizon_run(folder, tmp_path)],
        tmp_path / "out.html",
        lengths=[12],
        sequences=10,
        threads=1,
        pictures=tmp_path / "pictures",
    )
    assert found.left_out == []
    page = Page((tmp_path / "out.html").read_text())
    (document,) = page.script("data")["horizons"]
    assert [(rung["t"], rung["mse"], rung["seconds"]) for rung in document["rungs"]] == [
        (12, None, 1.5)
    ]
    assert (tmp_path / "pictures" / "horizon-1.png").is_file()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"t": math.inf}, "t"),
        ({"t": 10**400}, "t"),
        ({"seconds": math.nan}, "seconds"),
        ({"sequence_steps": "many"}, "sequence_steps"),
        ({"mse": 10**400}, "mse"),
        ({"reached": {"1e-3": None}}, "reached"),
        ({"reached": 5}, "reached"),
        ({"reached": {"1e-2": {"seconds": 1}, "1e-3": None}}, "reached.1e-2.sequence_steps"),
    ],
)
def test_a_damaged_horizon_run_is_left_out(
    change: dict[str, Any], place: str, folder: Path, tmp_path: Path
) -> None:
    found = runs.collect([beside_a_horizon_run(folder, tmp_path, **change)])
    (sentence,) = found.left_out
    assert f"horizon.json: is damaged (rungs.0.{place}: " in sentence
    assert found.horizons == {}


# --- one run at a time ----------------------------------------------------------------------------


def test_weights_in_the_page_are_the_models(page: Page, folder: Path) -> None:
    """Unpacked by their description, they answer as the float64 equations do."""
    packed = page.script("model")
    hidden, values = (
        packed["hidden"],
        np.frombuffer(base64.b64decode(packed["weights"]), "<f4").astype(np.float64),
    )
    kernel, recurrent, bias, readout, offset = np.split(
        values, np.cumsum([8 * hidden, 4 * hidden**2, 4 * hidden, hidden])
    )
    weights = {
        "kernel": kernel.reshape(-1, 2).T,
        "recurrent": recurrent.reshape(-1, hidden).T,
        "bias": bias,
        "readout": readout[:, None],
        "readout_bias": offset,
    }
    x, _ = sample_batch(5, 30, seed=1)
    model = load_model(str(folder / packed["name"]))
    assert np.allclose(forward(weights, x.double().numpy())[0], model(x).detach(), atol=1e-6)


@pytest.mark.parametrize(("mix", "target"), [("swap", "difference"), ("rotate", "product")])
def test_weights_in_the_page_take_plain_inputs(mix: str, target: str, tmp_path: Path) -> None:
    """Fed with value and mark, they answer as the model does to the inputs that are exchanged or
    rotated."""
    train(
        config.load(
            None,
            SMALL
            | {
                "dataset.t": 12,
                "dataset.mix": mix,
                "dataset.target": target,
                "artifacts": str(tmp_path / "a"),
            },
        )
    )
    report.write([tmp_path / "a"], tmp_path / "out.html", lengths=[12], sequences=20, threads=1)
    page = Page((tmp_path / "out.html").read_text())
    packed = page.script("model")
    hidden, values = (
        packed["hidden"],
        np.frombuffer(base64.b64decode(packed["weights"]), "<f4").astype(np.float64),
    )
    kernel, recurrent, bias, readout, offset = np.split(
        values, np.cumsum([8 * hidden, 4 * hidden**2, 4 * hidden, hidden])
    )
    weights = {
        "kernel": kernel.reshape(-1, 2).T,
        "recurrent": recurrent.reshape(-1, hidden).T,
        "bias": bias,
        "readout": readout[:, None],
        "readout_bias": offset,
    }
    task = config.load(tmp_path / "a" / "config_copy.yaml").task
    mixed, plain = sample_batch(5, 30, seed=1, task=task)[0], sample_batch(5, 30, seed=1)[0]
    assert not np.allclose(mixed, plain)
    model = load_model(str(tmp_path / "a"))
    assert np.allclose(
        forward(weights, plain.double().numpy())[0], model(mixed).detach(), atol=1e-5
    )
    assert packed["target"] == target
    assert packed["constant"] == pytest.approx({"difference": 1 / 6, "product": 7 / 144}[target])
    seen = " ".join("".join(page.seen).split())
    assert {
        "difference": "The right answer is the first of the two minus the second.",
        "product": "The right answer is the product of the two.",
    }[target] in seen
    assert (
        f"Always predicting the mean has a mean squared error of {packed['constant']:.3f}" in seen
    )


def test_no_playground_with_noise_columns(tmp_path: Path) -> None:
    train(
        config.load(
            None,
            SMALL | {"dataset.t": 12, "dataset.noise_columns": 2, "artifacts": str(tmp_path / "a")},
        )
    )
    report.write([tmp_path / "a"], tmp_path / "out.html", lengths=[12], sequences=20, threads=1)
    page = Page((tmp_path / "out.html").read_text())
    assert page.script("model") is None
    assert "without noise columns" in "".join(page.seen)
    assert "Task: any, 2 noise columns" in " ".join("".join(page.seen).split())


@pytest.mark.parametrize("variant", ["any", "hs1997"])
@pytest.mark.parametrize("target", ["sum", "difference", "product", "first"])
def test_right_slopes_are_the_targets_derivatives(variant: Any, target: Any) -> None:
    """The target is linear in each marked value: an affine function through its slope, with the
    other value held."""
    task = Task(variant, target)
    x, y = sample_batch(200, 30, seed=3, task=task)
    counts = set()
    for values, marks, right in zip(x[..., 0].double(), x[..., 1], y[:, 0].double(), strict=True):
        marked = values[marks == 1].tolist()
        counts.add(len(marked))
        found = measure.slopes(task, marked)
        assert len(found) == len(marked)
        for index, value in enumerate(marked):  # with this value exchanged for zero
            rest = ([0.0, *marked])[-2:]
            rest[index - len(marked)] = 0.0
            left = {
                "sum": rest[0] + rest[1],
                "difference": rest[0] - rest[1],
                "product": rest[0] * rest[1],
                "first": rest[0],
            }[target]
            left = 0.5 + left / 4 if variant == "hs1997" else left
            assert float(right) == pytest.approx(left + found[index] * value, abs=1e-6)
    assert counts == ({1, 2} if variant == "hs1997" else {2})


def run_of(folder: Path) -> runs.Run:
    (run,) = runs.collect([folder]).runs
    return run


def test_gradient_and_cell_states(folder: Path) -> None:
    (measured,) = measure.measure([run_of(folder / "a")], [12], 10, threads=1)
    assert measured.memory is not None
    assert measured.memory.cells is not None
    model = load_model(str(folder / "a"))
    weights = weights_of(model.state_dict())
    items = sample_batch(64, 12, seed=43)[0].double().numpy()
    x = items[[np.argmax([np.ptp(np.flatnonzero(item[:, 1])) for item in items])]]
    assert measured.memory.marks == np.flatnonzero(x[0, :, 1]).tolist()
    assert measured.memory.target == pytest.approx((x[0, :, 0] * x[0, :, 1]).sum())
    assert measured.memory.right_gradient == [1, 1]
    for step in range(12):
        for column, gradient in enumerate(
            (measured.memory.value_gradient, measured.memory.mark_gradient)
        ):
            ends = []
            for shift in (-1e-5, 1e-5):
                moved = x.copy()
                moved[0, step, column] += shift
                ends.append(forward(weights, moved)[0].item())
            assert gradient[step] == pytest.approx(
                abs(ends[1] - ends[0]) / 2e-5, rel=1e-3, abs=1e-6
            )
    tape = forward(weights, x)[1]
    states = np.array([step[2][0] for step in tape[1:-1]] + [tape[-1][1][0]]).T
    for row in measured.memory.cells:
        assert np.abs(states - row).max(1).min() < 1e-6


class Summing(nn.Module):
    """A model that is no LSTM: the right answer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.prod(-1).sum(-1, keepdim=True)


def test_other_models_go_without_cells_and_playground(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "load_model", lambda path, backend="torch": Summing())
    (measured,) = measure.measure([run_of(folder / "a")], [12, 50], 10, threads=1)
    assert measured.memory is not None
    assert measured.memory.value_gradient.nonzero()[0].tolist() == measured.memory.marks
    assert measured.memory.value_gradient.max() == 1
    assert measured.mse == pytest.approx({12: 0, 50: 0}, abs=1e-12)
    report.write([folder / "a"], tmp_path / "out.html", threads=1)
    page = Page((tmp_path / "out.html").read_text())
    assert page.script("model") is None
    assert "The playground is left out" in "".join(page.seen)
    assert page.script("data")["models"][0]["memory"]["cells"] is None


def test_an_lstm_that_diverged_goes_without_cells(tmp_path: Path) -> None:
    train(
        config.load(
            None,
            {
                **SMALL,
                "dataset.t": 12,
                "train.learning_rate": 1e38,
                "artifacts": str(tmp_path / "a"),
            },
        )
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy's, where what is no number is made a pixel
        report.write([tmp_path / "a"], tmp_path / "out.html", lengths=[12], sequences=10, threads=1)
    (model,) = Page((tmp_path / "out.html").read_text()).script("data")["models"]
    assert model["mse"] is None
    assert model["memory"]["cells"] is None


class Limited(Summing):
    """A model without gradients that takes at most 20 steps."""

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > 20:
            raise ValueError("too long")
        return super().forward(x)


def test_a_model_with_limits_shows_what_it_can(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "load_model", lambda path, backend="torch": Limited())
    (measured,) = measure.measure([run_of(folder / "a")], [12, 50], 10, threads=1)
    assert list(measured.mse) == [12]
    assert measured.memory is None
    assert measured.problem == ""


def test_long_lengths_are_tested_when_asked_for() -> None:
    assert measure.default_lengths([made(0.1, 1, 1, t) for t in (100, 1000)]) == [
        100,
        1000,
        2000,
        5000,
        10_000,
    ]
    assert measure.default_lengths([made(0.1, 1, 1, t) for t in (8000, 1_000_000)]) == [
        8000,
        16_000,
    ]
    assert max(measure.default_lengths([made(0.1, 1, 1, 1_000_000)])) <= 20_000


def test_a_model_that_cannot_be_loaded_is_said_so(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    train(config.load(None, SMALL | {"dataset.t": 12, "artifacts": str(broken)}))
    RunFolder(broken).weights.write_bytes(b"nothing")
    report.write([broken], tmp_path / "out.html", threads=1)
    seen = "".join(Page((tmp_path / "out.html").read_text()).seen)
    assert "Not scored" in seen
    assert "model.safetensors is damaged" in seen


# --- several seeds --------------------------------------------------------------------------------


def made(
    best: float,
    reached: float | None,
    spent: int,
    t: int = 10,
    seed: int = 0,
    stop_reason: StopReason = "epochs",
) -> runs.Run:
    """A run that was never trained; it solved its task after `reached`, if that is not None."""
    rows = [EpochRow(2, best, best, spent, spent, spent)]
    if reached is not None:
        rows.insert(0, EpochRow(1, 1e-4, 1e-4, int(reached), int(reached), reached))
    run = config.load(None, {"dataset.t": t, "seed": seed})
    where: dict[str, Any] = {"device": "cpu", "backend": "torch", "threads": 1}
    result = RunResult.of(run, rows, 2, stop_reason, **where)
    return runs.Run("r", RunRecord(Path("r"), run, tuple(rows), result, None), method="m")


def grouped(*seeds: runs.Run) -> Group:
    records = tuple(run.record for run in seeds)
    return Group("m", Task(), 10, records, measure="validation MSE of the kept weights")


def test_survival_is_kaplan_and_meiers() -> None:
    # Solved at 10 and 30 of four; one given up at 20, one at 40: shares 1/4, then 1 - 3/4 * 1/2.
    seeds = [made(1e-4, 10, 50), made(0.1, None, 20), made(1e-4, 30, 50), made(0.1, None, 40)]
    steps = grouped(*seeds).cost("1e-3", "sequence_steps")
    assert steps.costs == (10, 30)
    assert steps.share == pytest.approx([1 / 4, 1 - 3 / 4 / 2])
    assert grouped(*seeds).cost("1e-3", "seconds").median == 30
    assert grouped(seeds[1]).cost("1e-3", "seconds").costs == ()


def test_a_seed_counts_once(folder: Path, tmp_path: Path) -> None:
    there = tmp_path / "runs"
    shutil.copytree(folder / "a", there / "a")
    shutil.copytree(folder / "a", there / "again")
    found = runs.collect([there, there / "a", f"{there}/../runs"])
    (group,) = summary.together(found.runs)
    assert len(found.runs) == 2
    assert (len(group.runs), group.repeated) == (1, 1)


def test_a_logger_makes_no_other_method_and_a_horizon_run_has_its_own_runs_alone(
    tmp_path: Path,
) -> None:
    made_of: dict[str, dict[str, Any]] = {
        "a": {},
        "b": {"logger": "tensorboard", "seed": 1},
        "t12": {"dataset.t": 12},
        "deep/t9": {"train.learning_rate": 0.5},
    }
    for name, values in made_of.items():
        RunFolder(tmp_path / name).open(
            config.load(
                None, SMALL | {"dataset.t": 9} | values | {"artifacts": str(tmp_path / name)}
            )
        )
    (tmp_path / "horizon.json").write_text("{}")
    methods = {run.name: run.method for run in runs.collect([tmp_path]).runs}
    assert methods["a"] == methods["b"]
    assert "horizon run" in methods["t12"]
    assert "horizon run" not in methods["a"] + methods["deep/t9"]
    assert methods["deep/t9"].endswith("learning_rate 0.5")


def test_a_run_of_unknown_cost_ends_no_curve() -> None:
    """Seconds of a model that was trained elsewhere are NaN, whatever place it has among the
    seeds."""
    known = made(1e-4, 10, 50, seed=1)
    other = made(1e-4, 5, 5)
    rows = (EpochRow(0, 1e-4, 1e-4, 5, 5, math.nan),)
    imported = replace(other, record=replace(other.record, rows=rows))
    for seeds in ((imported, known), (known, imported)):
        drawn = figures._group(grouped(*seeds))
        assert drawn["spent"]["seconds"] == 50
        assert drawn["known"] == {"sequence_steps": 1, "sequences": 1, "seconds": 1}


@pytest.mark.parametrize(
    ("value", "text"), [(99.7, "100"), (0.123, "0.12"), (1240, "1,240"), (math.nan, "–")]
)
def test_seconds_in_words(value: float, text: str) -> None:
    assert figures.seconds(value) == text


@given(st.text(max_size=80), st.integers(5, 60))
def test_a_long_name_is_shortened_in_the_middle(text: str, most: int) -> None:
    short = summary.middle(text, most)
    assert len(short) <= most
    head, dots, tail = short.rpartition("…")
    assert short == text if len(text) <= most else text.startswith(head) and text.endswith(tail)
    assert dots or len(text) <= most


def test_a_name_that_is_no_text_is_shown_with_a_mark(folder: Path, tmp_path: Path) -> None:
    (there := tmp_path / "runs").mkdir()
    shutil.copytree(folder / "a", os.fsdecode(os.fsencode(there) + b"/caf\xe9"))
    (there / "b").mkdir()
    (there / "b" / "config_copy.yaml").write_text("{")
    report.write([there], tmp_path / "page.html", lengths=[12], sequences=20, threads=1)
    assert "caf\N{REPLACEMENT CHARACTER}" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_intervals() -> None:
    group = grouped(*[made(1e-4, 1, 1)] * 4, made(0.1, None, 1))
    z, p, n = 1.959964, 0.8, 5
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    share = group.solved
    assert [share.low, share.high] == pytest.approx(
        [(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)], rel=1e-5
    )
    assert figures.interval(grouped(*[made(0.5, None, 1)] * 6)) == (0.5, 0.5)
    assert figures.interval(grouped(*[made(0.5, None, 1)] * 5)) is None
    assert figures.interval(grouped(*[made(math.nan, None, 1)] * 6)) is None


def test_runs_that_went_badly_are_not_left_out() -> None:
    """Two solved at 10; of three others the loss blew up or stood still: half of the runs never got
    there."""
    solved, diverged = made(1e-4, 10, 10), made(math.nan, None, 5)
    stuck = made(0.16, None, 5, stop_reason="early_stopping")
    for bad in (diverged, stuck):
        cost = grouped(*[solved] * 2, *[bad] * 3).cost("1e-3", "sequences")
        assert cost.median is None
        assert cost.costs == (10,)
        assert cost.share == pytest.approx((2 / 5,))
    assert grouped(*[solved] * 2, *[diverged] * 3).losses.median == math.inf


def test_methods_are_told_by_what_differs(tmp_path: Path) -> None:
    for name, values in (
        ("a", {"seed": 1}),
        ("b", {"model.hidden": 9}),
        ("c", {"train.learning_rate": 0.001, "seed": 2}),
    ):
        RunFolder(tmp_path / name).open(
            config.load(None, SMALL | values | {"artifacts": str(tmp_path / name)})
        )
    assert [run.method for run in runs.collect([tmp_path]).runs] == [
        "LSTM, original, hidden 8",
        "LSTM, original, hidden 8, learning_rate 0.001",
        "LSTM, original, hidden 9",
    ]


def test_tables_escape_formulas() -> None:
    assert Table("t", ["a", "b"], [["=1+1", -1.5], ["@x", None]]).csv == "a,b\n'=1+1,-1.5\n'@x,\n"


def test_the_command(folder: Path, command: Command, tmp_path: Path) -> None:
    done = command(
        "report",
        folder,
        "--out",
        "page.html",
        "--threads",
        1,
        "--sequences",
        20,
        "--lengths",
        12,
        "--title",
        "<b>Mine</b>",
        "--pictures",
        "for-paper",
        "--format",
        "pdf",
    )
    assert done.returncode == 0, done.stderr
    assert "4 runs, 0 solved" in done.stdout
    assert "left out" in done.stderr
    assert "&lt;b&gt;Mine&lt;/b&gt;" in (tmp_path / "page.html").read_text()
    assert {file.name for file in (tmp_path / "for-paper").iterdir()} == {
        "comparison.pdf",
        "lengths.pdf",
        "predictions-1-t12.pdf",
        "predictions-2-t12.pdf",
        "predictions-3-t20.pdf",
    }
    assert (tmp_path / "for-paper" / "lengths.pdf").read_bytes().startswith(b"%PDF")
    wrong = command("report", tmp_path / "nothing")
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
