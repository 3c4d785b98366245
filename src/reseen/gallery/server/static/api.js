// What the page asks the server for. Every error is an Error whose message can be shown.

/** Answer of an address as JSON. */
async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("The server does not answer: is it still running?");
  }
  if (answer.status === 401 && location.pathname !== "/sign-in") {
    location.assign("/sign-in");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    throw new Error(body.detail || `The server answers ${answer.status}.`);
  }
  return body;
}

function post(address, body) {
  return ask(address, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

export const signIn = (token) => post("/api/sign-in", { token });
export const about = () => ask("/api/gallery");
export const search = (body) => post("/api/search", body);
export const refine = (body) => post("/api/refine", body);
export const makeGroups = () => post("/api/groups");
export const groups = (start) => ask(`/api/groups?start=${start}`);
export const whoIs = (naming) => post("/api/forget/preview", naming);
export const forget = (rows) => post("/api/forget", { rows });
export const thumbnail = (row) => `/api/rows/${row}/thumbnail`;

export const scene = (row) => `/api/rows/${row}/scene`;

/** Persons of a picture (a Blob); boxes are arrays of four numbers. */
export function find(picture, boxes = []) {
  const words = boxes.map((box) => `box=${box.map((side) => Math.round(side)).join(",")}`);
  const headers = { "content-type": "application/octet-stream" };
  return ask(`/api/find?${words.join("&")}`, { method: "POST", headers, body: picture });
}

/** A job when it has ended. */
export async function finished(job) {
  for (let pause = 100; job.state === "waiting" || job.state === "running"; pause = Math.min(2 * pause, 2000)) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    job = await ask(`/api/jobs/${job.job}`);
  }
  if (job.state === "failed") {
    throw new Error(job.detail);
  }
  return job;
}

/** Address of the matches as CSV. */
export function exported(query, filters) {
  const words = new URLSearchParams({ query });
  for (const [name, value] of Object.entries(filters)) {
    [value].flat().forEach((one) => words.append(name, one));
  }
  return `/api/export.csv?${words}`;
}
