// As much of Markdown as model cards are written in: headings, lists, tables, paragraphs.

import { element } from "./dom.js";

const words = text => text.replace(/\*\*(.+?)\*\*/g, "$1").replace(/`(.+?)`/g, "$1").replace(/\[(.+?)\]\(.+?\)/g, "$1");
const cells = row => row.replace(/^\||\|$/g, "").split("|").map(cell => words(cell.trim()));

function block(text) {
  const lines = text.split("\n");
  if (lines[0].startsWith("#")) return [element("h3", {}, words(lines[0].replace(/^#+ /, ""))), ...rest(lines)];
  if (lines[0].startsWith("- ")) {
    const items = text.replace(/\n {2,}/g, " ").split("\n").map(line => element("li", {}, words(line.replace(/^- /, ""))));
    return [element("ul", {}, ...items)];
  }
  if (lines[0].startsWith("|")) {
    const [head, , ...body] = lines;
    const row = (line, tag) => element("tr", {}, ...cells(line).map(cell => element(tag, {}, cell)));
    return [element("table", {}, element("thead", {}, row(head, "th")), element("tbody", {}, ...body.map(line => row(line, "td"))))];
  }
  return [element("p", {}, words(lines.join(" ")))];
}

const rest = ([, ...lines]) => (lines.length ? block(lines.join("\n")) : []);

export const markdown = text => text.trim().split(/\n\s*\n/).flatMap(block);
