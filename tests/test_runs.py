"""The run folder: whole files or none, jsonl after a crash, and stages that are done."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kinocell import runs
from kinocell.errors import RunError


def write_and_fail(path: Path, error: BaseException) -> None:
    with runs.atomic_write(path) as file:
        file.write(b"new")
        raise error


def test_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "weights.bin"
    with runs.atomic_write(path) as file:
        file.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_interrupted_write_keeps_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    with pytest.raises(error):
        write_and_fail(path, error())
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["weights.bin"]


def test_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    with pytest.raises(RunError, match="disk is full"):
        write_and_fail(path, OSError(errno.ENOSPC, "No space left on device"))
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["weights.bin"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_full_disk_while_a_line_is_appended_is_one_sentence() -> None:
    with pytest.raises(RunError, match="disk is full"):
        runs.append_jsonl(Path("/dev/full"), {"epoch": 0})


def test_file_in_the_place_of_the_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("I am a file")
    with pytest.raises(RunError, match="Cannot write"):
        runs.write_json(tmp_path / "out" / "config.json", {})


def test_only_unfinished_files_of_the_folder_itself_and_those_in_it_are_cleared(
    tmp_path: Path,
) -> None:
    def temporary(folder: Path) -> Path:
        folder.mkdir(exist_ok=True, parents=True)
        with runs.atomic_write(folder / "it.json"):
            (path,) = folder.glob(".it.json.*")
            name = path.name
        (folder / name).touch()
        return folder / name

    own, checkpoint = temporary(tmp_path), temporary(tmp_path / "checkpoints")
    anothers_run = temporary(tmp_path / "runs" / "search")
    notes = tmp_path / ".my-new-ideas.tmp"
    notes.touch()
    runs.clear_unfinished(tmp_path)
    assert not own.exists()
    assert not checkpoint.exists()
    assert anothers_run.exists()
    assert notes.exists()


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"class": "Händstand \u2028", "scores": [1, 0.5, None]}
    runs.write_json(tmp_path / "a.json", value)
    assert runs.read_json(tmp_path / "a.json", "scores") == value


@pytest.mark.parametrize("links", [True, False])
def test_of_all_who_write_a_file_once_at_the_same_moment_one_does(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:  # some file systems have none; there nobody is promised who is first
        monkeypatch.setattr(os, "link", no_links)
    path, ready = tmp_path / "new" / "once.json", threading.Barrier(8 if links else 1)

    def write(number: int) -> bool:
        ready.wait()
        return runs.write_json_once(path, {"by": number})

    with ThreadPoolExecutor(8 if links else 1) as pool:
        done = list(pool.map(write, range(8)))
    assert done.count(True) == 1
    assert runs.read_json(path, "a file") == {"by": done.index(True)}
    assert [file.name for file in path.parent.iterdir()] == ["once.json"]


def test_missing_json_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist; it should hold a genotype"):
        runs.read_json(tmp_path / "genotype.json", "a genotype")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_damaged_json_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(RunError, match="cannot be read as a genotype"):
        runs.read_json(tmp_path / "a.json", "a genotype")


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [{"epoch": 0, "name": "a\u2028b\x85c"}, {"epoch": 1, "name": "d\ne"}]
    for row in rows:
        runs.append_jsonl(path, row)
    assert runs.read_jsonl(path) == rows


def test_missing_jsonl_has_no_rows(tmp_path: Path) -> None:
    assert runs.read_jsonl(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("cut_off", ['{"epo', "{"])
def test_line_cut_off_by_a_crash_costs_only_itself(tmp_path: Path, cut_off: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 0}\n' + cut_off)
    assert runs.read_jsonl(path) == [{"epoch": 0}]
    runs.append_jsonl(path, {"epoch": 1})
    assert runs.read_jsonl(path) == [{"epoch": 0}, {"epoch": 1}]


def test_first_line_cut_off_leaves_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epo')
    runs.append_jsonl(path, {"epoch": 0})
    assert path.read_text() == '{"epoch": 0}\n'


def test_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 0}\n{"epoch"\n{"epoch": 2}\n')
    with pytest.raises(RunError, match=r"metrics.jsonl, line 2 is damaged"):
        runs.read_jsonl(path)


def test_rows_that_will_be_written_again_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for epoch in range(4):
        runs.append_jsonl(path, {"epoch": epoch})
    runs.keep_rows(path, "epoch", 2)
    assert [row["epoch"] for row in runs.read_jsonl(path)] == [0, 1]
    runs.keep_rows(tmp_path / "none.jsonl", "epoch", 2)
    assert not (tmp_path / "none.jsonl").exists()


def test_stage_is_done_only_after_it_was_finished(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    assert not runs.stage_is_done(folder, {"epochs": 3})
    assert not runs.stage_is_done(folder, {"epochs": 3})
    runs.finish_stage(folder, {"epoch": 2})
    assert runs.stage_is_done(folder, {"epochs": 3})
    assert runs.stage_summary(folder) == {"epoch": 2}


def test_folder_of_another_config_is_refused_and_the_setting_named(tmp_path: Path) -> None:
    runs.stage_is_done(tmp_path / "search", {"epochs": 3, "clips": {"size_px": 64}})
    with pytest.raises(RunError, match=r"clips.size_px: 64 there, 56 now.*another --out"):
        runs.stage_is_done(tmp_path / "search", {"epochs": 3, "clips": {"size_px": 56}})


@pytest.mark.parametrize("content", ['{"format": 99}', "[]", "{}"])
def test_folder_of_another_format_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError, match="this kinocell writes 1"):
        runs.stage_is_done(tmp_path, {})


def test_missing_stage_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"Run `kinocell search --out .*` first"):
        runs.stage_summary(tmp_path / "search")


def test_stage_config_holds_where_the_result_comes_from(tmp_path: Path) -> None:
    runs.stage_is_done(tmp_path, {"epochs": 3}, device="cpu")
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["config"] == {"epochs": 3}
    assert {"torch", "av", "numpy", "python", "kinocell"} <= set(written["versions"])
    assert written["device"] == "cpu"


def test_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/bin/kinocell", "run", "--data", "my videos"])
    assert runs.command() == "kinocell run --data 'my videos'"
    monkeypatch.setattr(sys, "argv", ["search.py", "a b"])
    assert runs.command() == "python search.py 'a b'"


def test_package_without_metadata_has_a_version_text() -> None:
    assert runs.version("no-such-package-anywhere") == "not installed"
