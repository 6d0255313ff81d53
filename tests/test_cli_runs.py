"""The command line on a real, tiny run: embedded videos of 16 px, one epoch of everything."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kinocell import cli, runs
from kinocell.verbs import VERBS
from tests.held import held

TINY = (
    *("--videos", "40", "--groups", "4", "--short-side-px", "24"),
    *("--clips.size-px", "16", "--clips.workers", "0", "--device", "cpu"),
    *("--search.epochs", "1", "--search.batch-size", "5", "--search.channels", "2"),
    *("--search.layers", "2", "--nodes", "2"),
    *("--train.epochs", "1", "--train.batch-size", "10", "--train.channels", "2"),
    *("--train.layers", "3"),
)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Tests that change it work on a folder of their own."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    assert cli.main(["run", "--out", str(folder), *TINY]) == cli.DONE
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_run_leaves_what_others_rely_on(run_folder: Path) -> None:
    for name in ("report.html", "search/genotype.json", "train/best.safetensors"):
        assert (run_folder / name).stat().st_size > 0
    scores = json.loads((run_folder / "evaluate" / "scores.json").read_text())
    assert 0 <= scores["clip_top1"] <= 1
    assert 0 <= scores["video_top1"] <= 1
    assert scores["num_videos"] == 8
    assert len(scores["classes"]) >= 8


def test_nothing_half_written_is_left_behind(run_folder: Path) -> None:
    assert not [name for name in contents(run_folder) if name.endswith(".tmp")]


def test_second_run_says_that_all_is_done(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = (run_folder / "train" / "best.safetensors").stat().st_mtime_ns
    assert cli.main(["run", "--out", str(run_folder)]) == cli.DONE
    out, err = capsys.readouterr()
    assert out.strip() == str(run_folder / "report.html")
    for words in ("already prepared: 40 videos", "search: done already", "train: done already"):
        assert words in err
    assert (run_folder / "train" / "best.safetensors").stat().st_mtime_ns == weights


@pytest.mark.parametrize(
    ("typed", "setting"),
    [
        ("search --channels 3", "search.channels: 2 there, 3 now"),
        ("train --learning-rate 0.5", "train.learning_rate: 0.05 there, 0.5 now"),
        ("prepare --short-side-px 32", "short_side_px: 24 there, 32 now"),
        ("run --seed 5", "seed: 0 there, 5 now"),
    ],
)
def test_folder_of_other_settings_is_refused_and_nothing_changes(
    typed: str, setting: str, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run_folder)
    verb, *options = typed.split()
    assert cli.main([verb, "--out", str(run_folder), *options]) == cli.FAILED
    err = capsys.readouterr().err
    assert setting in err
    assert "Choose another --out" in err
    assert contents(run_folder) == before


def test_predict_names_the_classes_of_any_file(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = [str(path) for path in sorted((run_folder / "videos").rglob("*.avi"))[:2]]
    assert cli.main(["predict", *videos, "--run", str(run_folder), "--top", "2"]) == cli.DONE
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == videos
    assert all(line.count(",") == 1 for line in lines)


def test_predict_writes_json_for_scripts(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = str(min((run_folder / "videos").rglob("*.mp4")))
    assert cli.main(["predict", video, "--json", "--run", str(run_folder)]) == cli.DONE
    row = json.loads(capsys.readouterr().out)
    assert (row["path"], len(row["classes"])) == (video, 5)
    shares = [entry["probability"] for entry in row["classes"]]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1.000001


def test_one_bad_file_does_not_cost_the_others(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "text.mp4"
    bad.write_text("no video")
    video = str(min((run_folder / "videos").rglob("*.mp4")))
    typed = ["predict", str(bad), str(tmp_path / "none.mp4"), video, "--run", str(run_folder)]
    assert cli.main(typed) == cli.FAILED
    out, err = capsys.readouterr()
    assert out.startswith(f"{video}: ")
    assert str(bad) in err
    assert "none.mp4" in err
    assert err.endswith("kinocell: 2 of 3 files could not be read.\n")


@pytest.mark.slow
def test_step_by_step_needs_the_settings_only_once(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "steps"
    tiny = tmp_path / "tiny.yaml"
    capsys.readouterr()
    assert cli.main(["run", *TINY, "--print_config"]) == cli.DONE
    tiny.write_text(capsys.readouterr().out)
    data = str(run_folder / "videos")
    typed = ["prepare", "--config", str(tiny), "--data", data, "--out", str(out)]
    assert cli.main(typed) == cli.DONE
    for verb in ("search", "derive", "train", "evaluate", "report"):
        assert cli.main([verb, "--out", str(out)]) == cli.DONE, verb
    ours = runs.read_json(out / "search" / "genotype.json", "a genotype")["nodes"]
    assert ours == runs.read_json(run_folder / "search" / "genotype.json", "a genotype")["nodes"]


SMALL = {
    "run": ["--config", "tiny.yaml"],
    "prepare": ["--config", "tiny.yaml"],
    # The last of two options of the same name counts.
    "compare": [
        *("--config", "tiny.yaml", "--models", "x3d_xs", "--budget", "epochs=1"),
        *("--seeds", "1", "--search-seeds", "1", "--random-genotypes", "1", "--lr-tries", "1"),
    ],
    "synth": ["--videos", "64", "--groups", "4"],
}
"""What makes a command of the README short."""


@pytest.mark.slow
def test_the_readmes_commands_run(
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Line by line as printed, with small settings for those that would take long."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", *TINY, "--print_config"]) == cli.DONE
    Path("tiny.yaml").write_text(capsys.readouterr().out)
    shutil.copytree(run_folder / "videos", "PATH")
    shutil.copy(min(Path("PATH").rglob("*.mp4")), "clip.mp4")
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    lines = [line.split() for line in readme.splitlines() if line.startswith("kinocell ")]
    typed = [words[1:] for words in lines if words[1] in VERBS]  # prose may begin alike
    assert {"run", "prepare", "search", "train", "evaluate", "report", "predict"} <= {
        words[0] for words in typed
    }
    for words in typed:
        if words[0] == "download" or "--dataset" in words:
            # Needs a host, or 7 GB: tests/data has test_download.py and test_datasets.py.
            assert cli.main([*words, "--help"]) == cli.DONE, words
            continue
        # The single steps get a folder of their own: in the finished one they would do nothing.
        own = words if words[0] == "run" else ["STEPS" if w == "DIR" else w for w in words]
        small = [] if {"--help", "--print-config"} & set(own) else SMALL.get(own[0], [])
        assert cli.main([*own, *small]) == cli.DONE, words
    assert Path("DIR/report.html").stat().st_size > 0
    assert Path("STEPS/report.html").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("moment", ["synthetic: rendering", "search: ", "train: "])
def test_ctrl_c_stops_with_one_line_and_the_same_command_goes_on_bit_for_bit(
    moment: str, tmp_path: Path, run_folder: Path
) -> None:
    typed = ["run", "--out", str(tmp_path / "run"), *TINY]
    # Training would be over within a second: it waits in its second step.
    command = [sys.executable, *held(tmp_path / "never", "train", 2, *typed)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(moment):
                break
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the workers too
        rest = process.stderr.read()
    assert process.returncode == cli.STOPPED, rest
    assert "Traceback" not in rest
    assert rest.endswith("kinocell: stopped. Run the same command again to go on from here.\n")
    assert cli.main(typed) == cli.DONE
    for name in ("search/alphas.jsonl", "train/best.safetensors", "train/last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (run_folder / name).read_bytes(), name


def test_module_found_elsewhere_can_be_trained(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again"
    typed = ["train", "--out", str(out), "--prepared", str(run_folder / "prepare")]
    typed += ["--config", str(run_folder / "config.json")]
    typed += ["--genotype", str(run_folder / "search" / "genotype.json")]
    assert cli.main(typed) == cli.DONE
    assert (out / "train" / "best.safetensors").exists()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("run --data missing", "missing"),
        ("run --data empty", "empty"),
        ("run --data file.txt", "file.txt"),
        ("search --out nothing", "kinocell prepare"),
        ("train --out nothing", "genotype.json"),
        ("train --genotype file.txt --out nothing", "file.txt"),
        ("evaluate --out nothing", "nothing"),
        ("report --out nothing", "nothing"),
        ("predict a.mp4 --run nothing", "nothing"),
        ("search --strategy fastest --out nothing", ""),
    ],
)
def test_missing_input_is_one_sentence(
    typed: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("text")
    assert cli.main(typed.split()) == cli.FAILED
    err = capsys.readouterr().err
    last = err.splitlines()[-1]
    assert last.startswith("kinocell: ")
    assert message in last
    assert "Traceback" not in err


def test_output_in_a_pipe_is_plain_text(run_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kinocell", "run", "--out", str(run_folder)],
        capture_output=True,
        check=True,
    )
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\r" not in done.stdout + done.stderr
