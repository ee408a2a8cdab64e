"""Untrusted run folders and configurations are refused or read safely. The whole promise:
docs/security.md."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import safetensors.torch
import torch

from adding_problem.config import ModelConfig
from adding_problem.errors import AddingProblemError, BackendError, ConfigError, RunFolderError
from adding_problem.evaluation import validate
from adding_problem.evaluation.load_model import load_model
from adding_problem.experiments.train import train
from adding_problem.models import FAMILIES, build_model
from adding_problem.runs.folder import RunFolder
from adding_problem.system.memory import allocation_limit
from tests.conftest import REPOSITORY, Command
from tests.helpers.files import contents
from tests.helpers.training import small


@pytest.mark.parametrize(
    "name",
    [
        "model/model.safetensors",
        "model/model.json",
        "result.json",
        "metrics.csv",
        "model",
        "config_copy.yaml",
    ],
)
def test_links_do_not_lead_out_of_a_folder(name: str, finished: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    shutil.copytree(finished, secret)
    before = contents(secret)
    if (finished / name).is_dir():
        shutil.rmtree(finished / name)
    else:
        (finished / name).unlink()
    (finished / name).symlink_to(secret / name)
    run = RunFolder(finished)
    with pytest.raises(RunFolderError, match="is a link that leads out of the folder"):
        for read in (run.read_result, run.read_history, run.read_config, run.read_model):
            read()
    for attempt in (
        lambda: validate.validate(small(finished)),
        lambda: train(small(finished), overwrite=True),
    ):
        try:
            attempt()
        except AddingProblemError:
            continue
    assert contents(secret) == before


def test_a_link_inside_the_folder_is_a_file_like_another(finished: Path) -> None:
    (finished / "result.json").rename(finished / "kept.json")
    (finished / "result.json").symlink_to("kept.json")
    assert RunFolder(finished).read_result().epochs == 1


def test_a_pipe_does_not_hang_a_reader(finished: Path) -> None:
    (finished / "metrics.csv").unlink()
    os.mkfifo(finished / "metrics.csv")
    with pytest.raises(RunFolderError, match=r"lacks metrics\.csv"):
        RunFolder(finished).read_history()


LARGEST = {
    "hidden": 1 << 20,
    "states": 1 << 20,
    "levels": 40,
    "kernel": 1 << 16,
    "heads": 4,
    "layers": 6,
    "memory": 10**12,
}


needs_linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(),
    reason="needs Linux, which says how much memory was taken",
)


@needs_linux
def test_a_model_larger_than_its_weights_is_not_built(finished: Path) -> None:
    """Of every family the largest that a description may name, beside the few bytes of an LSTM's
    weights: none is built."""
    hostile = [
        {
            "family": name,
            "arguments": {key: LARGEST[key] for key in family.defaults if key in LARGEST},
        }
        for name, family in FAMILIES.items()
    ]
    hostile.append({"family": "s6", "arguments": {"hidden": 2840, "states": 65_536, "layers": 1}})
    hostile.append({"family": "tcn", "arguments": {"hidden": 2000, "levels": 8, "kernel": 5}})
    hostile += [
        {"family": name, "arguments": {"hidden": 5000, "init": init}}
        for name in ("lstm", "gru", "s6")
        for init in FAMILIES[name].choices["init"]
    ]
    peak, problems = _loaded_beside_one_model(finished, hostile)
    assert all(
        "expected float32" in problem or "expected no such tensor" in problem
        for problem in problems
    ), problems
    assert len(problems) == len(hostile)
    assert peak < 64 << 20


@needs_linux
@pytest.mark.parametrize(
    ("name", "hidden", "others"), [("lstm", 1400, {}), ("s6", 500, {"states": 10_000, "layers": 1})]
)
def test_a_model_takes_its_weights_twice(
    name: str, hidden: int, others: dict[str, int], finished: Path
) -> None:
    """The file, which is mapped, and the tensors; of families whose initial values take more than
    that to compute, too."""
    with torch.device("meta"):
        shapes = build_model(
            ModelConfig(name, hidden=hidden, arguments=others), device="meta"
        ).state_dict()
    weights = {key: torch.zeros(tensor.shape) for key, tensor in shapes.items()}
    size = sum(tensor.nbytes for tensor in weights.values())
    description = {"family": name, "arguments": {"hidden": hidden, **others}}
    RunFolder(finished).write_model(weights, description)
    peak, problems = _loaded_beside_one_model(finished, [description])
    assert problems == []
    assert size < peak < 2 * size + (16 << 20)


@needs_linux
def test_a_thousand_layers_of_nothing_take_no_memory_either(finished: Path) -> None:
    weights = {f"{number}": torch.zeros(0) for number in range(1200)}
    RunFolder(finished).write_model(weights, {"family": "lstm", "arguments": {"hidden": 4}})
    peak, problems = _loaded_beside_one_model(
        finished, [{"family": "s6", "arguments": {"hidden": 8, "layers": 1000}}]
    )
    assert len(problems) == 1
    assert peak < 64 << 20


def _loaded_beside_one_model(
    folder: Path, descriptions: list[dict[str, Any]]
) -> tuple[int, list[str]]:
    """Bytes that a process takes at most for loading the folder with each description in its turn,
    and how each was refused.

    What the program itself takes is there before: it has made an outline of each family.
    """
    program = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from adding_problem import models\n"
        "from adding_problem.evaluation.load_model import load_model\n"
        "from adding_problem.config import ModelConfig\n"
        "from adding_problem.errors import RunFolderError\n"
        "import torch\n"
        "with torch.device('meta'):\n"
        "    for name in models.FAMILIES: models.build_model(ModelConfig(name), device='meta')\n"
        "def peak():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(1024 * int(line.split()[1]) for line in lines if line[:5] == 'VmHWM')\n"
        "Path('/proc/self/clear_refs').write_text('5')\n"  # the peak begins anew, see proc(5)
        "before, problems, file = peak(), [], Path(sys.argv[1], 'model', 'model.json')\n"
        "digest = json.loads(file.read_text())['weights_digest']\n"
        "for description in json.loads(sys.argv[2]):\n"
        "    file.write_text(json.dumps(description | {'weights_digest': digest}))\n"
        "    try: load_model(sys.argv[1])\n"
        "    except RunFolderError as error: problems.append(str(error))\n"
        "print(json.dumps([peak() - before, problems]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder), json.dumps(descriptions)],
        capture_output=True,
        text=True,
        check=True,
    )
    peak, problems = json.loads(done.stdout)
    return peak, problems


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"family": []}, "family: Input should be a valid string"),
        ({"family": "own", "name": ["os"]}, "name: Input should be a valid string"),
        ({"arguments": {"hidden": 4, "init": {}}}, "init: expected one of"),
        ({"arguments": [1]}, "arguments: expected names and values"),
        (
            {"arguments": {"hidden": 4, "init": "long", "memory": 10**400}},
            "memory: expected a whole number from 1 to 1,000,000,000,000",
        ),
        ({"arguments": {"hidden": 2**62}}, "hidden: expected a whole number from 1 to 1,048,576"),
        (
            {"family": "tcn", "arguments": {"hidden": 1, "levels": 3000, "kernel": 1}},
            "expected at most 40 levels",
        ),
        (
            {"family": "indrnn", "arguments": {"hidden": 1, "layers": 1000}},
            "layers: expected at most 6, as many as there are tensors",
        ),
    ],
)
def test_descriptions_of_models_are_checked(
    change: dict[str, Any], problem: str, finished: Path
) -> None:
    file = finished / "model" / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RunFolderError, match=problem):
        load_model(str(finished))


def lying(shape: list[int], end: int, length: int | None = None) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(4)


@pytest.mark.parametrize(
    "data",
    [
        lying([1], 4, 2**63),
        lying([1], 4, 99_999_999),
        lying([2**40], 2**42),
        lying([2**40], 4),
        lying([2**32, 2**32], 4),
        b"",
        b"\x01",
    ],
)
def test_headers_that_lie(data: bytes, finished: Path) -> None:
    (finished / "model" / "model.safetensors").write_bytes(data)
    with pytest.raises(RunFolderError, match="is damaged"):
        load_model(str(finished))


def test_weights_with_a_flipped_bit_are_not_used(finished: Path) -> None:
    file = finished / "model" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(RunFolderError, match="its digest is not that of"):
        load_model(str(finished))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"t": "x"}, "t"),
        ({"t": 12.5}, "t"),
        ({"epochs": -1}, "epochs"),
        ({"seconds": "1"}, "seconds"),
        ({"stop_reason": "tired"}, "stop_reason"),
        ({"variant": "halved"}, "variant"),
        ({"imported": "elsewhere"}, "imported"),
        ({"reached": {"1e-2": 5, "1e-3": None}}, "reached.1e-2"),
        ({"reached": {"1e-2": None}}, "reached"),
        (
            {
                "reached": {
                    "1e-2": {
                        "epoch": 1,
                        "sequences": 1,
                        "sequence_steps": float("nan"),
                        "seconds": 1.0,
                    },
                    "1e-3": None,
                }
            },
            "reached.1e-2.sequence_steps",
        ),
        ({"backend": "\x1b[2J"}, "backend"),
        ({"sequences": 10**30}, "sequences"),
    ],
)
def test_results_are_checked(change: dict[str, Any], place: str, finished: Path) -> None:
    file = finished / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RunFolderError, match=rf"result\.json is damaged \({re.escape(place)}: "):
        RunFolder(finished).read_result()


def test_null_is_nan_where_a_number_stands_and_missing_is_damage(finished: Path) -> None:
    file = finished / "result.json"
    cost = {"epoch": 1, "sequences": 1, "sequence_steps": 1, "seconds": None}
    result = json.loads(file.read_text()) | {
        "seconds": None,
        "reached": {"1e-2": cost, "1e-3": None},
    }
    file.write_text(json.dumps(result))
    read = RunFolder(finished).read_result()
    first = read.reached["1e-2"]
    assert first
    assert math.isnan(read.seconds)
    assert math.isnan(first.seconds)
    assert read.reached["1e-3"] is None
    del result["seconds"]
    file.write_text(json.dumps(result))
    with pytest.raises(RunFolderError, match=r"result\.json is damaged \(seconds: Field required"):
        RunFolder(finished).read_result()


def test_what_cannot_fit_is_refused_before_it_is_taken(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="memory: the sequences take"):
        train(small(tmp_path / "a", dataset__dt_length=10**9, dataset__t=10**6))
    for name, arguments in (
        ("lstm", {}),
        ("exprnn", {}),
        ("s6", {"states": 2**20}),
        ("tcn", {"kernel": 2**16}),
    ):
        with pytest.raises(BackendError, match="memory: to build the model takes"):
            train(
                small(
                    tmp_path / "b",
                    model__name=name,
                    model__hidden=2**20,
                    **{f"model__{key}": value for key, value in arguments.items()},
                )
            )
    with pytest.raises(
        ConfigError, match=r"model\.layers: expected a whole number from 1 to 1,000"
    ):
        train(small(tmp_path / "b", model__name="mingru", model__layers=10**6))
    with pytest.raises(MemoryError), allocation_limit(1000):
        torch.zeros(500) + torch.zeros(500)


def test_control_characters_do_not_reach_the_terminal(finished: Path, command: Command) -> None:
    weights = safetensors.torch.load_file(finished / "model" / "model.safetensors")
    weights["\x1b[2Jw"] = torch.zeros(1)
    run = RunFolder(finished)
    run.write_model(weights, json.loads(run.model_description.read_text()))
    done = command("validate", "--config", finished / "config_copy.yaml")
    assert done.returncode == 2
    assert "does not hold what" in done.stderr
    assert "\x1b" not in done.stderr


def test_control_characters_of_a_configuration_and_of_folders_do_not_reach_the_terminal(
    finished: Path, command: Command, tmp_path: Path
) -> None:
    copy = finished / "config_copy.yaml"
    copy.write_text(copy.read_text().replace("start_from: null", 'start_from: "\\e]0;x\\a[/red]"'))
    for name in ("a\x1b[2J", "b"):
        shutil.copytree(finished, tmp_path / "runs" / name)
    (tmp_path / "runs" / "b" / "config_copy.yaml").write_text(
        copy.read_text().replace("seed: 0 ", "seed: 1 ")
    )
    (tmp_path / "runs" / "a\x1b[2J" / "metrics.csv").write_text("rubbish")
    for words in (
        ["compare", "runs/b", finished, "--out", "new/picture.png"],
        ["report", "runs", "--out", "page.html"],
    ):
        done = command(*words)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr


def test_folder_names_are_text_not_markup(finished: Path, command: Command, tmp_path: Path) -> None:
    finished.rename(tmp_path / "[red]x[")
    done = command("compare", "[red]x[", "--out", "picture.png")
    assert done.returncode == 0, done.stderr
    assert "[red]x[" in done.stdout


def test_readers_load_no_code(finished: Path) -> None:
    """Reading a run folder runs nothing that it brought, and opens nothing but it, what is
    installed and what the kernel says."""
    program = (
        "import sys\n"
        "from adding_problem.evaluation.load_model import load_model\n"
        "from adding_problem.runs.folder import RunFolder\n"
        "import torch.utils._python_dispatch\n"
        "run, found = RunFolder(sys.argv[1]), []\n"
        "run.read_result(), load_model(sys.argv[1])\n"  # what the program loads when first used
        "def audit(event, arguments):\n"
        "    if event == 'open' and isinstance(arguments[0], str): found.append(arguments[0])\n"
        "    if event in ('import', 'exec', 'compile', 'pickle.find_class', 'os.system',\n"
        "                 'subprocess.Popen'): found.append(event)\n"
        "sys.addaudithook(audit)\n"
        "run.read_result(), run.read_history(), load_model(sys.argv[1])\n"
        "allowed = sys.argv[1], sys.prefix, '/proc/', '/sys/fs/cgroup/'\n"
        "print([name for name in found if not name.startswith(allowed)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(finished)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# --- the audit ------------------------------------------------------------------------------------


def load_audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", REPOSITORY / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(f)",
        "pickle.loads(b)",
        "torch.load(f)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(t)",
        "yaml.load(t, Loader=yaml.Loader)",
        "yaml.unsafe_load(t)",
        "eval(t)",
        "exec(t)",
        "pickle.Unpickler(f)",
        "from pickle import loads",
        "os.system(t)",
    ],
)
def test_the_audit_finds_calls_that_can_execute(line: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(f"x = 1\n{line}\n")
    (finding,) = load_audit().dangerous_calls(tmp_path)
    assert "bad.py:2" in finding


def test_the_audit_passes_what_is_safe(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(
        "pickle.dumps(x)\n"
        "yaml.load(t, Loader=_Loader)\n"
        "yaml.safe_load(t)\n"
        "np.load(f)\n"
        "model.eval()\n"
    )
    assert load_audit().dangerous_calls(tmp_path) == []
    assert load_audit().dangerous_calls(REPOSITORY / "src") == []


def test_the_audit_finds_versions_that_differ() -> None:
    audit = load_audit()
    assert audit.wrong_versions({"numpy": "2.0"}, {"numpy": "1.0"}) == [
        "numpy 1.0 is installed, 2.0 is pinned"
    ]
    assert audit.wrong_versions({"numpy": "2.0"}, {"numpy": "2.0", "left-pad": "1"}) == [
        "left-pad 1 is installed and not pinned"
    ]
    assert len(audit.known_bad({"lightning": "2.6.2"})) == 1
    assert audit.known_bad({"lightning": "2.6.1"}) == []


def test_every_pin_has_its_hashes() -> None:
    """`make lock` writes requirements.lock anew when constraints.txt has changed."""
    audit = load_audit()
    assert (
        audit.lock_problems(REPOSITORY / "constraints.txt", REPOSITORY / "requirements.lock") == []
    )
