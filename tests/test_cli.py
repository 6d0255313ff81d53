"""The command line: what can be typed, what is answered, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kinocell import actions, cli, options, presets, recipes, settings, verbs
from kinocell.config import RunConfig, SearchConfig, from_dict, to_dict
from kinocell.errors import RunError
from kinocell.signals import Stopped


def settings_of(capsys: pytest.CaptureFixture[str], *typed: str) -> RunConfig:
    """The settings that a command would run with, by way of --print_config."""
    assert cli.main([*typed, "--print_config"]) == cli.DONE, capsys.readouterr().err
    Path("printed.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    values = settings.nested(settings.from_file(Path("printed.yaml")))
    Path("printed.yaml").unlink()
    return from_dict(RunConfig, values, "printed")


def refusal(capsys: pytest.CaptureFixture[str], code: int, *typed: str) -> str:
    """The message of a command that must fail with this exit code."""
    assert cli.main(typed) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("verb", [None, *verbs.VERBS])
def test_help_fits_80_columns_and_has_no_colour(
    verb: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([verb, "--help"] if verb else ["--help"]) == cli.DONE
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "\x1b" not in out


@pytest.mark.parametrize("verb", verbs.VERBS)
def test_help_of_a_verb_ends_with_examples_that_can_be_typed(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([verb, "--help"]) == cli.DONE
    assert f"kinocell {verb}" in capsys.readouterr().out.split("examples:")[1]
    for command, _ in verbs.VERBS[verb].examples:
        name, *typed = command.split()[1:]
        options.read_arguments(
            typed, verbs.VERBS[name].visible(RunConfig()), verbs.VERBS[name].section
        )


def test_help_says_what_torchrun_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    for name, verb in verbs.VERBS.items():
        assert cli.main([name, "--help"]) == cli.DONE
        assert (f"torchrun ... -m kinocell {name}," in capsys.readouterr().out) == verb.many
    assert {n for n, v in verbs.VERBS.items() if v.many} == {"search", "train", "compare", "sweep"}


def test_help_of_a_verb_shows_every_setting_that_it_uses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.main(["run", "--help"])
    out = capsys.readouterr().out
    for name in ("--data", "--max-skipped", "--search.epochs", "--train.epochs", "--views"):
        assert f"  {name} " in out


def test_nothing_typed_shows_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == cli.USAGE
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in verbs.VERBS)


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == cli.DONE
    assert capsys.readouterr().out.startswith("kinocell 0.")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("serch", "There is no verb 'serch'. Did you mean 'search'?"),
        ("--out x run", "The verb comes first"),
        ("run --epochs 3", "--epochs is ambiguous here: --search.epochs or --train.epochs."),
        ("run --workers 3", "--prepare.workers or --clips.workers"),
        ("run --max-skiped 3", "no option --max-skiped. Did you mean '--max-skipped'?"),
        ("run --searh.epochs 3", "Did you mean '--search.epochs'?"),
        ("run -e 3", "There is no option -e; names start with two dashes."),
        ("run videos", "'videos' is not an option"),
        ("run --data", "--data needs a value."),
        ("run --data --out x", "--data needs a value."),
        ("run --search.epochs many", "--search.epochs is 'many'; it takes a whole number."),
        ("search --epochs 1.5", "--epochs is '1.5'; it takes a whole number."),
        ("search --epochs=", "--epochs is ''; it takes a whole number."),
        (
            "train --batch-size auot",
            "--batch-size is 'auot'; it takes a whole number or auto. Did you mean 'auto'?",
        ),
        ("train --learning-rate fast", "--learning-rate is 'fast'; it takes a number."),
        ("train --learning-rate nan", "--learning-rate is 'nan'; it takes a number."),
        ("run --flip=perhaps", "--flip is 'perhaps'; it takes true or false."),
        ("run --input diference", "it takes rgb or difference. Did you mean 'difference'?"),
        ("run --preset dmo", "no preset 'dmo'. Did you mean 'demo'? Known: demo, small, paper."),
        (
            "train --recipe moderm",
            "no recipe 'moderm'. Did you mean 'modern'? Known: paper, modern.",
        ),
        ("search --recipe modern", "`kinocell search` does not use --recipe; it belongs to"),
        ("predict a.mp4 --run x --crops -1", "--crops is -1; it must be at least 0."),
        ("search --train.epochs 3", "`kinocell search` does not use --train.epochs; it belongs to"),
        ("report --data x", "does not use --data; it belongs to `kinocell run`,"),
        ("predict --run x", "Name at least one video file."),
        ("predict a.mp4", "Name the run folder that holds the network: --run DIR."),
        ("predict a.mp4 --run x --top 0", "--top is 0; it must be at least 1."),
        ("list op", "There is no list of 'op'. Did you mean 'ops'?"),
    ],
)
def test_slip_of_the_fingers_is_answered_with_the_way_out(
    typed: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    error = refusal(capsys, cli.USAGE, *typed.split())
    assert message in error
    assert "--help`" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("run --search.epochs -3", "search.epochs is -3; it must be at least 1."),
        ("run --clips.size-px 0", "clips.size_px is 0; it must be at least 8"),
        ("run --device gpu", "device is 'gpu'"),
        ("run --config nope.yaml", "There is no config file nope.yaml."),
    ],
)
def test_setting_that_cannot_work_stops_before_anything_is_written(
    typed: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert message in refusal(capsys, cli.FAILED, *typed.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("search:\n  epoch: 3\n", "no setting 'search.epoch'. Did you mean 'search.epochs'?"),
        ("serch:\n  epochs: 3\n", "no setting 'serch"),
        ("search:\n  epochs: many\n", "search.epochs is 'many'; it takes a whole number."),
        (
            "train:\n  batch_size: 1.5\n",
            "train.batch_size is '1.5'; it takes a whole number or auto.",
        ),
        ("clips:\n  input: grey\n", "clips.input is 'grey'; it takes rgb or difference."),
        ("search: [\n", "did not find expected node content"),
        ("hello\n", "hello"),
        ("search: 3\n", "my.yaml: search is 3; it is a section"),
        ("data:\n", "data"),
        ("- 1\n", "my.yaml"),
    ],
)
def test_config_file_with_a_mistake_is_named(
    content: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").write_text(content)
    error = refusal(capsys, cli.FAILED, "run", "--config", "my.yaml")
    assert message in error
    assert "<class" not in error


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b'{"search": {"epochs": 3}'])
def test_json_file_with_a_mistake_is_named(
    content: bytes, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "my.json").write_bytes(content)
    assert "my.json is not JSON" in refusal(capsys, cli.FAILED, "run", "--config", "my.json")


def test_empty_config_file_changes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").write_text("\n")
    assert settings_of(capsys, "run", "--config", "my.yaml") == presets.demo()


def test_run_without_data_is_the_demo_and_with_data_the_small_preset(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert settings_of(capsys, "run") == presets.demo()
    config = settings_of(capsys, "run", "--data", "my videos")
    assert config.data == "my videos"
    assert config.search == presets.small().search


def test_short_names_mean_the_verbs_own_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert settings_of(capsys, "search", "--epochs", "7").search.epochs == 7
    assert settings_of(capsys, "train", "--epochs", "7").train.epochs == 7
    assert settings_of(capsys, "search", "--size-px", "40").search.size_px == 40
    assert settings_of(capsys, "prepare", "--seed", "5").seed == 5


@pytest.mark.parametrize("name", ["--max-skipped", "--max_skipped", "--prepare.max-skipped"])
def test_dashes_and_underscores_are_the_same(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert settings_of(capsys, "run", name, "3").prepare.max_skipped == 3
    assert settings_of(capsys, "run", f"{name}=3").prepare.max_skipped == 3


@pytest.mark.parametrize(
    ("typed", "flip"),
    [
        (["--flip"], True),
        (["--flip", "true"], True),
        (["--flip=yes"], True),
        (["--flip", "no"], False),
        (["--flip=False"], False),
        (["--no-flip"], False),
        (["--no_flip"], False),
    ],
)
def test_switch_can_be_typed_in_every_common_way(
    typed: list[str], flip: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = "paper" if not flip else "demo"
    assert settings_of(capsys, "run", "--preset", preset, *typed).clips.flip is flip


def test_later_option_wins(capsys: pytest.CaptureFixture[str]) -> None:
    assert settings_of(capsys, "search", "--epochs", "7", "--epochs", "8").search.epochs == 8


def test_options_beat_files_and_files_beat_presets_in_any_order(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").write_text("search:\n  epochs: 7\n  channels: 6\nseed: 3\n")
    config = settings_of(
        capsys, "run", "--search.epochs", "9", "--config", "my.yaml", "--preset", "paper"
    )
    assert (config.search.epochs, config.search.channels, config.seed) == (9, 6, 3)
    assert config.train.epochs == 600


def test_recipe_lies_between_preset_and_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").write_text("train:\n  ema: 0.5\n  dropout: 0.4\n")
    config = settings_of(
        capsys, "run", "--dropout", "0.3", "--config", "my.yaml", "--recipe", "modern",
        "--preset", "paper",
    )  # fmt: skip
    wanted = recipes.modern(presets.paper())
    assert config.train == replace(wanted.train, ema=0.5, dropout=0.3)
    assert (config.augment, config.evaluate) == (wanted.augment, wanted.evaluate)
    assert (config.train.epochs, config.train.batch_size) == (600, 72)


def test_recipe_is_laid_over_what_a_run_folder_remembers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = replace(presets.small(), data="videos", out="mine")
    remember(tmp_path / "mine", before)
    for verb in ("train", "run"):
        for recipe, function in recipes.RECIPES.items():
            config = settings_of(capsys, verb, "--out", "mine", "--recipe", recipe)
            assert config == function(before)


def remember(folder: Path, config: RunConfig) -> None:
    folder.mkdir()
    content = {"format": 1, "config": to_dict(config)}
    (folder / "config.json").write_text(json.dumps(content, indent="\t"))


def test_run_folder_remembers_its_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = RunConfig(data="videos", out="mine", search=SearchConfig(epochs=5))
    remember(tmp_path / "mine", config)
    assert settings_of(capsys, "train", "--out", "mine") == config
    assert settings_of(capsys, "run", "--out", "mine") == config
    assert settings_of(capsys, "search", "--out", "mine", "--epochs", "6").search.epochs == 6


def test_preset_beats_the_run_folder_but_keeps_its_data(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    remember(tmp_path / "mine", RunConfig(data="videos", out="mine"))
    config = settings_of(capsys, "search", "--out", "mine", "--preset", "demo")
    assert (config.data, config.search) == ("videos", presets.demo().search)


def test_config_of_one_run_starts_another(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    remember(tmp_path / "mine", RunConfig(data="videos", out="mine", seed=4))
    config = settings_of(capsys, "run", "--config", "mine/config.json", "--out", "other")
    assert (config.data, config.out, config.seed) == ("videos", "other", 4)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2, "config": {}}', '{"format": 1}'])
def test_run_folder_with_a_damaged_config_is_one_sentence(
    content: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(content)
    assert "config.json" in refusal(capsys, cli.FAILED, "train", "--out", "mine")


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_printed_config_is_read_back_the_same(
    preset: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    typed = [
        "run",
        "--preset",
        preset,
        "--data",
        'a "b" #: é\\😀',
        "--search.learning-rate-end",
        "1e-05",
    ]
    assert cli.main([*typed, "--print_config"]) == cli.DONE
    (tmp_path / "my.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert settings_of(capsys, "run", "--config", "my.yaml") == settings_of(capsys, *typed)


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `kinocell list` fail in a certain way."""

    def action(request: actions.Request) -> None:
        raise error

    failing = verbs.Verb(action=action, summary="Fails.")
    monkeypatch.setitem(verbs.VERBS, "list", failing)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_memory_that_runs_out_says_what_to_lower(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(error, monkeypatch)
    assert "Lower --search.batch-size" in refusal(capsys, cli.FAILED, "list")


def test_error_of_the_world_is_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(RunError("The disk is full."), monkeypatch)
    assert refusal(capsys, cli.FAILED, "list") == "kinocell: The disk is full.\n"


@pytest.mark.parametrize("typed", [["list", "--debug"], ["--debug", "list"]])
def test_debug_shows_the_traceback(
    typed: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(RunError("The disk is full."), monkeypatch)
    assert cli.main(typed) == cli.FAILED
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.endswith("kinocell: The disk is full.\n")


def test_full_disk_anywhere_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(OSError(28, "No space left on device", "frames.bin"), monkeypatch)
    assert "The disk is full: frames.bin was not written" in refusal(capsys, cli.FAILED, "list")


def test_interruption_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(KeyboardInterrupt(), monkeypatch)
    assert "Run the same command again" in refusal(capsys, cli.STOPPED, "list")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stop_by_a_signal_leaves_with_its_number(
    number: int, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(Stopped(number), monkeypatch)
    assert "Run the same command again" in refusal(capsys, code, "list")


def test_our_own_mistake_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(AssertionError("a bug"), monkeypatch)
    with pytest.raises(AssertionError):
        cli.main(["list"])


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell's pipe")
def test_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m kinocell list presets | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_interrupted_process_leaves_with_130() -> None:
    program = (
        "import sys, time, kinocell.verbs as v, kinocell.cli as c\n"
        "def wait(request):\n    print('ready', flush=True)\n    time.sleep(600)\n"
        "v.VERBS['list'] = v.Verb(action=wait, summary='Waits.')\n"
        "sys.exit(c.main(['list']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=300)
    assert process.returncode == cli.STOPPED
    assert error == "kinocell: stopped. Run the same command again to go on from here.\n"


def test_module_is_the_command() -> None:
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "kinocell", "serch"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == cli.USAGE
    assert done.stderr.startswith("kinocell: There is no verb 'serch'.")


@pytest.mark.parametrize("kind", ["presets", "recipes", "strategies", "ops", "datasets"])
def test_list_names_everything_with_a_sentence(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["list", kind]) == cli.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{kind}:"
    assert len(lines) > 2
    assert not any(line.endswith(" -") for line in lines)


# --- collections -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["--root", "--data"])
def test_root_is_another_name_of_data(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["prepare", "--dataset", "ucf101", name, "videos", "--split", "all", "--print-config"]
    assert cli.main(typed) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {'data: "videos"', 'dataset: "ucf101"', 'split: "all"'} <= set(lines)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--data", "videos", "--split", "two"], "split is 'two'; it must be a number from 1"),
        (["--data", "videos", "--split", "0"], "split is '0'; it must be a number from 1"),
        (["--dataset", "ucf101"], "name its folder too: --root PATH"),
        (["--data", ".", "--dataset", "ucf11"], "no data set 'ucf11'. Did you mean 'ucf101'"),
    ],
)
def test_collections_that_make_no_sense_are_refused(
    typed: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["prepare", "--out", str(tmp_path / "out"), *typed]) == 1
    assert message in capsys.readouterr().err


def test_a_number_in_a_config_file_where_a_text_belongs_says_how_to_write_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("data: videos\nsplit: 2\n", encoding="utf-8")
    assert cli.main(["prepare", "--config", str(path), "--print-config"]) == 1
    assert 'Write a number in quotes: "2"' in capsys.readouterr().err
    path.write_text('data: videos\nsplit: "2"\n', encoding="utf-8")
    assert cli.main(["prepare", "--config", str(path), "--print-config"]) == 0
    assert 'split: "2"' in capsys.readouterr().out


def test_batch_size_is_a_number_or_auto_from_options_and_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("auto.yaml").write_text("search:\n  batch_size: auto\ntrain:\n  batch_size: 3\n")
    found = settings_of(capsys, "run", "--config", "auto.yaml")
    assert (found.search.batch_size, found.train.batch_size) == ("auto", 3)
    typed = ["--search.batch-size", "5", "--train.batch-size", "auto", "--precision", "bf16"]
    found = settings_of(capsys, "run", "--config", "auto.yaml", *typed)
    assert (found.search.batch_size, found.train.batch_size) == (5, "auto")
    assert (found.precision, found.resident) == ("bf16", "auto")
