// Small charts of what the server has done in the last minute, from its counts a second apart.

import { element, ms } from "./dom.js";
import { get } from "./server.js";

const SECONDS = 60, WIDTH = 100, HEIGHT = 30, SVG = "http://www.w3.org/2000/svg";

class Chart {
  constructor(title, text, lines = 1) {
    Object.assign(this, { text, rows: [] });
    this.value = element("output", {}, "–");
    this.words = element("p");
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("aria-hidden", "true");
    this.paths = Array.from({ length: lines }, (_, i) => {
      const path = document.createElementNS(SVG, "path");
      if (i) path.setAttribute("class", "second");
      this.svg.append(path);
      return path;
    });
    this.root = element("section", { className: "chart" }, element("h3", {}, title), this.value, this.svg, this.words);
  }

  // A number for each line; null where there is none, as no request was answered.
  add(values, words = "") {
    this.rows = [...this.rows.slice(1 - SECONDS), values];
    this.value.textContent = values[0] === null ? "–" : this.text(values[0]);
    this.words.textContent = words;
    const top = Math.max(...this.rows.flat(), 1e-9);
    this.paths.forEach((path, i) => path.setAttribute("d", line(this.rows.map(row => row[i]), top)));
  }
}

function line(values, top) {
  let pen = "M";
  return values.map((value, i) => {
    if (value === null) {
      pen = "M";
      return "";
    }
    const x = WIDTH - (values.length - 1 - i) * WIDTH / (SECONDS - 1);
    const point = `${pen}${x.toFixed(2)} ${(HEIGHT - 1 - (HEIGHT - 2) * value / top).toFixed(2)}`;
    pen = "L";
    return point;
  }).join("");
}

const round = value => (value < 10 ? value.toFixed(1) : value.toFixed(0));

const charts = {
  photos: new Chart("Photos a second", round),
  latency: new Chart("Half of the requests within", ms, 2),
  batch: new Chart("Photos in a batch", round),
  inside: new Chart("Requests under way", value => String(value)),
};

// The time within which that part of the requests was answered.
function quantile(steps, part) {
  const total = steps.reduce((sum, step) => sum + step.requests, 0);
  let seen = 0;
  for (const step of steps) {
    seen += step.requests;
    if (total && seen >= part * total) return step.up_to_ms;
  }
  return null;
}

function difference(now, before) {
  const old = new Map(before.latencies.map(step => [step.up_to_ms, step.requests]));
  const steps = now.latencies.map(step => ({ ...step, requests: step.requests - (old.get(step.up_to_ms) ?? 0) }));
  const runs = Object.entries(now.runs).map(([size, count]) => [Number(size), count - (before.runs[size] ?? 0)]);
  return { steps, batches: runs.reduce((n, [, count]) => n + count, 0), rows: runs.reduce((n, [size, count]) => n + size * count, 0) };
}

function draw(now, before, seconds) {
  const { steps, batches, rows } = difference(now, before);
  charts.photos.add([(now.photos - before.photos) / seconds], `${now.photos.toLocaleString("en")} since the start`);
  const slow = quantile(steps, 0.99);
  charts.latency.add([quantile(steps, 0.5), slow], slow === null ? "" : `99 of 100 within ${ms(slow)}`);
  charts.batch.add([batches ? rows / batches : null], batches ? `${round(batches / seconds)} batches a second` : "");
  const failed = now.failed - before.failed;
  charts.inside.add([now.in_flight], failed ? `${failed} refused or failed` : "");
}

export function live(model, place) {
  place.append(...Object.values(charts).map(chart => chart.root));
  let before, at;
  const turn = async () => {
    if (!document.hidden) {
      try {
        const now = await get(`v1/models/${model.name}/live?version=${model.version}`);
        const then = performance.now();
        if (before && now.photos >= before.photos) draw(now, before, (then - at) / 1000);
        [before, at] = [now, then];
      } catch {
        before = undefined; // it stops, or starts again
      }
    }
    setTimeout(turn, 1000);
  };
  turn();
}
