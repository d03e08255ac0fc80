// Photos come in: chosen, dropped, pasted, taken, or ours. Each gets a card.

import { Card } from "./card.js";
import { $ } from "./dom.js";
import { whenGiven } from "./key.js";
import { get, learn } from "./server.js";

const LANES = 4; // photos under way at once: other callers want answers, too
const waiting = [];
let lanes = 0;

function take(files) {
  $("note").textContent = "";
  if (!files.length) {
    $("note").textContent = "There was no file in that. Save the photo first, then drop its file.";
    return;
  }
  const made = [...files].map(file => new Card(file, start));
  $("cards").replaceChildren(...made.map(card => card.root));
  $("cards").classList.toggle("several", made.length > 1);
  waiting.splice(0, waiting.length, ...made);
  made.forEach(run);
}

function start(card) { // once more
  waiting.push(card);
  run();
}

async function run() {
  if (lanes >= LANES) return;
  lanes++;
  for (let card; (card = waiting.shift());) {
    const said = await card.fill();
    if (card.root.isConnected) $("said").textContent = said;
  }
  lanes--;
}

$("choose").onclick = () => $("files").click();
$("camera").onclick = () => $("shot").click();
for (const id of ["files", "shot"]) {
  $(id).onchange = event => {
    if (event.target.files.length) take(event.target.files);
    event.target.value = ""; // the same photo may be chosen again
  };
}

$("sample").onclick = async () => {
  try {
    const blob = await (await fetch("web/sample.jpg")).blob();
    take([new File([blob], "sample.jpg", { type: "image/jpeg" })]);
  } catch {
    $("note").textContent = "The server does not answer.";
  }
};

let inside = 0; // dragenter and dragleave come for every element on the way
const over = change => {
  inside = change ? inside + change : 0;
  document.body.classList.toggle("over", inside > 0);
};
addEventListener("dragenter", event => { event.preventDefault(); over(1); });
addEventListener("dragleave", () => over(inside > 0 ? -1 : 0));
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => {
  event.preventDefault();
  over(0);
  take(event.dataTransfer.files);
});
addEventListener("paste", event => {
  if (event.clipboardData.files.length) take(event.clipboardData.files);
});

async function greet() {
  try {
    const { models } = await get("v1/models");
    const model = models.at(-1);
    if (model) learn(model);
    $("about").textContent = model?.description ?? "No model is served here now.";
  } catch (error) {
    $("about").textContent = error.message;
  }
}

whenGiven(greet);
greet();
