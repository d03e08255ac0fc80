// The lines that do the same without this page.

import { base } from "./dom.js";
import { asked } from "./key.js";

const quoted = name => (/^[\w.,+-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`);

const shown = () => (asked() ? '-H "Authorization: Bearer $ALEXNET_API_KEY" ' : "");

export const curl = name => `curl ${shown()}--data-binary @${quoted(name)} ${base}v1/classify`;

const request = () => (asked()
  ? `Request("${base}v1/classify", photo.read(), {
        "Authorization": f"Bearer {os.environ['ALEXNET_API_KEY']}"})`
  : `"${base}v1/classify", photo.read()`);

export const python = name => `import json
${asked() ? "import os\n" : ""}from urllib.request import ${asked() ? "Request, " : ""}urlopen

with open(${JSON.stringify(name)}, "rb") as photo:
    reply = json.load(urlopen(${request()}))
for guess in reply["predictions"]:
    print(f"{guess['probability']:6.1%}  {guess['label']}")`;
