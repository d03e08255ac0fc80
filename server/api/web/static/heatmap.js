// Where the network looked: a grid of 0 to 1 over the crop, with a slider for how much of it.

import { element } from "./dom.js";

export function heatmap(figure, { grid, label, class: of, method }) {
  const rows = grid.length, columns = grid[0].length;
  const small = element("canvas", { width: columns, height: rows });
  const pixels = new ImageData(columns, rows);
  grid.flat().forEach((value, i) => pixels.data.set([255, 90, 30, 230 * value], 4 * i));
  small.getContext("2d").putImageData(pixels, 0, 0);
  const image = figure.querySelector("img");
  const canvas = element("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("aria-hidden", "true");
  const slider = element("input", { type: "range", min: 0, max: 100, value: 70 });
  const words = `Where it sees ${label ?? of?.label ?? "the first class"} (${method})`;
  slider.setAttribute("aria-label", `${words}: how strongly it is drawn`);
  slider.oninput = () => { canvas.style.opacity = slider.value / 100; };
  slider.oninput();
  figure.firstChild.append(canvas);
  figure.append(element("figcaption", {}, words), slider);
}
