"""The report as a file: what it says, what it escapes, what it leaves out."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from safetensors.numpy import save_file

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.errors import RunError
from kinocell.space.genotype import Genotype, Kept
from kinocell.stages.page import figures, render, strips
from kinocell.stages.report import report

MakeRun = Callable[..., RunConfig]


class Words(HTMLParser):
    """The text of a page, its tags, and every address in it."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self._within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag
        self.text += " " * (tag in ("p", "dt", "dd", "td", "th", "li"))
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "action", "data") and v]

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within not in ("script", "style"):
            self.text += data


def read(path: Path) -> Words:
    """The page with all runs of white space as one space."""
    words = Words()
    words.feed(path.read_text(encoding="utf-8"))
    words.close()
    words.text = re.sub(r"\s+", " ", words.text)
    return words


def page_data(path: Path) -> dict[str, object]:
    """What the charts read."""
    match = re.search(
        r'<script type="application/json" id="data">(.*?)</script>',
        path.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    assert match
    data: dict[str, object] = json.loads(match[1])
    return data


def test_page_names_both_accuracies_the_videos_and_chance(make_run: MakeRun) -> None:
    text = read(report(make_run())).text
    assert "83.3 % video accuracy (top-1) on 30 unseen videos of 5 classes" in text
    assert "clip accuracy (top-1) 82.1 %" in text
    assert "Chance is 20.0 %" in text
    assert "Input: 8 RGB frames. The same kind of input as the paper's." in text


def test_another_input_than_the_papers_is_labelled_so(make_run: MakeRun) -> None:
    text = read(report(make_run(clips={"input": "difference"}))).text
    assert "Input: 8 differences of adjacent frames. This is another input than the paper's" in text


def test_longer_clips_than_the_papers_are_labelled_so(make_run: MakeRun) -> None:
    text = read(report(make_run(clips={"segments": 16}))).text
    assert "Input: 32 RGB frames." in text
    assert "whose clips have 8 frames: these scores belong beside others of 32 frames." in text


def test_page_asks_nothing_of_the_network(make_run: MakeRun) -> None:
    words = read(report(make_run()))
    assert [a for a in words.addresses if not a.startswith(("#", "data:"))] == []
    assert words.tags.count("link") == 1  # the empty icon


def test_names_of_users_are_escaped_everywhere(make_run: MakeRun) -> None:
    path = report(make_run())
    words = read(path)
    assert '</script><script>alert("1")</script>' in words.text
    assert "alert" not in path.read_text(encoding="utf-8").split('id="data">')[1].split("<")[0]
    assert words.tags.count("script") == 4  # the data, two libraries, our own
    assert "own" not in words.tags
    assert "&lt;b&gt;grow&lt;/b&gt; &amp; &#39;shrink&#39;" in path.read_text(encoding="utf-8")


def test_json_cannot_close_its_script_and_has_no_nan() -> None:
    text = str(render.script_json({"</script>": ["<!--", float("nan"), "\u2028&"]}))
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {"</script>": ["<!--", None, "\u2028&"]}


def test_charts_get_mixing_weights_that_sum_to_one(make_run: MakeRun) -> None:
    search = page_data(report(make_run()))["search"]
    assert isinstance(search, dict)
    weights = np.array(search["alphas"]["weights"])
    assert weights.shape == (9, 14, 8)  # the start and eight epochs, edges, operators
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-4)
    assert search["alphas"]["epochs"] == list(range(9))


def test_strips_hold_the_frames_of_right_and_wrong_videos(make_run: MakeRun) -> None:
    words = read(report(make_run()))
    images = [a for a in words.addresses if a.startswith("data:image/jpeg;base64,")]
    assert len(images) == 8 * (6 + 5)  # six right ones are shown, five are wrong
    jpeg = base64.b64decode(images[0].partition(",")[2])
    assert simplejpeg.decode_jpeg(jpeg).shape == (72, 96, 3)


def test_page_says_so_when_the_frame_store_is_gone(make_run: MakeRun) -> None:
    config = make_run()
    shutil.rmtree(Path(config.out) / "prepare" / "frames")
    words = read(report(config))
    assert "No frames are shown:" in words.text
    assert not [a for a in words.addresses if a.startswith("data:image")]


def test_page_says_so_when_other_videos_were_prepared(make_run: MakeRun) -> None:
    config = make_run()
    path = Path(config.out) / "evaluate" / "scores.json"
    scores = runs.read_json(path, "scores")
    for video in scores["videos"]:
        video["path"] = "another.mp4"
    runs.write_json(path, scores)
    assert "now holds other videos than were tested" in read(report(config)).text


def test_page_without_its_prepared_folder_is_complete_otherwise(make_run: MakeRun) -> None:
    config = make_run()
    shutil.rmtree(Path(config.out) / "prepare")
    text = read(report(config)).text
    assert "No frames are shown:" in text
    assert "Confusion matrix" in text


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("search", "No search was run in this folder"),
        ("train", "The network has not been trained yet"),
        ("evaluate", "The network has not been tested yet"),
    ],
)
def test_missing_stages_are_left_out_with_a_sentence(
    make_run: MakeRun, missing: str, sentence: str
) -> None:
    config = make_run()
    shutil.rmtree(Path(config.out) / missing)
    assert sentence in read(report(config)).text


@pytest.mark.parametrize("stage", ["search", "train"])
def test_unfinished_stages_show_what_there_is(make_run: MakeRun, stage: str) -> None:
    config = make_run()
    (Path(config.out) / stage / "done.json").unlink()
    assert "is not finished" in read(report(config)).text


def test_module_given_by_hand_is_named_as_such(make_run: MakeRun) -> None:
    config = make_run()
    mine = Genotype(nodes=((Kept("mine", 0), Kept("skip", 1)),), op_names=("mine", "skip"))
    metadata = {"kinocell": json.dumps({"genotype": mine.to_dict()})}
    weights = {"weight": np.zeros(1, np.float32)}
    save_file(weights, Path(config.out) / "train" / "best.safetensors", metadata=metadata)
    text = read(report(config)).text
    assert "This module was given, not found by this run's search." in text
    assert "mine 1\u00d7" in text


def test_damaged_weights_are_refused(make_run: MakeRun) -> None:
    config = make_run()
    (Path(config.out) / "train" / "best.safetensors").write_bytes(b"not weights")
    with pytest.raises(RunError, match=r"best\.safetensors is damaged"):
        report(config)


def test_module_of_a_later_derive_is_shown_at_its_own_epoch(make_run: MakeRun) -> None:
    config = make_run()
    path = Path(config.out) / "search" / "genotype.json"
    values = runs.read_json(path, "a genotype")
    values["origin"]["epoch"] = 7
    runs.write_json(path, values)
    assert "The module is the one of epoch 8" in read(report(config)).text


def test_classes_without_test_videos_are_named(make_run: MakeRun) -> None:
    config = make_run()
    path = Path(config.out) / "evaluate" / "scores.json"
    scores = runs.read_json(path, "scores")
    scores["classes"].append("never tested")
    scores["confusion"] = [[*row, 0] for row in scores["confusion"]] + [[0] * 6]
    runs.write_json(path, scores)
    assert "Without a test video: never tested." in read(report(config)).text


def test_page_is_the_same_when_made_again(make_run: MakeRun) -> None:
    config = make_run()
    first = report(config).read_bytes()
    assert report(config).read_bytes() == first


def test_page_describes_the_run_and_not_the_argument(make_run: MakeRun) -> None:
    out = make_run().out
    text = read(report(RunConfig(out=out, seed=99))).text
    assert "comes from seed 3" in text


def test_moved_run_folder_can_be_reported(make_run: MakeRun, tmp_path: Path) -> None:
    config = make_run()
    moved = tmp_path / "elsewhere"
    shutil.move(config.out, moved)
    path = report(dataclasses.replace(config, out=str(moved)))
    assert path == moved / "report.html"
    assert "No frames are shown" not in read(path).text


def test_exact_command_settings_and_versions_are_on_the_page(make_run: MakeRun) -> None:
    text = read(report(make_run())).text
    assert "kinocell run --data 'videos/of my <own>' --out run" in text
    assert '"short_side_px": 128' in text
    assert f"python {runs.provenance()['versions']['python']}" in text


def test_page_says_what_the_network_costs(make_run: MakeRun) -> None:
    costs = read(report(make_run())).text.split("What the network costs")[1].split("Test videos")[0]
    times = " \N{MULTIPLICATION SIGN} "
    assert f"clips of {times.join(('3', '8', '112', '112'))} (" in costs
    for said in (
        "parameters 231 456",
        "fp32 weights 0.883 MiB",
        "checkpoint: weights and momentum 1.77 MiB",
        "multiply-adds a clip 123 M",
        "activations that training keeps, per clip 23.4 MiB",
        "Time of a forward pass on CPU, 2 threads clips at once",
        "1 11.3 ms 12.9 ms 11.3 ms",
        "8 90.4 ms 103 ms 11.3 ms",
    ):
        assert said in costs


def test_training_that_did_not_measure_all_costs_still_has_its_page(make_run: MakeRun) -> None:
    config = make_run()
    path = Path(config.out) / "train" / "done.json"
    done = runs.read_json(path, "a result")
    for name in ("latencies", "activations_mib", "momentum_checkpoint_mib"):
        del done[name]
    runs.write_json(path, done)
    assert "from before all costs were measured" in read(report(config)).text


def test_licences_of_the_scripts_travel_with_them(make_run: MakeRun) -> None:
    text = read(report(make_run())).text
    assert "Copyright (c) 2022 Leon Sorokin" in text
    assert "Copyright (c) 2012-2014 Chris Pettitt" in text


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run, so there is nothing to report"):
        report(RunConfig(out=str(tmp_path)))


def test_confusion_keeps_counts_and_ranks_the_mistakes() -> None:
    drawn = figures.confusion([[8, 2, 0], [0, 0, 0], [3, 1, 6]])
    assert [(c["true"], c["predicted"], c["count"]) for c in drawn["mistakes"]] == [
        (2, 0, 3),
        (0, 1, 2),
        (2, 1, 1),
    ]
    assert sum(cell["count"] for cell in drawn["cells"]) == 20


def test_wrong_videos_show_each_true_class_before_any_twice() -> None:
    videos = [
        {"row": row, "label": label, "probability": sure, "correct": False}
        for row, (label, sure) in enumerate([(0, 0.9), (0, 0.8), (1, 0.5), (2, 0.6)])
    ]
    _, wrong = figures.picked(videos, 3)
    assert [video["row"] for video in wrong] == [0, 3, 2]


def test_frames_are_shrunk_by_means_of_blocks() -> None:
    frame = np.zeros((144, 160, 3), np.uint8)
    frame[::2] = 100
    small = strips.smaller(frame)
    assert small.shape == (72, 80, 3)
    assert (small == 50).all()


@pytest.mark.parametrize(
    ("value", "words"), [(3.21, "3.2\u202fs"), (59.4, "59\u202fs"), (250, "4\u202fmin 10\u202fs")]
)
def test_durations_have_at_most_two_units(value: float, words: str) -> None:
    assert render.seconds(value) == words
