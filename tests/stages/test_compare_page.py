"""The page of a comparison, also in a browser: it draws, it fits, it sorts, it asks for nothing.

Its csv is held to the same made-up numbers.
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kinocell.baselines.table import BASELINES
from kinocell.config import RunConfig
from kinocell.data.manifest import Manifest, from_names
from kinocell.stages.contest import output
from kinocell.stages.contest.results import COUNTS, TIMES, Result, union
from kinocell.stages.contest.rows import Kind, Line, Member
from kinocell.stages.contest.terms import Budget, Terms
from kinocell.stages.page import comparison

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CLASSES = ("wave", "<b>clap</b>", '</script><script>alert("1")</script>')


def trained(accuracy: float, cost: int, seed: int, num_videos: int = 60) -> Result:
    rows = np.arange(num_videos)
    labels = rows % len(CLASSES)
    hits = np.random.default_rng(seed).random(num_videos) < accuracy
    return Result(folders=(Path("run"),), rows=rows, labels=labels, hits=hits,
                  clip_shares=hits * np.float64(0.75),
                  costs=({name: cost * 2**i for i, name in enumerate(COUNTS)}
                         | {name: cost * 1.1**i for i, name in enumerate(TIMES)},))  # fmt: skip


def line(name: str, accuracy: float, cost: int, members: int = 1, num_videos: int = 60) -> Line:
    kinds: dict[str, Kind] = {"searched": "searched", "random": "random"}
    return Line(
        kind=kinds.get(name, "model"),
        name=name,
        members=[
            Member(name=f"{name}-{i}", tested=[trained(accuracy, cost * (1 + i), 10 * i + s,
                                                       num_videos)
                                               for s in range(2)], learning_rates=[0.05],
                   epochs=[30])
            for i in range(members)
        ],
        planned=2 * members,
    )  # fmt: skip


def videos() -> Manifest:
    """The list of a made-up comparison."""
    return from_names(
        Path("videos"), [f"{c}/{i}.mp4" for i in range(120) for c in range(3)],
        [CLASSES[c] for _ in range(120) for c in range(3)],
        splits=["test" if i < 20 else "train" for i in range(120) for _ in range(3)],
    )  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """A made-up comparison with everything on it."""
    lines = [
        line("searched", 0.8, 115_434, 3),
        line("random", 0.75, 210_507, 4),
        line("resnet3d_18", 0.5, 33_217_452),
        line("c3d", 0.3, 78_409_573),
        line("x3d_xs", 0.82, 3_181_623),
        Line(kind="model", name="convnet3d", members=[Member(name="convnet3d", tested=[])],
             planned=2, failures=[("convnet3d/seed-0, train", "memory ran out")]),
    ]  # fmt: skip
    config = RunConfig(data="of my <own>")
    terms = Terms(budget=Budget(epochs=30))
    return output.everything(lines, videos(), terms, config, device="CPU")


@pytest.fixture
def page_file(found: dict[str, Any], tmp_path: Path) -> Path:
    comparison.write(tmp_path / "compare.html", found)
    return tmp_path / "compare.html"


def test_names_reach_the_page_as_text(page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    assert "<b>clap</b>" not in text
    assert '<script>alert("1")' not in text
    assert "of my &lt;own&gt;" in text
    assert "memory ran out" in text


def test_paper_numbers_stand_apart_with_their_label(page_file: Path, found: dict[str, Any]) -> None:
    text = page_file.read_text(encoding="utf-8")
    table, paper = text.split('<section id="printed"')
    assert "42.4 %" in paper
    assert "42.4 %" not in table
    assert "They do not compare with the table above" in paper
    markdown = output.as_markdown(found)
    assert "UCF101 split 1, other protocol" in markdown.split("42.4 %")[0]


def test_page_shows_the_range_of_what_a_search_found_in_each_fold(tmp_path: Path) -> None:
    folds = [trained(0.8, cost, seed=0) for cost in (80_042, 115_434)]
    folds[1] = replace(folds[1], folders=(Path("fold-2"),), rows=folds[1].rows + 60)
    searched = Line(kind="searched", name="searched", planned=1, searched_in_folds=2,
                    members=[Member(name="searched-0", tested=[union(folds)])])  # fmt: skip
    found = output.everything([searched], videos(), Terms(folds=2), RunConfig(), device="CPU")
    comparison.write(tmp_path / "compare.html", found)
    text = (tmp_path / "compare.html").read_text(encoding="utf-8")
    table, networks = text.split("The networks of each line")
    assert ">searched (1 search in each of 2 folds)</th>" in table
    for value, text in ((80_042, "80-115 k"), (4 * 80_042, "0.00032-0.000462 G")):
        assert f'<td class="num" data-value="{value}">{text}</td>' in table
    assert '<th scope="row">searched-0</th><td>80-115 k</td>' in networks


def test_page_says_where_the_searched_network_does_not_win(page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    assert "ahead of" in text
    assert "x3d_xs" in text.split("these test videos decide nothing")[0].rpartition("Against")[2]


def test_run_from_elsewhere_has_a_mark_of_its_own(page_file: Path, tmp_path: Path) -> None:
    added = replace(line("run searched (16 frames)", 0.6, 10**6), kind="run")
    found = output.everything([line("searched", 0.8, 10**5), added], videos(), Terms(), RunConfig(),
                              device="CPU")  # fmt: skip
    comparison.write(tmp_path / "runs.html", found)
    text = (tmp_path / "runs.html").read_text(encoding="utf-8")
    assert '<i class="marker run"></i> runs from elsewhere' in text
    drawn = json.loads(text.split('id="data">')[1].split("</script>")[0])["points"]
    assert [(p["label"], p["kind"]) for p in drawn] == [
        ("searched", "searched"),
        ("run searched (16 frames)", "run"),
    ]
    assert "runs from elsewhere" not in page_file.read_text(encoding="utf-8")


def test_columns_of_the_csv_hold_the_numbers_that_they_are_named_after(
    found: dict[str, Any],
) -> None:
    lines = list(csv.DictReader(output.as_csv(found).splitlines()))
    assert len(lines) == len(found["rows"])
    for line, row in zip(lines, found["rows"], strict=True):
        video, clip = row.get("video_top1", {}), row.get("clip_top1", {})
        gap, costs = row.get("difference", {}), row.get("costs", {})
        expected = {
            "video_top1": video.get("mean"),
            "video_top1_sd": video.get("sd"),
            "video_top1_low": video.get("low"),
            "video_top1_high": video.get("high"),
            "clip_top1": clip.get("mean"),
            "clip_top1_sd": clip.get("sd"),
            "difference": gap.get("value"),
            "difference_low": gap.get("low"),
            "difference_high": gap.get("high"),
            "mcnemar_p": gap.get("mcnemar_p"),
            **{
                f"{name}_{of}": costs.get(name, {}).get(of)
                for name in (*COUNTS, "milliseconds", "milliseconds_p90")
                for of in ("median", "low", "high")
            },
        }
        for name, value in expected.items():
            written = float(line[name]) if line[name] else None
            assert written == (None if value is None else pytest.approx(value, rel=1e-5)), name
            if name.startswith(COUNTS) and value is not None:
                assert line[name] == str(value), name  # to the last digit, and no 1.88855e+06
        counts = (len(row["members"]), row["trainings"], row["planned"])
        assert tuple(int(line[name]) for name in ("networks", "trainings", "planned")) == counts
        assert line["network"] == row["name"]
        assert line["failure"] == "; ".join(failure["reason"] for failure in row["failures"])


def opened(browser: Browser, path: Path, width: int, *, dark: bool) -> tuple[Page, list[str]]:
    """The page, and everything that it complained about or asked for."""
    page = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
    )
    page.set_default_timeout(300_000)  # a slow machine is no fault of the page
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url))
    page.goto(path.as_uri())
    return page, [line for line in heard if not line.startswith(("data:", path.as_uri()))]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1200])
def test_page_draws_and_fits_without_complaint(
    browser: Browser, page_file: Path, width: int, dark: bool
) -> None:
    page, heard = opened(browser, page_file, width, dark=dark)
    assert heard == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator(".scatter svg").count() == 3
    assert page.locator(".scatter svg .point").count() == 3 * 5
    assert page.locator(".scatter svg .span").count() == 3 * 5
    assert page.locator(".scatter svg .single").count() == 3 * (3 + 4)
    page.close()


PLACES = """chart => {
  const numbers = (shapes, ...names) =>
    [...shapes].map(shape => names.map(name => Number(shape.getAttribute(name))));
  const labels = [...chart.querySelectorAll("text:not(.name)")];
  const texts = anchor => labels.filter(label => label.getAttribute("text-anchor") === anchor);
  return {
    points: [...chart.querySelectorAll(".point")].map(shape => {
      const box = shape.getBBox();
      return [box.x + box.width / 2, box.y + box.height / 2];
    }),
    spans: numbers(chart.querySelectorAll(".span"), "x1", "x2", "y1", "y2"),
    costs: texts("middle").map(label => [label.textContent, Number(label.getAttribute("x"))]),
    shares: texts("end").map(label => [label.textContent, Number(label.getAttribute("y"))]),
  };
}"""
"""Where the marks of a chart are and what its axes are labelled with, in the order of its lines."""


def on_a_line(values: Any, places: Any) -> float:
    """The slope of places over values, px; all lie on one line to a hundredth of a pixel."""
    slope, offset = np.polyfit(values, places, 1)
    np.testing.assert_allclose(places, slope * np.asarray(values) + offset, atol=0.01)
    return float(slope)


def test_points_intervals_and_labels_lie_where_their_numbers_say(
    browser: Browser, page_file: Path, found: dict[str, Any]
) -> None:
    page, _ = opened(browser, page_file, 1200, dark=False)
    drawn = page.locator("#chart-parameters").evaluate(PLACES)
    page.close()
    rows = [row for row in found["rows"] if row["trainings"]]
    points, spans = np.array(drawn["points"]), np.array(drawn["spans"])
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
    costs = [row["costs"]["parameters"]["median"] for row in rows]
    labelled = [float(text[:-1]) * units[text[-1]] for text, _ in drawn["costs"]]
    across = [*points[:, 0], *(place for _, place in drawn["costs"])]
    assert on_a_line(np.log([*costs, *labelled]), across) > 0  # equal ratios, equal distances
    np.testing.assert_allclose(spans[:, :2], points[:, :1].repeat(2, axis=1), atol=0.01)
    means, lows, highs = (
        [row["video_top1"][name] for row in rows] for name in ("mean", "low", "high")
    )
    shares = [float(text.removesuffix(" %")) / 100 for text, _ in drawn["shares"]]
    down = [*points[:, 1], *spans[:, 2], *spans[:, 3], *(place for _, place in drawn["shares"])]
    assert on_a_line([*means, *lows, *highs, *shares], down) < 0  # more right: higher up


NAMES = """chart => {
  const box = ({x, y, width, height}) => [x, y, x + width, y + height];
  const center = shape => {
    const {x, y, width, height} = shape.getBBox();
    return [x + width / 2, y + height / 2];
  };
  const numbers = (line, ...keys) => keys.map(key => Number(line.getAttribute(key)));
  return {
    size: [chart.querySelector("svg").viewBox.baseVal.width, 300 - 26],
    marks: Object.fromEntries([...chart.querySelectorAll("g")].map(group => [
      group.querySelector("title").textContent.split(":")[0],
      {
        point: center(group.querySelector(".point")),
        rings: [...group.querySelectorAll(".single")].map(center),
        span: numbers(group.querySelector(".span"), "x1", "y1", "x2", "y2"),
      },
    ])),
    names: Object.fromEntries([...chart.querySelectorAll(".name")].map(
      text => [text.textContent, box(text.getBBox())])),
    leaders: [...chart.querySelectorAll(".leader")].map(
      line => numbers(line, "x1", "y1", "x2", "y2")),
  };
}"""
"""Boxes of the names in a chart (left, top, right, bottom), the marks, and lines from a name to its
point; px."""


@cache
def crowd(names: tuple[str, ...], best: float, num_videos: int) -> dict[str, Any]:
    """Searched and random modules and networks of many costs; accuracies from 0.1 to `best`."""
    rng = np.random.default_rng(len(names))
    lines = [
        line("searched", 0.6, 100_000, 3, num_videos),
        line("random", 0.55, 110_000, 4, num_videos),
    ]
    for name in names:
        own = np.random.default_rng(0) if name.startswith("x3d") else rng  # three in one place
        accuracy, cost = own.uniform(0.1, best), int(10 ** own.uniform(6.3, 8))
        lines.append(line(name, accuracy, cost, 1, num_videos))
    return output.everything(lines, videos(), Terms(), RunConfig(), device="CPU")


def names_of_charts(
    browser: Browser, path: Path, found: dict[str, Any], width: int, *, dark: bool
) -> list[dict[str, Any]]:
    comparison.write(path, found)
    page, heard = opened(browser, path, width, dark=dark)
    assert heard == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    drawn = [chart.evaluate(NAMES) for chart in page.locator("[data-axis]").all()]
    page.close()
    assert len(drawn) == 3
    return drawn


def distance(box: Any, points: Any) -> Any:
    """From a box to each point; 0 inside."""
    box, points = np.asarray(box), np.atleast_2d(points)
    return np.hypot(*(points - points.clip(box[:2], box[2:])).T)


def dots(segment: Any) -> Any:
    """Dots along a line, closer than a pixel."""
    segment = np.asarray(segment)
    steps = np.linspace(0, 1, 400)[:, None]
    return segment[:2] + steps * (segment[2:] - segment[:2])


ALL = tuple(BASELINES)
TWELVE = tuple(name for name in ALL if name.count("_") < 2)


@pytest.fixture(
    scope="module",
    params=[(*crowded, width) for width in (400, 1200) for crowded in
            [(ALL, 0.7, 60), (ALL, 0.7, 1000), (ALL, 0.16, 60), (TWELVE, 0.7, 60)]],
    ids=lambda param: "-".join(map(str, [len(param[0]), *param[1:]])),
)  # fmt: skip
def charts(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """Charts with many networks, spread out or all near chance, on a desk and on a phone.

    Where there are many videos the intervals are short and keep no name away.
    """
    names, best, num_videos, width = request.param
    path = tmp_path_factory.mktemp("crowd") / "page.html"
    return names_of_charts(browser, path, crowd(names, best, num_videos), width, dark=width == 400)


def test_names_in_a_chart_do_not_overlap_nor_leave_it(charts: list[dict[str, Any]]) -> None:
    for drawn in charts:
        assert {"searched", "random"} <= set(drawn["names"]) <= set(drawn["marks"])
        boxes = list(drawn["names"].values())
        for i, box in enumerate(boxes):
            assert min(box) >= 0
            assert (np.array(box[2:]) <= drawn["size"]).all()
            for other in boxes[:i]:
                beside = box[2] <= other[0] or other[2] <= box[0]
                assert beside or box[3] <= other[1] or other[3] <= box[1]


def test_names_in_a_chart_cover_no_point_no_ring_and_no_interval(
    charts: list[dict[str, Any]],
) -> None:
    for drawn in charts:
        for name, box in drawn["names"].items():
            for mark in drawn["marks"].values():
                assert distance(box, mark["point"]).min() >= 5, name
                assert distance(box, dots(mark["span"])).min() > 0, name
                assert all(distance(box, ring).min() >= 3 for ring in mark["rings"]), name


def test_name_is_nearest_to_its_own_point_or_has_a_line_to_it(charts: list[dict[str, Any]]) -> None:
    for drawn in charts:
        num_lines = 0
        for name, box in drawn["names"].items():
            own = np.array(drawn["marks"][name]["point"])
            mine = [leader for leader in drawn["leaders"]
                    if distance(box, leader[:2]) < 0.1 and np.allclose(leader[2:], own, atol=0.01)
                    ]  # fmt: skip
            num_lines += len(mine)
            points = np.array([mark["point"] for mark in drawn["marks"].values()])
            if mine:
                others = [other for key, other in drawn["names"].items() if key != name]
                assert all(distance(other, dots(mine[0])).min() > 0 for other in others), name
                for point in points[np.hypot(*(points - own).T) > 0.1]:
                    away = np.hypot(*(dots(mine[0]) - point).T).min()
                    assert away >= min(5, np.hypot(*(point - own)) - 0.1), name
            else:
                near, next_one, *_ = np.sort(distance(box, points))
                assert distance(box, own) == near <= 10, name
                assert next_one > near + 3, name
        assert num_lines == len(drawn["leaders"])


@pytest.mark.parametrize("width", [400, 1200])
def test_no_name_is_left_out_of_a_chart_that_has_room(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    found = crowd(TWELVE, 0.7, 60)
    for drawn in names_of_charts(browser, tmp_path / "page.html", found, width, dark=False):
        assert set(drawn["names"]) == {"searched", "random", *TWELVE}


def test_mark_tells_its_name_where_the_chart_has_no_room_for_it(
    browser: Browser, tmp_path: Path
) -> None:
    found = crowd(ALL, 0.16, 60)
    (drawn, *_) = names_of_charts(browser, tmp_path / "page.html", found, 400, dark=False)
    left_out = set(ALL) - set(drawn["names"])
    assert left_out
    page, _ = opened(browser, tmp_path / "page.html", 400, dark=False)
    titles = page.locator("#chart-parameters title").all_text_contents()
    page.close()
    shares = {row["name"]: f"{100 * row['video_top1']['mean']:.1f} %" for row in found["rows"]}
    assert titles == [f"{name}: {share}" for name, share in shares.items()]


def test_axis_of_networks_that_cost_nearly_the_same_has_numbers_too(
    browser: Browser, tmp_path: Path
) -> None:
    lines = [line("searched", 0.8, 21_000_000), line("c3d", 0.3, 24_000_000)]
    on = Terms(budget=Budget(epochs=30))
    comparison.write(
        tmp_path / "compare.html", output.everything(lines, videos(), on, RunConfig(), device="CPU")
    )
    page, _ = opened(browser, tmp_path / "compare.html", 1200, dark=False)
    labels = page.locator("#chart-parameters text").all_text_contents()
    assert {"15M", "20M", "30M"} <= set(labels)
    page.close()


def test_table_is_sorted_by_a_click_and_what_failed_stays_last(
    browser: Browser, page_file: Path
) -> None:
    page, _ = opened(browser, page_file, 1200, dark=False)

    def order() -> list[str]:
        heads = page.locator("#compared tbody th").all()
        return [head.inner_text().splitlines()[0].split(" (")[0] for head in heads]

    page.locator("#compared thead button", has_text="parameters").click()
    assert order() == ["c3d", "resnet3d_18", "x3d_xs", "random", "searched", "convnet3d"]
    page.locator("#compared thead button", has_text="parameters").click()
    assert order() == ["searched", "random", "x3d_xs", "resnet3d_18", "c3d", "convnet3d"]
    assert page.locator("#compared th[aria-sort=ascending]").count() == 1
    page.locator("#compared thead button", has_text="network").click()
    assert order()[0] == "c3d"
    page.close()
