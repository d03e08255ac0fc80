// One photo and what the network says of it.

import { copyButton, element, ms, percent } from "./dom.js";
import { heatmap } from "./heatmap.js";
import { curl, python } from "./lines.js";
import { Refusal, classify, crop, get, occlusion } from "./server.js";

const STAGES = {
  upload: "upload", decode_queue: "decode queue", decode: "decode", batch_queue: "batch queue",
  infer: "inference",
};
// What everything is a kind of says nothing.
const ABOVE = new Set(["entity", "physical entity", "object", "whole", "matter", "abstraction",
  "living thing", "organism", "substance", "solid", "artifact", "instrumentality"]);

export class Card {
  constructor(photo, again) {
    Object.assign(this, { photo, again });
    this.root = element("li", { className: "card waiting" }, this.#name(), "…");
  }

  // Gives a sentence for those who hear the page.
  async fill() {
    const root = this.root;
    root.className = "card waiting";
    root.setAttribute("aria-busy", "true");
    try {
      const reply = await classify(this.photo);
      root.className = "card";
      this.#show(reply);
      this.#paths(reply);
      await this.#crop(reply);
      const [first] = reply.predictions;
      return `${this.photo.name}: ${first.label}, ${percent(first.probability)}`;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#refused(error);
      return `${this.photo.name}: ${error.message} ${error.detail}`;
    } finally {
      root.removeAttribute("aria-busy");
    }
  }

  #name() {
    return element("h3", { className: "name" }, this.photo.name);
  }

  #refused(error) {
    const parts = [element("p", { className: "words" }, error.message), element("p", {}, error.detail)];
    if (error.again) {
      const button = element("button", { type: "button", textContent: "Try again" });
      button.disabled = error.afterMs > 0;
      setTimeout(() => { button.disabled = false; }, error.afterMs);
      button.onclick = () => {
        this.root.replaceChildren(this.#name(), "…");
        this.again(this);
      };
      parts.push(button);
    }
    this.root.className = "card failed";
    this.root.replaceChildren(element("div", {}, this.#name()), element("div", {}, ...parts));
  }

  #show(reply) {
    this.pictures = element("div", { className: "pictures" });
    this.root.replaceChildren(
      element("div", {}, this.#name(), this.pictures),
      element("div", {}, this.#guesses(reply), timing(reply)),
      same(this.photo.name),
    );
    this.#original();
  }

  // Few browsers show HEIC or TIFF: then the crop stands alone, and no broken picture.
  async #original() {
    const image = element("img", { alt: `Your photo ${this.photo.name}`, src: URL.createObjectURL(this.photo) });
    try {
      await image.decode();
      this.pictures.prepend(element("figure", { className: "photo" }, image));
    } catch {
      this.hidden = true;
      this.pictures.querySelector("figcaption")?.append(" Your browser cannot show the photo itself.");
    } finally {
      URL.revokeObjectURL(image.src);
    }
  }

  async #crop(reply) {
    const image = element("img", { alt: "The part that the network saw" });
    image.src = URL.createObjectURL(await crop(this.photo));
    await image.decode();
    URL.revokeObjectURL(image.src);
    const words = `What the network saw: ${image.naturalWidth}\u00a0×\u00a0${image.naturalHeight}.`;
    const figure = element("figure", { className: "crop" }, element("div", {}, image),
      element("figcaption", {}, words));
    if (this.hidden) figure.lastChild.append(" Your browser cannot show the photo itself.");
    if (reply.explanation?.grid) heatmap(figure, reply.explanation);
    else figure.append(this.#why(figure));
    this.pictures.append(figure);
  }

  #why(figure) {
    const button = element("button", { type: "button", className: "plain small", textContent: "Show where it looks" });
    button.onclick = async () => {
      button.disabled = true;
      button.textContent = "Looking…";
      try {
        heatmap(figure, await occlusion(this.photo));
        button.remove();
      } catch (error) {
        button.disabled = false;
        button.textContent = `${error.message} Try again.`;
      }
    };
    return button;
  }

  #guesses(reply) {
    this.guesses = reply.predictions.map(guess => {
      const fill = element("div", { className: "fill" });
      fill.style.width = `${100 * guess.probability}%`;
      return element("li", { className: "guess" },
        element("span", { className: "label" }, guess.label),
        element("span", { className: "number" }, percent(guess.probability)),
        element("div", { className: "bar", "aria-hidden": "true" }, fill),
        element("div", { className: "path" }));
    });
    return element("ol", { className: "guesses" }, ...this.guesses);
  }

  async #paths(reply) {
    const { name, version } = reply.model;
    reply.predictions.forEach(async (guess, i) => {
      const place = `v1/models/${name}/classes/${guess.synset}?version=${version}`;
      const found = await get(place).catch(() => null); // an ornament: it may be missing
      const names = (found?.path ?? []).map(node => node.name).filter(each => !ABOVE.has(each));
      const path = this.guesses[i].lastChild;
      path.textContent = names.slice(-5, -1).join(" › ");
      path.title = names.join(" › ");
    });
  }
}

function timing(reply) {
  const times = reply.timing_ms, strip = element("div", { className: "strip", "aria-hidden": "true" });
  const rows = Object.entries(STAGES).map(([stage, words], i) => {
    const part = element("span", { className: `s${i}` });
    part.style.flexGrow = times[stage];
    strip.append(part);
    return element("li", {}, element("i", { className: `s${i}` }), `${words} ${ms(times[stage])}`);
  });
  const many = reply.batch_size > 1 ? `, in a batch of ${reply.batch_size}` : "";
  return element("div", { className: "timing" }, `Answered in ${ms(times.total)}${many}`, strip,
    element("ul", { className: "stages" }, ...rows));
}

function same(name) {
  const lines = Object.entries({ "A shell": curl(name), Python: python(name) }).map(([title, text]) =>
    element("div", { className: "line" }, element("h4", {}, title), copyButton(text, title),
      element("pre", { tabIndex: 0 }, text)));
  return element("details", { className: "same" }, element("summary", {}, "Do the same from a program"), ...lines);
}
