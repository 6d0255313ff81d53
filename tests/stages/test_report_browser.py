"""The report in a real browser: it draws, it fits, and it asks for nothing but itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kinocell.config import RunConfig
from kinocell.stages.report import report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MakeRun = Callable[..., RunConfig]

CHARTS = 8  # alpha, four of the search, three of the training


@dataclass
class Opened:
    """A page with everything that it complained about or asked for."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Opens a report and listens from the start."""
    pages: list[Page] = []

    def opened(path: Path, *, width: int = 1400, dark: bool = False) -> Opened:
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        page.set_default_timeout(300_000)  # a slow machine is no fault of the page
        pages.append(page)
        watched = Opened(page=page, address=path.as_uri())
        page.on("console", lambda message: watched.complaints.append(message.text))
        page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        page.on("request", lambda request: watched.requests.append(request.url))
        page.goto(watched.address)
        return watched

    yield opened
    for page in pages:
        page.close()


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_page_draws_without_complaint_and_asks_only_for_itself(
    make_run: MakeRun, open_page: Callable[..., Opened], width: int, dark: bool
) -> None:
    opened = open_page(report(make_run()), width=width, dark=dark)
    page = opened.page
    assert page.locator("#graph .node").count() == 7
    assert page.locator("#graph path.line").count() == 8 + 4
    assert page.locator("#graph .edge-label").count() == 8
    assert page.locator(".uplot canvas").count() == CHARTS
    assert page.locator("#edge-grid button").count() == 14
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert opened.complaints == []
    assert [u for u in opened.requests if not u.startswith("data:")] == [opened.address]


def test_charts_have_ink_on_them(make_run: MakeRun, open_page: Callable[..., Opened]) -> None:
    page = open_page(report(make_run())).page
    inked = page.evaluate(
        """[...document.querySelectorAll(".uplot canvas")].map((canvas) =>
             canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
               .data.some((value) => value > 0))"""
    )
    assert inked == [True] * CHARTS


def test_sources_are_left_of_the_nodes_and_the_output_is_last(
    make_run: MakeRun, open_page: Callable[..., Opened]
) -> None:
    page = open_page(report(make_run())).page
    left = {
        kind: [
            box["x"]
            for node in page.locator(f"#graph .node.{kind}").all()
            if (box := node.bounding_box())
        ]
        for kind in ("source", "hidden", "output")
    }
    assert max(left["source"]) < min(left["hidden"])
    assert max(left["hidden"]) < min(left["output"])


@pytest.mark.parametrize("width", [400, 1400])
def test_labels_of_the_graph_do_not_overlap(
    make_run: MakeRun, open_page: Callable[..., Opened], width: int
) -> None:
    page = open_page(report(make_run()), width=width).page
    boxes = [
        box
        for label in page.locator("#graph .edge-label text, #graph .node rect").all()
        if (box := label.bounding_box())
    ]
    assert len(boxes) == 8 + 7
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            beside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
            below = a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]
            assert beside or below


def test_choosing_a_connection_shows_it_large(
    make_run: MakeRun, open_page: Callable[..., Opened]
) -> None:
    page = open_page(report(make_run())).page
    assert page.locator("#alpha-title").inner_text() == "C{t-2} → node 0: kept conv_3"
    page.locator("#edge-grid button").nth(3).click()
    assert page.locator("#alpha-title").inner_text() == "C{t-1} → node 1: dropped"
    assert page.locator('#edge-grid button[aria-pressed="true"]').count() == 1
    assert page.locator("#alpha-chart canvas").count() == 1


def test_page_follows_the_window_and_the_colours(
    make_run: MakeRun, open_page: Callable[..., Opened]
) -> None:
    opened = open_page(report(make_run()))
    opened.page.set_viewport_size({"width": 400, "height": 800})
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_function("document.querySelector('.uplot').offsetWidth < 400")
    assert opened.page.locator(".uplot canvas").count() == CHARTS
    assert opened.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert opened.complaints == []


def test_page_fits_a_phone_with_101_classes(
    make_run: MakeRun, open_page: Callable[..., Opened]
) -> None:
    classes = tuple(f"class number {number}" for number in range(101))
    opened = open_page(report(make_run(classes, videos_per_class=2)), width=400)
    assert opened.page.locator(".bars li").count() == 101
    assert opened.page.locator(".confusion .label").count() == 202
    assert opened.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert opened.complaints == []


def test_page_without_search_and_scores_draws_without_complaint(
    make_run: MakeRun, open_page: Callable[..., Opened]
) -> None:
    config = make_run()
    for stage in ("search", "evaluate"):
        shutil.rmtree(Path(config.out) / stage)
    opened = open_page(report(config))
    assert opened.complaints == []
    assert opened.page.locator(".uplot canvas").count() == 3
