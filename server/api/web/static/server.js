// What the server is asked, and its refusals in words for people.

import { base, bytes } from "./dom.js";
import { headers, wanted } from "./key.js";

const MAX_BYTES = Number(document.body.dataset.maxBytes);
let explains = false;

// What can be asked of this model.
export function learn(model) {
  explains = model.explanations.includes("cam"); // it costs nothing
}

export class Refusal extends Error {
  constructor(title, detail = "", again = false, afterMs = 0) {
    super(title);
    Object.assign(this, { detail, again, afterMs });
  }
}

const TITLES = {
  unsupported_format: "This is not a photo.",
  invalid_image: "This photo cannot be read.",
  too_large: "This photo is too large.",
  overloaded: "The server is busy with other photos.",
  would_miss_deadline: "The server is too busy to answer in time.",
  expired: "The answer would have come too late.",
  not_ready: "The server is not ready: it is starting or stopping.",
  unauthenticated: "The server asks for an API key.",
  rate_limited: "This API key has used up its photos for now.",
};
const AGAIN = new Set(["overloaded", "would_miss_deadline", "expired", "not_ready", "engine", "internal",
  "unauthenticated", "rate_limited"]);

function refusal(status, body) {
  const error = body?.error;
  if (!error?.message) {
    return new Refusal("No answer that this page understands.",
      `Something between here and the server answered with status ${status}.`, true);
  }
  const title = TITLES[error.code] ?? "The server refused it.";
  const detail = `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
  return new Refusal(title, detail, AGAIN.has(error.code), error.retry_after_ms ?? 0);
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(new URL(path, base), { ...options, headers: headers() });
  } catch {
    throw new Refusal("The server does not answer.",
      "It may have stopped, or the connection to it is gone.", true);
  }
  if (response.ok) return response;
  if (response.status === 401) wanted();
  throw refusal(response.status, await response.json().catch(() => null));
}

// Whether there is a picture in it, whatever its name says.
const shown = photo => createImageBitmap(photo).then(bitmap => !bitmap.close(), () => false);

async function upload(path, photo) {
  if (photo.size > MAX_BYTES) {
    throw new Refusal("This photo is too large.",
      `It has ${bytes(photo.size)}, and the server takes ${bytes(MAX_BYTES)}.`);
  }
  if (photo.type && !photo.type.startsWith("image/") && !(await shown(photo))) {
    throw new Refusal("This is not a photo.",
      `The file is ${photo.type}. Photos are JPEG, PNG, WebP, HEIC, AVIF, GIF, TIFF or BMP.`);
  }
  try { // a folder, or a file that has changed or is gone
    await photo.slice(0, 1).arrayBuffer();
  } catch {
    throw new Refusal("This file cannot be read.", "It is a folder, or it has moved since.");
  }
  return ask(path, { method: "POST", body: photo });
}

export const classify = async photo =>
  (await upload(`v1/classify${explains ? "?explain=cam" : ""}`, photo)).json();

// Fifty looks at one photo: only where it is asked for.
export const occlusion = async photo =>
  (await (await upload("v1/classify?explain=occlusion", photo)).json()).explanation;

export const crop = async photo => (await upload("v1/classify?return=crop", photo)).blob();

export const get = async path => (await ask(path)).json();
