"""How a run's files travel between machines, without a cluster."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import fsspec
import pytest

from adding_problem.errors import ConfigError, LockError, RunFolderError
from adding_problem.experiments.sweep import cluster
from adding_problem.experiments.sweep.job import Job
from adding_problem.experiments.train import train
from adding_problem.runs import transport
from adding_problem.runs.folder import RunFolder
from tests.helpers.files import contents
from tests.helpers.sweeps import wait_for
from tests.helpers.training import Interrupt, numbers, small


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", ""])
def test_no_file_is_written_outside_of_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="which would be outside"):
        transport.restore(RunFolder(tmp_path / "run"), {name: b"x"})
    assert not (tmp_path / "x").exists()


def test_the_configuration_is_written_first_and_the_result_last() -> None:
    files = dict.fromkeys(["result.json", "a", "config_copy.yaml", "z"], b"")
    assert [name for name, _ in transport.in_order(files)] == [
        "config_copy.yaml",
        "a",
        "z",
        "result.json",
    ]


@pytest.mark.parametrize("kind", ["folder", "url"])
def test_a_cut_run_goes_on_elsewhere_from_what_was_sent(kind: str, tmp_path: Path) -> None:
    place = cluster._Files(
        str(tmp_path / "kept") if kind == "folder" else f"memory://{tmp_path}/kept"
    )
    wanted = small(tmp_path / "driver" / "run")
    job = Job("run", wanted, score=False)
    first = RunFolder(tmp_path / "first")
    with cluster._Sender(first, job, place), pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(wanted, artifacts=str(first.path)), listener=Interrupt(3))
    second = RunFolder(tmp_path / "second")
    transport.restore(second, place.load("run"))
    assert second.read_config() == wanted  # which names the driver's folder, not a node's
    with cluster._Sender(second, job, place):
        resumed = train(dataclasses.replace(wanted, artifacts=str(second.path)), resume=True)
    transport.restore(RunFolder(wanted.artifacts), place.load("run"))
    assert numbers(RunFolder(wanted.artifacts).read_result()) == numbers(resumed)
    assert numbers(train(small(tmp_path / "uncut"))) == numbers(resumed)
    kept, sent = RunFolder(wanted.artifacts).read_history(), first.read_history()
    assert kept[: len(sent)] == sent  # its seconds too: nothing that was sent is trained again
    assert train(wanted) == resumed  # complete: not trained again
    if kind == "url":
        fsspec.filesystem("memory").rm(f"{tmp_path}/kept", recursive=True)


def test_files_are_listed_while_a_lock_comes_and_goes(tmp_path: Path) -> None:
    """As that of a run which the driver's display looks at."""
    (tmp_path / "result.json").write_text("{}")
    (tmp_path / ".away").mkdir()
    (tmp_path / ".away" / "owner").touch()
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            (tmp_path / ".away").rename(tmp_path / ".lock-holder.json")
            (tmp_path / ".lock-holder.json").rename(tmp_path / ".away")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        assert all(list(transport.stamps(tmp_path)) == ["result.json"] for _ in range(500))
    finally:
        ended.set()
        thread.join()


class Place:
    """Counts what it is sent; refuses the first time."""

    def __init__(self) -> None:
        self.refused, self.sent = False, list[set[str]]()

    def load(self, name: str) -> dict[str, bytes]:
        return {}

    def save(self, name: str, files: dict[str, bytes]) -> None:
        if not self.refused:
            self.refused = True
            raise ConnectionError("no storage now")
        self.sent.append(set(files))


def test_changed_files_alone_are_sent_and_a_refusal_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_SYNC_SECONDS", 0.01)
    folder, place = RunFolder(tmp_path), Place()
    (tmp_path / "before").write_text("fetched, not to be sent back")
    with cluster._Sender(folder, Job("run", small(tmp_path), score=False), place):
        (tmp_path / "a").write_text("1")
        (tmp_path / ".a.tmp").write_text("half a file")
        wait_for(lambda: {"a"} in place.sent)
        (tmp_path / "b").write_text("2")
        wait_for(lambda: {"b"} in place.sent)
        time.sleep(0.1)
    assert place.sent == [{"a"}, {"b"}]
    assert place.refused


def test_a_client_that_is_no_node_is_refused() -> None:
    with pytest.raises(ConfigError, match="ray job submit"):
        cluster.RayEngine(address="ray://head:10001")


@pytest.mark.parametrize("target", ["elsewhere", "kept/other"])
def test_files_are_neither_read_nor_written_through_a_link_in_the_place_of_a_run(
    target: str, tmp_path: Path
) -> None:
    (tmp_path / target).mkdir(parents=True)
    (tmp_path / target / "result.json").write_text("precious")
    (tmp_path / "kept").mkdir(exist_ok=True)
    (tmp_path / "kept" / "run").symlink_to(tmp_path / target)
    place, desk = (
        cluster._Files(str(tmp_path / "kept")),
        cluster._Desk(str(tmp_path / "kept")),
    )
    for attempt in (
        lambda: place.load("run"),
        lambda: place.save("run", {"result.json": b"{}"}),
        lambda: desk.save("run", {"result.json": b"{}"}),
    ):
        with pytest.raises(RunFolderError, match="is a link"):
            attempt()
    assert [file.read_text() for file in (tmp_path / target).iterdir()] == ["precious"]


def test_links_in_a_run_folder_are_neither_followed_by_what_is_sent_nor_by_what_is_received(
    tmp_path: Path,
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    (run.path / "metrics.csv").symlink_to(tmp_path / "secret" / "key")
    (run.path / "model").symlink_to(tmp_path / "secret")
    assert transport.stamps(run.path) == {}
    with pytest.raises(RunFolderError, match="leads out of the folder"):
        transport.restore(run, {"model/new/model.json": b"{}"})
    assert [path.name for path in (tmp_path / "secret").iterdir()] == ["key"]


def test_a_run_that_another_process_holds_is_not_written_by_the_desk(tmp_path: Path) -> None:
    desk = cluster._Desk(str(tmp_path))
    with RunFolder(tmp_path / "run").locked(), pytest.raises(LockError, match="is at work in it"):
        desk.save("run", {"result.json": b"{}"})
    desk.save("run", {"result.json": b"{}"})
    assert list(contents(tmp_path / "run")) == ["result.json"]
