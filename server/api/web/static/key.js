// The API key, where the server asks for one: kept until the page is left, and nowhere else.

import { element } from "./dom.js";

let key = "", form = null;
const given = []; // what is done over when there is a key

export const headers = () => (key ? { authorization: `Bearer ${key}` } : {});
export const asked = () => key !== "";
export const whenGiven = then => given.push(then);

// Shows the field for it.
export function wanted() {
  if (form) {
    form.hidden = false;
    return;
  }
  const secret = element("input", { id: "secret", type: "password", required: true,
    pattern: " *[!-~]+ *", autocomplete: "off", spellcheck: false });
  const words = "API key, from who runs this server. It is kept until you leave this page.";
  form = element("form", { id: "key" }, element("label", { for: "secret" }, words), secret,
    element("button", { className: "first", type: "submit" }, "Use this key"));
  form.onsubmit = event => {
    event.preventDefault(); // it goes nowhere by itself
    key = secret.value.trim();
    secret.value = "";
    form.hidden = true;
    given.forEach(then => then());
  };
  document.querySelector("h1").after(form);
}
