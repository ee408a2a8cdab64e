"""A folder of runs: what a horizon run did not make there, or what lies elsewhere, is neither
deleted nor written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from adding_problem import config, report
from adding_problem.config import RunConfig
from adding_problem.errors import LockError, RunFolderError
from adding_problem.experiments import horizon as module
from adding_problem.experiments.train import train
from adding_problem.runs import atomic_io
from adding_problem.runs.collection import RunsFolder, run_inside
from adding_problem.runs.folder import HORIZON, RunFolder
from tests.conftest import Command
from tests.helpers.files import contents
from tests.helpers.horizons import find_horizon
from tests.helpers.training import Interrupt, small


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that somebody wants to keep."""
    path = tmp_path_factory.mktemp("runs") / "precious"
    train(small(path, train__epochs=1))
    return path


@pytest.fixture
def precious(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "precious"))


@pytest.fixture(scope="module")
def climbed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A horizon run over one length."""
    path = tmp_path_factory.mktemp("climbs") / "climb"
    find_horizon(path, [10])
    return path


@pytest.fixture
def climbed(climbed_once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(climbed_once, tmp_path / "climb"))


def cut(run: RunConfig) -> nullcontext[Interrupt]:
    """A listener that ends a run in its first epoch, as Ctrl-C does."""
    return nullcontext(Interrupt(1))


# --- deleting -------------------------------------------------------------------------------------


def test_overwriting_empties_neither_runs_of_others_nor_what_links_lead_to(
    precious: Path, climbed: Path
) -> None:
    (climbed / "t100").symlink_to("../precious")
    for name in ("t150_my_paper_run", "t300", "t10-notes"):
        shutil.copytree(precious, climbed / name)
    (climbed / "t300-2").symlink_to("t300")
    kept = [precious, *(climbed / name for name in ("t150_my_paper_run", "t300", "t10-notes"))]
    before = [contents(path) for path in kept]
    first = (climbed / "t10" / "result.json").stat().st_mtime_ns
    (rung,) = find_horizon(climbed, [10], overwrite=True)
    assert rung.solved
    assert [contents(path) for path in kept] == before
    assert (climbed / "t100").is_symlink()
    assert (climbed / "t10" / "result.json").stat().st_mtime_ns > first


def test_overwriting_a_folder_without_a_climb_deletes_nothing(
    precious: Path, tmp_path: Path, command: Command
) -> None:
    """`t20` alone stands in the way, and is told before anything is done."""
    for name in ("t150_my_paper_run", "t20"):
        shutil.copytree(precious, tmp_path / "climb" / name)
    before = contents(tmp_path / "climb")
    done = command("horizon", "--overwrite", "--artifacts", "climb", "--lengths", 20)
    assert done.returncode == 2
    assert (
        "t20: holds a run that climb/horizon.json does not record as begun for it, "
        "and is not deleted" in done.stderr
    )
    assert contents(tmp_path / "climb") == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("target", ["../precious", "t300", "../nothing", "t20"])
def test_no_run_is_where_a_link_stands(
    target: str, overwrite: bool, precious: Path, tmp_path: Path
) -> None:
    """A link to another place, to another run of the same folder, to nothing, to itself."""
    shutil.copytree(precious, tmp_path / "climb" / "t300")
    (tmp_path / "climb" / "t20").symlink_to(target)
    before = contents(precious) | contents(tmp_path / "climb" / "t300")
    with pytest.raises(RunFolderError, match="t20: is a link"):
        find_horizon(tmp_path / "climb", [20], overwrite=overwrite)
    assert contents(precious) | contents(tmp_path / "climb" / "t300") == before
    assert not (tmp_path / "nothing").exists()


def test_a_recorded_run_in_whose_place_another_stands_is_not_deleted(
    precious: Path, climbed: Path
) -> None:
    shutil.rmtree(climbed / "t10")
    shutil.copytree(precious, climbed / "t10")
    with pytest.raises(RunFolderError, match=r"t10: holds a run that .* does not record"):
        find_horizon(climbed, [10], overwrite=True)
    find_horizon(climbed, [5], overwrite=True)
    assert contents(climbed / "t10") == contents(precious)


@pytest.mark.parametrize(
    "name", ["../precious", "..", "", "/", "t10/../../precious", "a\0", "link"]
)
def test_a_record_from_a_stranger_leads_nowhere(name: str, precious: Path, climbed: Path) -> None:
    (climbed / "link").symlink_to("../precious")
    document = json.loads((climbed / HORIZON).read_text())
    digest = RunsFolder(precious.parent, HORIZON)._digest_of("precious")
    assert digest
    document["runs"] += [
        {"name": name, "config": digest},
        {"name": 3, "config": digest},
        {"name": "t10"},
        "t10",
        None,
    ]
    (climbed / HORIZON).write_text(json.dumps(document))
    before = contents(precious)
    folder = RunsFolder(climbed, HORIZON)
    with folder.locked():
        folder.delete()
    assert contents(precious) == before
    assert contents(climbed / "t10") == {}


def test_links_inside_a_run_are_told_before_anything_is_deleted(
    precious: Path, climbed: Path
) -> None:
    shutil.rmtree(climbed / "t10" / "model")
    (climbed / "t10" / "model").symlink_to(precious / "model")
    before = contents(precious), contents(climbed)
    with pytest.raises(RunFolderError, match="model is a link that leads out"):
        find_horizon(climbed, [10], overwrite=True)
    assert (contents(precious), contents(climbed)) == before


def test_what_killed_processes_left_is_not_looked_for_through_links(
    precious: Path, tmp_path: Path
) -> None:
    stray = precious / "model" / ".model.json.0123456789abcdef.tmp"
    stray.touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(precious / "model")
    atomic_io.remove_leftovers(tmp_path / "run")
    assert stray.exists()


def test_nothing_is_deleted_while_another_process_holds_a_run(climbed: Path) -> None:
    before = contents(climbed)
    with RunFolder(climbed / "t10").locked(), pytest.raises(LockError, match="is at work in it"):
        find_horizon(climbed, [10], overwrite=True)
    assert {name: data for name, data in contents(climbed).items() if ".lock" not in name} == before


def test_a_climb_that_was_cut_in_its_first_run_knows_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        find_horizon(tmp_path, [20], following=cut)
    assert RunFolder(tmp_path / "t20").config_copy.is_file()
    (rung,) = find_horizon(tmp_path, [10], overwrite=True)
    assert rung.t == 10
    assert contents(tmp_path / "t20") == {}


def test_records_are_in_the_order_in_which_runs_began(tmp_path: Path) -> None:
    """Not in that of an earlier call, which was killed before its run had a file."""
    folder = RunsFolder(tmp_path, HORIZON)
    for name in ("t20", "t10", "t20"):
        folder.record(small(tmp_path / name))
    assert [entry["name"] for entry in folder.records] == ["t10", "t20"]


class Killed(BaseException):
    """In the place of a kill, which no handler of errors sees."""


def test_a_deletion_that_is_killed_anywhere_is_finished_by_the_next(
    climbed: Path, precious: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (climbed / "t10" / "notes.txt").write_text("mine")
    shutil.copytree(precious, climbed / "t300")
    points, end = 0, False
    while not end:
        folder, left = RunsFolder(shutil.copytree(climbed, tmp_path / str(points)), HORIZON), points

        def remove(
            path: Path, *, folder: bool = False, kept: Callable[..., None] = atomic_io.remove
        ) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            kept(path, folder=folder)

        with monkeypatch.context() as patched, folder.locked():
            patched.setattr(atomic_io, "remove", remove)
            try:
                folder.delete()
                end = True
            except Killed:
                points += 1
        with folder.locked():
            folder.delete()
        assert contents(folder.path / "t10") == {"notes.txt": b"mine"}
        assert contents(folder.path / "t300") == contents(precious)
    assert points > 10


# --- what is not deleted is used as before --------------------------------------------------------


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "climb").symlink_to("disk")
    for overwrite in (False, True):
        (rung,) = find_horizon(tmp_path / "climb", [10], overwrite=overwrite)
        assert rung.solved
    assert (tmp_path / "disk" / "t10" / "result.json").is_file()


def test_a_summary_without_records_owns_no_run(climbed: Path) -> None:
    """Its rungs name the folders of runs, and that alone makes none of them its own."""
    document = json.loads((climbed / HORIZON).read_text())
    assert document["rungs"]
    del document["runs"]
    (climbed / HORIZON).write_text(json.dumps(document))
    before = contents(climbed)
    with pytest.raises(RunFolderError, match="does not record as begun for it, and is not deleted"):
        find_horizon(climbed, [10], overwrite=True)
    assert contents(climbed) == before


def test_another_models_unsolved_run_is_not_replaced_by_a_larger_budget(tmp_path: Path) -> None:
    """Neither one that `train` left there, nor the climb's own with another model."""
    find_horizon(tmp_path, [10], minutes=1e-4)
    before = contents(tmp_path / "t10")
    other = config.load(
        None,
        {
            "recipe": "fast",
            "model.hidden": 8,
            "dataset.held_out": 64,
            "validate.dt_length": 100,
            "threads": 1,
            "train.stop_val_loss": 8e-4,
            "artifacts": str(tmp_path),
        },
    )
    with pytest.raises(RunFolderError, match="holds a run of another configuration"):
        list(
            module.find_horizon(other, minutes=2, lengths=[10], following=lambda run: nullcontext())
        )
    assert contents(tmp_path / "t10") == before


def test_a_run_that_was_not_recorded_is_not_tried_again_from_its_beginning(tmp_path: Path) -> None:
    find_horizon(tmp_path, [10], minutes=1e-4)
    (tmp_path / HORIZON).unlink()
    (tmp_path / module.PICTURE).unlink()
    before = contents(tmp_path / "t10")
    with pytest.raises(RunFolderError, match="does not record as begun for it, and is not deleted"):
        find_horizon(tmp_path, [10])
    assert contents(tmp_path / "t10") == before


# --- the summary and the picture ------------------------------------------------------------------


def test_a_summary_that_is_a_link_is_neither_read_nor_replaced(
    precious: Path, climbed: Path, tmp_path: Path
) -> None:
    (climbed / HORIZON).rename(tmp_path / "elsewhere.json")
    (climbed / HORIZON).symlink_to(tmp_path / "elsewhere.json")
    before = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(RunFolderError, match=r"horizon\.json is a link that leads out"):
            find_horizon(climbed, [10], overwrite=overwrite)
    assert contents(tmp_path) == before
    assert (climbed / HORIZON).is_symlink()
    page = report.write([str(climbed)], tmp_path / "page.html", lengths=[10], sequences=10)
    assert [problem for problem in page.left_out if "a link that leads out" in problem]
    assert page.horizons == {}


@pytest.mark.parametrize("name", [HORIZON, module.PICTURE])
def test_a_file_that_no_climb_has_made_is_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(RunFolderError, match=name):
            find_horizon(tmp_path, [10], overwrite=overwrite)
    assert contents(tmp_path) == {name: b"mine"}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"runs": 3}', '{"rungs": [], "runs": {}}', "[" * 100_000, '{"horizon": 100}'],
)
def test_a_summary_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / HORIZON).write_text(text)
    with pytest.raises(RunFolderError, match=r"horizon\.json is damaged, or another program's"):
        find_horizon(tmp_path, [10])
    assert contents(tmp_path) == {HORIZON: text.encode()}


def test_a_picture_that_is_a_link_is_replaced_and_not_written_through(
    climbed: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.png").write_text("mine")
    (climbed / module.PICTURE).unlink()
    (climbed / module.PICTURE).symlink_to(tmp_path / "mine.png")
    find_horizon(climbed, [10], overwrite=True)
    assert (tmp_path / "mine.png").read_text() == "mine"
    assert not (climbed / module.PICTURE).is_symlink()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "../a", "a/", "a\0"])
def test_names_of_runs_inside(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError):
        run_inside(tmp_path, name)
    assert run_inside(tmp_path, "a").path == tmp_path / "a"
