// The network that is served: what it is made of, and what it costs.

import { live } from "./charts.js";
import { $, bytes, element, ms, percent } from "./dom.js";
import { whenGiven } from "./key.js";
import { markdown } from "./markdown.js";
import { get } from "./server.js";

const times = "\u202f×\u202f";
const count = number => number.toLocaleString("en");
const millions = number => `${(number / 1e6).toFixed(number < 1e7 ? 1 : 0)} M`;

function table(titles, rows, foot) {
  const row = (cells, tag) => element("tr", {}, ...cells.map((cell, i) => {
    const made = element(tag, { className: i && titles[i][1] ? "number" : "" });
    made.append(cell);
    return made;
  }));
  const parts = [element("thead", {}, row(titles.map(([title]) => title), "th")),
    element("tbody", {}, ...rows.map(cells => row(cells, "td")))];
  if (foot) parts.push(element("tfoot", {}, row(foot, "td")));
  return element("table", {}, ...parts);
}

function layers({ layers, rest_ms }) {
  const timed = layers.some(layer => layer.ms !== null);
  const most = Math.max(...layers.map(layer => layer.ms ?? 0), 1e-9);
  const titles = [["Layer"], ["Weights", true], ["Output", true], ["Parameters", true], ["Zeros", true], ["Products", true]];
  if (timed) titles.push(["Time", true], [""]);
  const rows = layers.map(layer => {
    const cells = [layer.name, layer.weights.join(times), layer.output.join(times), count(layer.parameters),
      percent(layer.zeros), millions(layer.macs)];
    if (timed) {
      const bar = element("div", { className: "bar" });
      bar.style.width = `${100 * (layer.ms ?? 0) / most}%`;
      cells.push(layer.ms === null ? "–" : ms(layer.ms), bar);
    }
    return cells;
  });
  const sum = name => layers.reduce((total, layer) => total + (layer[name] ?? 0), 0);
  const foot = ["All", "", "", count(sum("parameters")), "", millions(sum("macs"))];
  if (timed) foot.push(ms(sum("ms") + rest_ms), `${ms(rest_ms)} between the layers`);
  const made = table(titles, rows, foot);
  if (timed) made.querySelectorAll("td:last-child").forEach(cell => { cell.className = "times"; });
  return made;
}

function files({ artifacts, model }) {
  // Five guesses among five classes are always right.
  const scores = [["Top-1", "top1"], ["Top-5", "top5"]].slice(0, model.classes > 5 ? 2 : 1);
  const titles = [["File"], ["Served"], ["Size", true], ...scores.map(([title]) => [title, true]), ["Measured on"],
    ["Agrees with training", true]];
  return table(titles, artifacts.map(({ file, served, bytes: size, accuracy, agreement }) => [
    file, served ? "yes" : "no", bytes(size), ...scores.map(([, name]) => accuracy ? percent(accuracy[name]) : "–"),
    accuracy ? `${count(accuracy.photos)} photos, ${accuracy.data}` : "–", percent(agreement),
  ]));
}

function filters(inside) {
  if (!inside.filters) return ["The first layer of this network does not look at colours."];
  const [{ weights: [outputs, , height, width], name }] = inside.layers;
  const image = element("img", { src: inside.filters, alt: `The ${outputs} windows of ${name}` });
  const text = `${outputs} windows of ${height}${times}${width} pixels, each drawn as the picture that it answers most to: ` +
    "edges and gratings of some direction, and blobs of colour. None was drawn by hand: they were learned.";
  return [image, element("figcaption", {}, text)];
}

async function show() {
  try {
    const { models } = await get("v1/models");
    const model = models.at(-1);
    if (!model) throw new Error("No model is served here now.");
    $("about").textContent = model.description;
    live(model, $("charts"));
    const inside = await get(`v1/models/${model.name}/inside?version=${model.version}`);
    $("filters").replaceChildren(...filters(inside));
    $("layers").append(inside.layers.length ? layers(inside) : "This graph is no chain of layers that can be told apart.");
    $("files").append(files(inside));
    $("card").append(...markdown(inside.card));
  } catch (error) {
    $("note").textContent = `${error.message} ${error.detail ?? ""}`;
    $("filters").textContent = "";
  }
}

whenGiven(() => { $("note").textContent = ""; show(); });
show();
