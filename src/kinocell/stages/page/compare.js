// Draws accuracy against cost and sorts the table. Reads the JSON in #data, nothing else.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const HEIGHT = 300;
  const EDGE = { left: 40, right: 14, top: 12, bottom: 26 };
  const UNITS = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];

  function svg(name, attributes, ...children) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  // ---- scatter ------------------------------------------------------------------------------

  function short(value) {
    const [factor, unit] = UNITS.find(([size]) => value >= size) ?? [1, ""];
    return +(value / factor).toPrecision(2) + unit;
  }

  // Powers of ten, and as many between them as it takes for three on the axis.
  function logTicks(low, high) {
    const powers = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      powers.push(10 ** power);
    }
    const between = [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]].map((digits) => powers
      .flatMap((power) => digits.map((digit) => digit * power))
      .filter((tick) => tick >= low && tick <= high));
    return between.find((ticks) => ticks.length >= 3) ?? between.at(-1);
  }

  function shareTicks(low, high) {
    const step = [0.01, 0.02, 0.05, 0.1, 0.2].find((size) => (high - low) / size <= 6) ?? 0.25;
    const first = Math.ceil(low / step);
    return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
  }

  function scatter(place) {
    const axis = place.dataset.axis;
    const width = Math.max(place.clientWidth, 260);
    const all = data.points.flatMap((point) => [point, ...point.members]);
    const xs = all.map((point) => point.x[axis]).filter((x) => x > 0);
    if (!xs.length) return;
    const [xLow, xHigh] = [Math.min(...xs) / 1.5, Math.max(...xs) * 1.5];
    const lows = data.points.map((p) => p.low).concat(all.map((p) => p.y));
    const highs = data.points.map((p) => p.high).concat(all.map((p) => p.y));
    const yLow = Math.max(0, Math.min(...lows) - 0.03);
    const yHigh = Math.min(1, Math.max(...highs) + 0.03);
    const x = (value) => EDGE.left + (width - EDGE.left - EDGE.right)
      * Math.log(value / xLow) / Math.log(xHigh / xLow);
    const y = (value) => HEIGHT - EDGE.bottom - (HEIGHT - EDGE.top - EDGE.bottom)
      * (value - yLow) / (yHigh - yLow);

    const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
    for (const tick of logTicks(xLow, xHigh)) {
      picture.append(
        svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }),
        svg("text", { x: x(tick), y: HEIGHT - 8, "text-anchor": "middle" }, short(tick)));
    }
    for (const tick of shareTicks(yLow, yHigh)) {
      picture.append(
        svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(tick), y2: y(tick) }),
        svg("text", { x: EDGE.left - 6, y: y(tick), dy: ".35em", "text-anchor": "end" },
          `${Math.round(100 * tick)} %`));
    }
    const taken = [];
    for (const point of data.points) {
      const group = svg("g", { class: point.kind });
      for (const member of point.members) {
        group.append(svg("circle", { class: "single", cx: x(member.x[axis]), cy: y(member.y), r: 3 }));
      }
      const [left, top] = [x(point.x[axis]), y(point.y)];
      group.append(svg("line", { class: "span", x1: left, x2: left, y1: y(point.low), y2: y(point.high) }));
      group.append(marker(point.kind, left, top));
      picture.append(group);
      taken.push({ left: left - 6, right: left + 6, top: top - 6, bottom: top + 6 });
    }
    for (const point of data.points) {
      picture.append(name(point, x(point.x[axis]), y(point.y), width, taken));
    }
    place.replaceChildren(picture);
  }

  function marker(kind, x, y) {
    if (kind === "searched") return svg("circle", { class: "point", cx: x, cy: y, r: 5 });
    const box = { class: "point", x: x - 4, y: y - 4, width: 8, height: 8 };
    return svg("rect", kind === "random" ? { ...box, transform: `rotate(45 ${x} ${y})` } : box);
  }

  // Beside its point where there is room, else a little higher or lower.
  function name(point, x, y, width, taken) {
    const length = 6.6 * point.label.length;
    const places = [];
    for (const rise of [0, -13, 13, -26, 26, -39, 39, -52, 52]) {
      for (const side of [1, -1]) {
        const left = side > 0 ? x + 9 : x - 9 - length;
        places.push({ left, right: left + length, top: y + rise - 7, bottom: y + rise + 7 });
      }
    }
    const inside = places.filter((box) => box.left > EDGE.left && box.right < width - 2
      && box.top > 0 && box.bottom < HEIGHT - EDGE.bottom);
    const overlap = (box) => taken.filter((other) => box.left < other.right && other.left < box.right
      && box.top < other.bottom && other.top < box.bottom).length;
    const candidates = inside.length ? inside : places;
    const best = candidates.reduce((a, b) => (overlap(b) < overlap(a) ? b : a));
    taken.push(best);
    return svg("text", { class: "name", x: best.left, y: best.top + 7, dy: ".35em" }, point.label);
  }

  // ---- the table ----------------------------------------------------------------------------

  const table = document.getElementById("compared");

  function key(row, column) {
    const cell = row.cells[column];
    if (column === 0) return cell.textContent.trim();
    const value = cell?.dataset.value;
    return value === undefined ? null : Number(value);
  }

  function sort(column, down) {
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const [one, other] = [key(a, column), key(b, column)];
      if (one === null || other === null) return (one === null) - (other === null); // failed ones last
      const order = typeof one === "string" ? one.localeCompare(other) : one - other;
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }

  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending" && column > 0
        || head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(column, down);
    });
  });

  // ---- when the window changes --------------------------------------------------------------

  function draw() {
    document.querySelectorAll("[data-axis]").forEach(scatter);
  }

  draw();
  let width = window.innerWidth;
  let waiting = 0;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(draw, 120);
  });
  window.addEventListener("beforeprint", draw);
})();
