// Draws accuracy against cost and sorts the table. Reads the JSON in #data, nothing else.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const HEIGHT = 300;
  const APART = 14; // px from a name to another's mark: its own is nearer
  const ROUNDS = 24; // in which names look for room
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
    place.replaceChildren(picture); // before the labels, which are measured
    const marks = [];
    for (const point of data.points) {
      const [left, top] = [x(point.x[axis]), y(point.y)];
      const span = { left, right: left, top: y(point.high), bottom: y(point.low) };
      const rings = point.members.map((one) => ({ point, x: x(one.x[axis]), y: y(one.y), r: 4 }));
      picture.append(svg("g", { class: point.kind },
        ...rings.map((ring) => svg("circle", { class: "single", cx: ring.x, cy: ring.y, r: 3 })),
        svg("line", { class: "span", x1: left, x2: left, y1: span.bottom, y2: span.top }),
        marker(point.kind, left, top),
        svg("title", {}, `${point.label}: ${(100 * point.y).toFixed(1)} %`)));
      marks.push({ point, x: left, y: top, r: 6, span }, ...rings);
    }
    writeNames(picture, marks, width);
  }

  function marker(kind, x, y) {
    if (kind === "searched") return svg("circle", { class: "point", cx: x, cy: y, r: 5 });
    const box = { class: "point", x: x - 4, y: y - 4, width: 8, height: 8 };
    return svg("rect", kind === "random" ? { ...box, transform: `rotate(45 ${x} ${y})` } : box);
  }

  // ---- names in the scatter -----------------------------------------------------------------

  // A name stands beside its point, else farther away with a line to it. Where it would cover
  // something or seem to be another point's it is left out: the mark and the table tell it too.
  function writeNames(picture, marks, width) {
    const points = marks.filter((mark) => mark.span);
    const fits = ({ own, box, line }) => box.left > EDGE.left && box.right < width - 2
      && box.top > 0 && box.bottom < HEIGHT - EDGE.bottom
      && !points.some(({ span }) => meet(box, span))
      && marks.every((mark) => distance(box, mark) >= (mark.point === own.point ? mark.r : APART))
      && !(line && (unseen(line, own) || points.some((other) => hides(line, other))));

    const names = points.map((own) => {
      const text = svg("text", { class: "name" }, own.point.label);
      picture.append(text);
      const size = text.getBBox();
      text.remove();
      return places(own, size).map((place) => ({ ...place, own, text, size })).filter(fits);
    });
    for (const { text, size, box, line } of together(names)) {
      text.setAttribute("x", box.left - size.x);
      text.setAttribute("y", box.top - size.y);
      picture.append(text);
      if (!line) continue;
      const [{ x: x1, y: y1 }, { x: x2, y: y2 }] = line;
      picture.querySelector("g").before(svg("line", { class: "leader", x1, y1, x2, y2 }));
    }
  }

  // The boxes that a name may take, the better ones first, and the lines of those farther away.
  function places(own, { width, height }) {
    const at = (left, top) => ({ left, right: left + width, top, bottom: top + height });
    const middle = { x: own.x - width / 2, y: own.y - height / 2 };
    const [right, left, above, below] = [own.x + 9, own.x - 9 - width, own.y - 7 - height, own.y + 7];
    const beside = [
      at(right, middle.y), at(left, middle.y), at(middle.x, above), at(middle.x, below),
      at(own.x + 4, above), at(own.x + 4, below), // beside a long interval
      at(own.x - 4 - width, above), at(own.x - 4 - width, below),
    ];
    const farther = [];
    for (let far = 20; far <= 160; far += 5) {
      for (let turn = 0; turn < 2 * Math.PI; turn += Math.PI / 18) {
        const [over, down] = [Math.cos(turn), Math.sin(turn)];
        farther.push(at(middle.x + over * (far + width / 2), middle.y + down * far));
      }
    }
    return [
      ...beside.map((box) => ({ box })),
      ...farther.map((box) => ({ box, line: [nearest(own, box), own] })),
    ];
  }

  // One place of each name, so that none disturbs another. Names that found no room choose first
  // in the next round. The round with the most names counts, ours before those of other people's
  // networks, and of several the one with the fewest lines.
  function together(names) {
    let [best, most] = [[], 0];
    for (let round = 0; round < ROUNDS; round++) {
      const taken = [];
      const without = names.filter((places) => {
        const place = places.find((one) => !taken.some((other) => disturb(one, other)));
        if (place) taken.push(place);
        return !place;
      });
      const worth = taken.reduce((sum, { own, line }) => (
        sum + (own.point.kind === "model" ? 1 : 100) - (line ? 0.01 : 0)), 0);
      if (worth > most) [best, most] = [taken, worth];
      if (!without.length) break;
      names = [...without, ...names.filter((places) => !without.includes(places))];
    }
    return best;
  }

  const nearest = ({ x, y }, { left, right, top, bottom }) => (
    { x: Math.min(Math.max(x, left), right), y: Math.min(Math.max(y, top), bottom) });

  function distance(box, mark) {
    const { x, y } = nearest(mark, box);
    return Math.hypot(mark.x - x, mark.y - y);
  }

  // A line up or down its own interval is seen only beyond the end of that.
  const unseen = ([a, b], { span }) => Math.abs(a.x - b.x) < 4
    && a.y > span.top - 8 && a.y < span.bottom + 8;

  // Whether a line goes over a point, or comes closer to it than its own end is.
  function hides([a, b], mark) {
    const [over, down] = [b.x - a.x, b.y - a.y];
    const along = ((mark.x - a.x) * over + (mark.y - a.y) * down) / (over ** 2 + down ** 2);
    const part = Math.min(Math.max(along, 0), 1);
    return Math.hypot(a.x + part * over - mark.x, a.y + part * down - mark.y)
      < Math.min(mark.r + 2, Math.hypot(mark.x - b.x, mark.y - b.y)) - 0.01;
  }

  const disturb = (a, b) => meet(a.box, b.box) || (a.line && crosses(a.line, b.box))
    || (b.line && crosses(b.line, a.box)) || (a.line && b.line && cut(a.line, b.line));
  const meet = (a, b) => a.left < b.right + 2 && b.left < a.right + 2
    && a.top < b.bottom && b.top < a.bottom;

  // A line that goes through a box cuts one of its diagonals.
  const crosses = (line, { left, right, top, bottom }) => (
    cut(line, [{ x: left, y: top }, { x: right, y: bottom }])
    || cut(line, [{ x: left, y: bottom }, { x: right, y: top }]));
  const cut = (a, b) => side(a, b[0]) * side(a, b[1]) < 0 && side(b, a[0]) * side(b, a[1]) < 0;
  const side = ([a, b], c) => Math.sign((b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x));

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
