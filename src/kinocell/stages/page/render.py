"""The report's template filled in: everything the page needs travels inside one file.

No numbers are computed here; names that come from users are escaped here, and only here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import jinja2
from markupsafe import Markup

FOLDER = Path(__file__).parent
NARROW_SPACE = "\u202f"


def page(parts: Mapping[str, object], script_data: Mapping[str, object]) -> str:
    """The whole page.

    Args:
        parts: What the template reads.
        script_data: What the charts read; put into the page as JSON.
    """
    environment = _environment()
    environment.globals["zip"] = zip
    environment.filters.update(
        percent=percent, count=count, number=number, large=large, seconds=seconds
    )
    return environment.get_template("report.html.j2").render(
        **parts,
        styles=[_file("vendor/uplot-1.6.32.min.css"), _file("report.css")],
        scripts=[
            _file("vendor/uplot-1.6.32.iife.min.js"),
            _file("vendor/dagre-3.1.3.min.js"),
            _file("report.js"),
        ],
        licences=[
            ("uPlot 1.6.32", _file("vendor/uplot-LICENSE.txt")),
            ("@dagrejs/dagre 3.1.3", _file("vendor/dagre-LICENSE.txt")),
        ],
        script_data=script_json(script_data),
    )


def comparison_page(parts: Mapping[str, object], script_data: Mapping[str, object]) -> str:
    """The page of a comparison; arguments as of `page`."""
    environment = _environment()
    environment.filters.update(percent=percent, count=count)
    return environment.get_template("compare.html.j2").render(
        **parts,
        styles=[_file("report.css"), _file("compare.css")],
        scripts=[_file("compare.js")],
        script_data=script_json(script_data),
    )


def sheets_page(parts: Mapping[str, object]) -> str:
    """The page of contact sheets; its pictures lie beside it."""
    return _environment().get_template("sheets.html.j2").render(**parts)


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def script_json(value: object) -> Markup:
    r"""JSON that may stand inside a <script> element: no `<`, `>` or `&`, and no NaN.

    >>> str(script_json(["</script>", float("nan")]))
    '["\\u003c/script\\u003e", null]'
    """
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # every character that HTML reads is written as \uXXXX


def _finite(value: object) -> object:
    """NaN and infinity as None: JSON has no word for them, and a chart draws a gap."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _file(name: str) -> Markup:
    """One of our own files or a vendored one, without the pointer to a source map."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL="))
    return Markup(text)  # shipped with kinocell, not written by a user


def percent(share: float) -> str:
    """A share as a percentage with one digit: `0.9417` is `94.2 %`."""
    return f"{100 * share:.1f}{NARROW_SPACE}%"


def count(value: int) -> str:
    """`1234567` with narrow spaces between the thousands."""
    return f"{value:,}".replace(",", NARROW_SPACE)


def number(value: float | None) -> str:
    """Three significant digits; a dash where there is no value."""
    return "\u2013" if value is None or not math.isfinite(value) else f"{value:.3g}"


def large(value: float) -> str:
    """`123456789` as `123 M`: k, M and G stand for thousands, millions and billions."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{NARROW_SPACE}{unit}"
    return f"{value:.3g}"


def seconds(value: float) -> str:
    """A duration with at most two units: `4 min 10 s`."""
    whole = round(value)
    if value < 10:
        return f"{value:.1f}{NARROW_SPACE}s"
    if whole < 60:
        return f"{whole}{NARROW_SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{NARROW_SPACE}min {whole % 60:02d}{NARROW_SPACE}s"
    return f"{whole // 3600}{NARROW_SPACE}h {whole % 3600 // 60:02d}{NARROW_SPACE}min"
