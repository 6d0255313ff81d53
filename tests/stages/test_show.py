"""show: the sheets hold, pixel for pixel, the clips that training and testing are given."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kinocell import cli
from kinocell.config import AugmentConfig, ClipsConfig, EvaluateConfig, PrepareConfig, RunConfig
from kinocell.data.clips import (
    as_input,
    open_prepared,
    test_batches,
    training_batches,
    training_input,
)
from kinocell.stages.page.sheets import GAP_PX, png, seen_pixels, sheet
from kinocell.stages.prepare import prepare
from kinocell.stages.show import show

Pixels = NDArray[np.uint8]
SIZE = 24
CLIPS = ClipsConfig(size_px=SIZE, crop_min=0.6, workers=0)
PREPARE = PrepareConfig(short_side_px=32, workers=1, codec="raw")


def read_png(path: Path) -> Pixels:
    """By FFmpeg, which knows nothing of our writer."""
    with av.open(str(path)) as container:
        (frame,) = container.decode(video=0)
        return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def cell(picture: Pixels, row: int, time: int) -> Pixels:
    step = SIZE + GAP_PX
    return picture[row * step : row * step + SIZE, time * step : time * step + SIZE]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, video_csv: Path) -> RunConfig:
    out = tmp_path_factory.mktemp("show") / "run"
    config = RunConfig(
        data=str(video_csv), out=str(out), seed=5, prepare=PREPARE, clips=CLIPS,
        evaluate=EvaluateConfig(views=3),
    )  # fmt: skip
    prepare(config)
    return config


def test_rows_are_the_clips_of_the_training_stream_bit_for_bit(run: RunConfig) -> None:
    page = show(run, run.out, clips_per_class=3)
    prepared = open_prepared(Path(run.out) / "prepare")
    rows = prepared.manifest.rows("train")
    stream = training_batches(prepared, rows, run.clips, batch_size=4, seed=run.seed)
    first_epoch = [
        (int(label), clip.permute(1, 2, 3, 0).numpy())
        for batch in islice(stream, -(-len(rows) // 4))
        for label, clip in zip(batch.labels, batch.clips, strict=True)
    ]
    for label, name in enumerate(prepared.manifest.class_names):
        picture = read_png(page.parent / f"{label:03d}-{name.replace('_', '-')}.png")
        expected = [clip for found, clip in first_epoch if found == label][:3]
        for row, clip in enumerate(expected):
            for time, frame in enumerate(clip):
                assert np.array_equal(cell(picture, row, time), frame)


def test_rows_are_varied_as_training_varies_them(run: RunConfig, tmp_path: Path) -> None:
    augment = AugmentConfig(brightness=0.5, randaugment_ops=2, erase=1.0, crop_aspect=1.5)
    mixing = replace(augment, mixup=0.5)  # which is left out: it would hide both clips
    page = show(
        replace(run, augment=mixing, out=str(tmp_path)),
        Path(run.out) / "prepare",
        clips_per_class=1,
    )
    prepared = open_prepared(Path(run.out) / "prepare")
    rows = prepared.manifest.rows("train")
    stream = training_batches(
        prepared, rows, run.clips, batch_size=4, seed=run.seed, augment=augment
    )
    batch = next(stream)
    inputs, _ = training_input(batch, run.clips, augment, num_classes=2, device=torch.device("cpu"))
    clip = seen_pixels(inputs, "rgb")[0]
    name = prepared.manifest.class_names[batch.labels[0]]
    picture = read_png(page.parent / f"{int(batch.labels[0]):03d}-{name.replace('_', '-')}.png")
    for time, frame in enumerate(clip):
        assert np.array_equal(cell(picture, 0, time), frame)
    assert not np.array_equal(clip, batch.clips[0].permute(1, 2, 3, 0).numpy())


def test_last_rows_are_the_views_of_a_test_video_bit_for_bit(run: RunConfig) -> None:
    page = show(run, run.out, clips_per_class=1)
    prepared = open_prepared(Path(run.out) / "prepare")
    tested = prepared.manifest.rows("test")
    for label, name in enumerate(prepared.manifest.class_names):
        picture = read_png(page.parent / f"{label:03d}-{name.replace('_', '-')}.png")
        row = next(int(row) for row in tested if prepared.manifest.labels[row] == label)
        (batch,) = test_batches(prepared, [row], run.clips, batch_size=3, views=3)
        for view, clip in enumerate(batch.clips.permute(0, 2, 3, 4, 1).numpy()):
            for time, frame in enumerate(clip):
                assert np.array_equal(cell(picture, 1 + view, time), frame)


def test_videos_that_are_not_prepared_look_as_they_will_when_prepared(
    run: RunConfig, video_csv: Path, tmp_path: Path
) -> None:
    there = show(run, run.out)
    here = show(replace(run, out=str(tmp_path)), video_csv)
    for picture in there.parent.glob("*.png"):
        assert picture.read_bytes() == (here.parent / picture.name).read_bytes()
    assert here.parent == tmp_path / "show"
    assert not (tmp_path / "prepare").exists()


def test_page_names_video_and_frames_that_were_read_and_asks_for_nothing_else(
    run: RunConfig,
) -> None:
    page = show(run, Path(run.out) / "prepare", clips_per_class=1)
    text = page.read_text(encoding="utf-8")
    prepared = open_prepared(Path(run.out) / "prepare")
    captions = re.findall(r"<b>(.*?)</b> (\S+?)<br>\s*<small>frames ([\d ]+)</small>", text)
    assert len(captions) == 2 * (1 + 3)
    for what, video, frames in captions:
        row = list(prepared.manifest.paths).index(video)
        numbers = [int(number) for number in frames.split()]
        assert len(numbers) == 8
        assert numbers == sorted(numbers)
        assert numbers[-1] < prepared.store.num_frames[row]
        split = "train" if what.startswith("training clip") else "test"
        assert row in prepared.manifest.rows(split)
    sources = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert sources
    assert all((page.parent / source).is_file() for source in sources)


def test_difference_lies_around_grey_at_half_its_size(run: RunConfig, tmp_path: Path) -> None:
    config = replace(run, out=str(tmp_path), clips=replace(CLIPS, input="difference"),
                     prepared=str(Path(run.out) / "prepare"))  # fmt: skip
    page = show(config, config.prepared, clips_per_class=1)
    prepared = open_prepared(config.prepared)
    stream = training_batches(
        prepared, prepared.manifest.rows("train"), config.clips, batch_size=1, seed=config.seed
    )
    batch = next(stream)
    frames = batch.clips[0].permute(1, 2, 3, 0).numpy().astype(float)
    label = int(batch.labels[0])
    (path,) = page.parent.glob(f"{label:03d}-*.png")
    picture = read_png(path)
    for time in range(8):
        expected = 127.5 + (frames[2 * time + 1] - frames[2 * time]) / 2
        assert np.abs(cell(picture, 0, time) - expected).max() <= 0.51


def test_every_byte_survives_the_way_to_the_network_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 16, 16).expand(1, 3, 2, 16, 16)
    seen = seen_pixels(as_input(values, "rgb"), "rgb")
    assert np.array_equal(seen, values.permute(0, 2, 3, 4, 1).numpy())


def test_png_is_read_back_exactly_by_another_program(tmp_path: Path) -> None:
    clips = list(np.random.default_rng(0).integers(0, 256, (2, 3, 7, 5, 3), np.uint8))
    picture = sheet(clips)
    assert picture.shape == (2 * 7 + GAP_PX, 3 * 5 + 2 * GAP_PX, 3)
    (tmp_path / "a.png").write_bytes(png(picture))
    assert np.array_equal(read_png(tmp_path / "a.png"), picture)


def test_unreadable_video_is_left_out_and_named(
    run: RunConfig,
    video_csv: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(video_csv.parent, tmp_path / "videos")
    for path in (tmp_path / "videos" / "to_left").iterdir():
        path.write_bytes(b"")
    page = show(replace(run, out=str(tmp_path / "out")), tmp_path / "videos" / video_csv.name)
    assert "show: left out. " in capsys.readouterr().err
    assert [path.name for path in page.parent.glob("*.png")] == ["001-to-right.png"]


def test_run_folder_brings_its_own_settings(
    run: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["show", run.out, "--rows", "1"]) == cli.DONE
    out = capsys.readouterr().out.strip()
    assert out == str(Path(run.out) / "show" / "index.html")
    assert "seed 5" in Path(out).read_text(encoding="utf-8")
    assert cli.main(["show", f"{run.out}/prepare", "--seed", "6"]) == cli.DONE
    assert "seed 6" in Path(out).read_text(encoding="utf-8")


def test_data_is_shown_with_the_settings_that_a_run_would_take(
    video_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["show", str(video_csv), "--out", "look", "--rows", "1"]) == cli.DONE
    assert "64 px" in Path("look/show/index.html").read_text(encoding="utf-8")
