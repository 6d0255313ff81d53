// Draws the module's graph, the curves and alpha over time. Reads the JSON in #data, nothing else.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const DASHES = {
    conv_1: [9, 5], conv_3: [], sep_conv_3: [], dil_conv_3: [12, 3],
    max_pool_3: [4, 4], avg_pool_3: [4, 4], skip: [1, 5], zero: [1, 3],
  };
  const OWN = ["#a0417e", "#d55e00", "#8a7a00", "#7a5cc4"]; // operators that kinocell does not bring
  const element = (id) => document.getElementById(id);
  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function svg(name, attributes, ...children) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  // ---- the module -------------------------------------------------------------------------

  function drawGraph() {
    const place = element("graph");
    if (!place || !data.graph) return;
    const upright = place.clientWidth < 640;
    const layout = new dagre.graphlib.Graph({ multigraph: true });
    layout.setGraph({
      rankdir: upright ? "TB" : "LR", nodesep: upright ? 18 : 34, ranksep: upright ? 56 : 84,
      edgesep: 14, marginx: 4, marginy: 4,
    });
    layout.setDefaultEdgeLabel(() => ({}));
    layout.setNode("start", { width: 1, height: 1 }); // invisible: keeps the sources in one line
    for (const node of data.graph.nodes) {
      layout.setNode(node.id, { width: 22 + 8 * node.label.length, height: 36, ...node });
      if (node.kind === "source") layout.setEdge("start", node.id, { weight: 100, minlen: 1 });
    }
    data.graph.edges.forEach((edge, index) => {
      const label = edge.op
        ? { width: 12 + 7.8 * edge.op.length, height: 22, labelpos: "c" } : {};
      layout.setEdge(edge.source, edge.target, { ...label, ...edge }, `edge ${index}`);
    });
    dagre.layout(layout);

    const nodes = layout.nodes().map((id) => layout.node(id)).filter((node) => node.kind);
    const drawn = layout.edges().map((key) => layout.edge(key)).filter((edge) => edge.family);
    const boxes = [...nodes, ...drawn.filter((edge) => edge.op)];
    setPorts(drawn, nodes, upright);
    straightenLabels(drawn, upright);
    const bends = drawn.flatMap((edge) => edge.points); // dagre's own size leaves some outside
    const range = (axis, side) => [
      Math.min(...boxes.map((box) => box[axis] - box[side] / 2), ...bends.map((p) => p[axis])) - 4,
      Math.max(...boxes.map((box) => box[axis] + box[side] / 2), ...bends.map((p) => p[axis])) + 4,
    ];
    const [[left, right], [top, bottom]] = [range("x", "width"), range("y", "height")];
    const [width, height] = [right - left, bottom - top];
    const picture = svg("svg", {
      viewBox: `${left} ${top} ${width} ${height}`, width, height, "aria-hidden": "true",
    });
    const labels = [];
    for (const edge of drawn) {
      const group = svg("g", { class: "edge " + edge.family });
      group.append(svg("path", { d: curve(edge.points, upright), class: "line " + edge.family }));
      group.append(svg("path", { d: tip(edge.points.at(-1), upright), class: "tip" }));
      picture.append(group);
      if (edge.op) {
        labels.push(svg("g", { class: "edge-label edge " + edge.family },
          svg("rect", {
            class: "plate", x: edge.x - edge.width / 2, y: edge.y - edge.height / 2,
            width: edge.width, height: edge.height, rx: 5,
          }),
          svg("text", { x: edge.x, y: edge.y, dy: ".35em" }, edge.op)));
      }
    }
    picture.append(...labels);
    for (const node of nodes) {
      picture.append(svg("g", { class: "node " + node.kind },
        svg("rect", {
          x: node.x - node.width / 2, y: node.y - node.height / 2,
          width: node.width, height: node.height, rx: 8,
        }),
        svg("text", { x: node.x, y: node.y, dy: ".35em" }, node.label)));
    }
    place.replaceChildren(picture);
  }

  // Where arrows leave and enter a node: along one side, in the order in which they come.
  function setPorts(edges, nodes, upright) {
    const [along, across, depth, span] =
      upright ? ["y", "x", "height", "width"] : ["x", "y", "width", "height"];
    for (const node of nodes) {
      for (const [mine, at, next, sign] of [["source", 0, 1, 1], ["target", -1, -2, -1]]) {
        const ends = edges.filter((edge) => edge[mine] === node.id);
        ends.sort((a, b) => a.points.at(next)[across] - b.points.at(next)[across]);
        const step = Math.min(upright ? 20 : 12, (node[span] - 14) / Math.max(ends.length - 1, 1));
        ends.forEach((edge, place) => {
          const point = edge.points.at(at);
          point[along] = node[along] + (sign * node[depth]) / 2;
          point[across] = node[across] + (place - (ends.length - 1) / 2) * step;
        });
      }
    }
  }

  // Straight behind the label, so that a line bends only where no label hides it.
  function straightenLabels(edges, upright) {
    const [along, depth] = upright ? ["y", "height"] : ["x", "width"];
    for (const edge of edges.filter((edge) => edge.op)) {
      const { x, y } = edge;
      const distance = (point) => Math.hypot(point.x - x, point.y - y);
      const nearest = Math.min(...edge.points.slice(1, -1).map(distance));
      const place = edge.points.findIndex((point) => distance(point) === nearest);
      const ends = [-1, 1].map((sign) => ({ x, y, [along]: edge[along] + (sign * edge[depth]) / 2 }));
      edge.points.splice(place, 1, ...ends);
    }
  }

  // A line through all points that starts, ends and passes each one straight ahead.
  function curve(points, upright) {
    let path = `M${points[0].x} ${points[0].y}`;
    for (let i = 1; i < points.length; i++) {
      const [p, q] = [points[i - 1], points[i]];
      path += upright
        ? `C${p.x} ${(p.y + q.y) / 2} ${q.x} ${(p.y + q.y) / 2} ${q.x} ${q.y}`
        : `C${(p.x + q.x) / 2} ${p.y} ${(p.x + q.x) / 2} ${q.y} ${q.x} ${q.y}`;
    }
    return path;
  }

  function tip({ x, y }, upright) {
    return upright
      ? `M${x} ${y}l-4 -9h8Z`
      : `M${x} ${y}l-9 -4v8Z`;
  }

  // ---- curves -----------------------------------------------------------------------------

  const charts = new Map();

  function lineChart(id, x, series, options = {}) {
    const place = element(id);
    if (!place) return;
    charts.get(id)?.destroy();
    const shown = series.filter((line) => line.values?.some((value) => value !== null));
    const axis = {
      stroke: colour("--muted"), font: "12px system-ui, sans-serif",
      grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false },
    };
    const percent = (value) => +(100 * value).toPrecision(3) + " %";
    const plain = (value) => String(+value.toPrecision(3));
    const format = options.percent ? percent : plain;
    const chart = new uPlot({
      width: place.clientWidth, height: options.height ?? 190,
      scales: {
        x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
        y: { range: options.range ?? yRange },
      },
      axes: [
        { ...axis, size: 28, incrs: [1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000] },
        { ...axis, size: 56, values: (_, ticks) => ticks.map(format), incrs: options.incrs },
      ],
      cursor: { y: false, drag: { setScale: true } },
      legend: { markers: { width: 1.5 } },
      series: [
        { label: "epoch" },
        ...shown.map((line) => ({
          label: line.label, stroke: line.colour, dash: line.dash, width: line.width ?? 2,
          spanGaps: false, points: { show: x.length < 3 },
          paths: line.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
          value: (_, value) => (value == null ? "–" : format(value)),
        })),
      ],
      hooks: { draw: [(u) => mark(u, options.mark)], ready: [(u) => restingLegend(u, x.length - 1)] },
    }, [x, ...shown.map((line) => line.values)], place);
    chart.root.querySelector("canvas").setAttribute("aria-hidden", "true");
    charts.set(id, chart);
  }

  // The legend shows the last epoch unless the pointer is on another one.
  function restingLegend(u, last) {
    const rest = () => u.setLegend({ idx: last });
    rest();
    u.over.addEventListener("mouseleave", () => requestAnimationFrame(rest));
  }

  function yRange(_, low, high) {
    if (low === null) return [0, 1];
    const pad = (high - low || Math.abs(high) || 1) * 0.06;
    return [low >= 0 && low < 0.35 * high ? 0 : low - pad, high + pad];
  }

  // A vertical line at the epoch that was chosen.
  function mark(u, at) {
    if (at === undefined || at < u.scales.x.min || at > u.scales.x.max) return;
    const x = Math.round(u.valToPos(at, "x", true));
    u.ctx.save();
    u.ctx.strokeStyle = colour("--muted");
    u.ctx.globalAlpha = 0.7;
    u.ctx.setLineDash([4, 4]);
    u.ctx.beginPath();
    u.ctx.moveTo(x, u.bbox.top);
    u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
    u.ctx.stroke();
    u.ctx.restore();
  }

  function drawCurves() {
    const train = colour("--accent");
    const held = colour("--spatial");
    const share = { percent: true, range: (_, low, high) => [0, Math.min(1, Math.max(high * 1.05, 0.1))] };
    for (const [part, other] of [["search", "held-out half"], ["train", "validation"]]) {
      if (!data[part]) continue;
      const c = data[part].curves;
      const at = data[part].chosen ?? undefined;
      lineChart(part + "-loss", c.epochs, [
        { label: "training", values: c.train_loss, colour: train },
        { label: other, values: c.valid_loss, colour: held, dash: [7, 4] },
      ], { mark: at });
      lineChart(part + "-accuracy", c.epochs, [
        { label: "training", values: c.train_accuracy, colour: train },
        { label: other, values: c.valid_accuracy, colour: held, dash: [7, 4] },
      ], { ...share, mark: at });
    }
    if (data.search) {
      const c = data.search.curves;
      const at = data.search.chosen ?? undefined;
      lineChart("search-entropy", c.epochs, [
        { label: "entropy", values: c.entropy, colour: train },
        { label: "all operators alike", values: c.max_entropy, colour: colour("--muted"), dash: [2, 4], width: 1.5 },
      ], { mark: at });
      lineChart("search-skips", c.epochs, [
        { label: "skips", values: c.skip_count, colour: colour("--skip"), stepped: true },
      ], { mark: at, incrs: [1, 2, 5, 10, 20], range: (_, low, high) => [0, Math.max(high + 1, 4)] });
    }
    if (data.train) {
      const c = data.train.curves;
      lineChart("train-rate", c.epochs, [
        { label: "learning rate", values: c.learning_rate, colour: train },
      ], { mark: data.train.chosen ?? undefined });
    }
  }

  // ---- alpha over time --------------------------------------------------------------------

  function style(alphas, index) {
    const op = alphas.ops[index];
    const own = alphas.ops.filter((name) => !(name in DASHES)).indexOf(op);
    return own < 0
      ? { colour: colour("--op-" + op), dash: DASHES[op] }
      : { colour: OWN[own % OWN.length], dash: [10, 3, 2, 3] };
  }

  function drawAlphas() {
    const alphas = data.search?.alphas;
    if (!alphas) return;
    drawLegend(alphas);
    const all = alphas.weights.flat(2);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const sources = Math.max(...alphas.edges.map((edge) => edge.source)) + 1;
    const name = (index) => ["C{t-2}", "C{t-1}"][index] ?? `node ${index - 2}`;
    const grid = element("edge-grid");
    grid.style.gridTemplateColumns = `auto repeat(${sources}, minmax(0, 1fr))`;
    const cells = [text("span", "")];
    for (let source = 0; source < sources; source++) cells.push(text("span", name(source), "head"));
    let target = -1;
    alphas.edges.forEach((edge, index) => {
      if (edge.target !== target) {
        target = edge.target;
        const side = text("span", name(target), "side");
        side.style.gridColumn = 1;
        cells.push(side);
      }
      const button = text("button", "");
      button.type = "button";
      button.title = edge.kept ? `${edge.label}: kept ${edge.kept}` : edge.label;
      button.setAttribute("aria-label", button.title);
      button.setAttribute("aria-pressed", "false");
      button.style.gridColumn = edge.source + 2;
      if (edge.kept) button.classList.add("kept");
      button.append(sparkline(alphas, index, low, high));
      button.addEventListener("click", () => choose(alphas, index, low, high));
      cells.push(button);
    });
    grid.replaceChildren(...cells);
    const first = alphas.edges.findIndex((edge) => edge.kept);
    choose(alphas, chosenEdge ?? Math.max(first, 0), low, high);
  }

  let chosenEdge = null;

  function choose(alphas, index, low, high) {
    chosenEdge = index;
    const edge = alphas.edges[index];
    element("edge-grid").querySelectorAll("button").forEach((button, place) =>
      button.setAttribute("aria-pressed", String(place === index)));
    element("alpha-title").textContent =
      edge.label + (edge.kept ? `: kept ${edge.kept}` : ": dropped");
    const lines = alphas.ops.map((op, column) => {
      const { colour: stroke, dash } = style(alphas, column);
      return {
        label: op, values: alphas.weights.map((epoch) => epoch[index][column]), colour: stroke,
        dash, width: op === edge.kept ? 3.5 : 1.8,
      };
    });
    const pad = (high - low || 0.1) * 0.05;
    lineChart("alpha-chart", alphas.epochs, lines, {
      height: 250, mark: alphas.chosen, range: () => [low - pad, high + pad],
    });
  }

  function sparkline(alphas, index, low, high) {
    const picture = svg("svg", { viewBox: "0 0 100 54", preserveAspectRatio: "none", "aria-hidden": "true" });
    const last = Math.max(alphas.weights.length - 1, 1);
    alphas.ops.forEach((op, column) => {
      const { colour: stroke, dash } = style(alphas, column);
      const points = alphas.weights.map((epoch, step) => {
        const share = (epoch[index][column] - low) / (high - low || 1);
        return `${((100 * step) / last).toFixed(2)},${(52 - 50 * share).toFixed(2)}`;
      });
      picture.append(svg("polyline", {
        points: points.join(" "), stroke, "stroke-width": op === alphas.edges[index].kept ? 2.6 : 1.1,
        "stroke-dasharray": dash.map((length) => length / 2).join(" "),
      }));
    });
    return picture;
  }

  function drawLegend(alphas) {
    element("op-legend").replaceChildren(...alphas.ops.map((op, column) => {
      const { colour: stroke, dash } = style(alphas, column);
      const item = text("li", "");
      item.append(svg("svg", { class: "sample", viewBox: "0 0 28 8", "aria-hidden": "true" },
        svg("line", {
          x1: 1, y1: 4, x2: 27, y2: 4, stroke, "stroke-width": 2.4,
          "stroke-dasharray": dash.join(" "),
        })), op);
      return item;
    }));
  }

  function text(tag, content, name = "") {
    const node = document.createElement(tag);
    node.textContent = content;
    if (name) node.className = name;
    return node;
  }

  // ---- when the window, the colours or the paper change -----------------------------------

  function draw() {
    drawGraph();
    drawCurves();
    drawAlphas();
  }

  draw();
  let width = window.innerWidth;
  let waiting = 0;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return; // a phone's address bar changes only the height
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(draw, 120);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  window.addEventListener("beforeprint", () => {
    document.documentElement.dataset.print = "";
    draw();
  });
  window.addEventListener("afterprint", () => {
    delete document.documentElement.dataset.print;
    draw();
  });
})();
