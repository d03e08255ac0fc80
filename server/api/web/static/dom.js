// Elements, and the numbers in them.

export const $ = id => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// 95 %, 0.2 %, <0.1 %: never 100 % or 0 % of what is only nearly so.
export function percent(fraction) {
  const p = 100 * fraction;
  if (p >= 99.95) return fraction >= 1 ? "100 %" : ">99.9 %";
  if (p >= 10) return `${p.toFixed(p > 99 ? 1 : 0)} %`;
  return p < 0.1 ? "<0.1 %" : `${p.toFixed(1)} %`;
}

export const ms = value => `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;

export const bytes = count =>
  count < 1e6 ? `${Math.ceil(count / 1e3)} kB` : `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB`;

// Where this server is, whatever a proxy has put before it.
export const base = new URL(".", location.href).href;

export function copyButton(text, what) {
  const button = element("button", {
    type: "button", className: "plain", textContent: "Copy", "aria-label": `Copy the ${what} lines`,
  });
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch { // without https a browser lets no page write there
      getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
  return button;
}
