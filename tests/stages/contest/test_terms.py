"""Terms and settings that make no comparison are refused with one sentence."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kinocell import cli
from kinocell.config import RunConfig
from kinocell.errors import ConfigError, RunError
from kinocell.presets import PRESETS
from kinocell.stages.compare import compare, opened
from kinocell.stages.contest import terms
from kinocell.stages.contest.crew import Workers
from kinocell.stages.contest.estimate import costs
from kinocell.stages.contest.terms import Budget, Terms

Tiny = Callable[..., RunConfig]
ON = Terms(random_genotypes=1, search_seeds=0, lr_tries=1)


def test_refused_terms_are_taken_back_where_a_comparison_was_begun_before(
    tiny: Tiny, tiny_run: RunConfig, spoilt: Callable[..., Path], tmp_path: Path
) -> None:
    def rename(_: int, video: dict[str, str]) -> None:
        video["label"] = video["label"].replace("grow", "bloom")

    config = tiny(tmp_path / "out", prepared=str(spoilt(edit=rename)))
    opened(config, ON, Workers())
    before = terms.remembered(tmp_path / "out")
    with pytest.raises(RunError, match=r"only one of both .* Leave it out of --runs"):
        opened(config, replace(ON, runs=(tiny_run.out,)), Workers())
    assert terms.remembered(tmp_path / "out") == before == ON


@pytest.mark.parametrize("preset", ["small", "demo", "paper"])
@pytest.mark.parametrize("budget", [Budget(epochs=7), Budget(minutes=2.5)])
def test_one_command_makes_the_whole_comparison_anew(
    preset: str, budget: Budget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is understood as is what it was made of."""
    config = PRESETS[preset]()
    config = replace(
        config,
        data="my videos/list.csv",
        out=str(tmp_path / "out"),
        seed=3,
        clips=replace(config.clips, flip=not config.clips.flip, size_px=40),
        train=replace(config.train, label_smoothing=0.125),
    )
    on = Terms(models=("c3d", "i3d"), genotypes=("a.json",), random_genotypes=0, seeds=2,
               budget=budget, folds=3, runs=("one",))  # fmt: skip
    seen = []
    monkeypatch.setattr("kinocell.stages.compare.compare", lambda *given: seen.append(given))
    typed = shlex.split(terms.command(on, config))
    assert cli.main(typed[1:]) == cli.DONE
    (understood, its_terms, _), *_ = seen
    assert (typed[0], its_terms) == ("kinocell", on)
    assert terms.shared(understood) == terms.shared(config)
    assert understood.out == config.out


@pytest.mark.parametrize("section", ["train", "search"])
def test_batches_of_whatever_size_fits_are_refused(
    section: str, tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "out", **{section: {"batch_size": "auto"}})
    with pytest.raises(ConfigError, match="batch_size is auto; a comparison takes one number"):
        compare(config, Terms())
    with pytest.raises(ConfigError, match="batch_size is auto"):
        costs(config, Terms(), Workers())
    assert not (tmp_path / "out").exists()


def test_settings_that_are_younger_than_the_folder_had_their_defaults(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "out")
    terms.remember(tmp_path / "out", Terms(), config)
    path = tmp_path / "out" / "comparison.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["settings"]["precision"], content["settings"]["train.ema"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunError, match=r"settings\.precision: 'fp32' there, 'bf16' now"):
        terms.remember(tmp_path / "out", Terms(), replace(config, precision="bf16"))
    terms.remember(tmp_path / "out", Terms(), config)


def test_settings_that_make_no_difference_any_more_do_not_block(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "out")
    terms.remember(tmp_path / "out", Terms(), config)
    path = tmp_path / "out" / "comparison.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["settings"]["resident"] = "on"  # as they were compared once
    path.write_text(json.dumps(content), encoding="utf-8")
    terms.remember(tmp_path / "out", Terms(), config)
    content["settings"]["train.colour"] = "red"  # nobody knows what that did
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunError, match=r"settings\.train\.colour: 'red' there, None now"):
        terms.remember(tmp_path / "out", Terms(), config)


@pytest.mark.parametrize("begun", ["videos", "./videos", "absolute"])
def test_videos_have_one_path_however_it_is_spelt(
    begun: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spelt = ["videos", "videos/", "./videos", "../" + tmp_path.name + "/videos",
             str(tmp_path / "videos")]  # fmt: skip
    first = begun.replace("absolute", spelt[-1])
    opened(tiny(Path("out"), data=first), ON, Workers())
    for data in spelt:
        assert opened(tiny(Path("out"), data=data), ON, Workers()).config.data == first
    for file in ("comparison.json", "config.json"):
        content = json.loads(Path("out", file).read_text(encoding="utf-8"))
        assert (content.get("settings") or content["config"])["data"] == first
    for data in ("", "others", "videos2"):
        with pytest.raises(RunError, match=r"settings\.data: '.*videos' there, "):
            opened(tiny(Path("out"), data=data), ON, Workers())


# --- epochs are the budget ----------------------------------------------------------------------


def test_typed_epochs_of_a_training_are_the_budget_of_the_papers_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = ("--prepared", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"))
    assert cli.main(["reproduce", "table2", *nowhere, "--train.epochs", "7"]) == cli.FAILED
    assert "budget: 'epochs=600' in the paper, 'epochs=7' here" in capsys.readouterr().err


def test_typed_epochs_are_not_dropped_where_a_comparison_goes_on(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(opened(tiny(tmp_path / "out"), ON, Workers()).out)
    assert cli.main(["compare", "--out", out, "--status", "--train.epochs", "1"]) == cli.DONE
    assert cli.main(["compare", "--out", out, "--train.epochs", "50"]) == cli.FAILED
    assert "budget.epochs: 1 there, 50 now" in capsys.readouterr().err


def test_budget_and_epochs_together_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "--budget", "minutes=3", "--train.epochs", "5"]
    assert cli.main(command) == cli.USAGE
    assert "the epochs of a comparison are its budget" in capsys.readouterr().err


def test_unknown_strategy_is_refused_at_once(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no strategy 'finte'\. Did you mean 'finite'"):
        compare(tiny(tmp_path / "out", search={"strategy": "finte"}), Terms())
    assert not (tmp_path / "out").exists()


def test_one_network_by_name_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes the names of its networks in --models"):
        compare(tiny(tmp_path / "out", train={"model": "c3d"}), Terms())
