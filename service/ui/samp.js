// Sends tables to TOPCAT, Aladin and others on this computer: the Web Profile of SAMP, https://www.ivoa.net/documents/SAMP/

const HUB = "http://127.0.0.1:21012/", TAKES = "table.load.votable";
let key = null; // under which the hub knows this page

function xml(value) {
  if (typeof value === "string") return `<value><string>${value.replace(/[&<>]/g, (char) => `&#${char.charCodeAt(0)};`)}</string></value>`;
  const members = Object.entries(value).map(([name, member]) => `<member><name>${name}</name>${xml(member)}</member>`);
  return `<value><struct>${members.join("")}</struct></value>`;
}

/** Call a method of the hub by XML-RPC; returns the members of its answer. */
async function call(method, ...values) {
  const params = values.map((value) => `<param>${xml(value)}</param>`).join("");
  const body = `<?xml version="1.0"?><methodCall><methodName>samp.webhub.${method}</methodName><params>${params}</params></methodCall>`;
  const answer = await fetch(HUB, { method: "POST", headers: { "Content-Type": "text/xml" }, body }).catch(() => {
    throw new Error("No SAMP hub answers on this computer. Start TOPCAT or Aladin first.");
  });
  const parsed = new DOMParser().parseFromString(await answer.text(), "text/xml");
  const members = [...parsed.querySelectorAll("member")].map((member) => [member.querySelector("name").textContent, member.querySelector("value").textContent.trim()]);
  const found = Object.fromEntries(members);
  if (parsed.querySelector("fault")) throw new Error(`The SAMP hub refused: ${found.faultString}`);
  return found;
}

/** Tell all programs that take tables where one is; `makeUrl` is called if there are any. */
export async function sendTable(makeUrl, name) {
  key ??= (await call("register", { "samp.name": "photoz", "samp.description.text": "redshifts of galaxies from their images" }))["samp.private-key"];
  try {
    const clients = Object.keys(await call("getSubscribedClients", key, TAKES)).length;
    if (!clients) throw new Error("No program that takes tables is connected to the SAMP hub.");
    const url = await makeUrl();
    await call("notifyAll", key, { "samp.mtype": TAKES, "samp.params": { url, "table-id": url, name } });
  } catch (error) {
    key = null; // perhaps the hub was started anew
    throw error;
  }
}
