// Requests to Banyan's API. The token is kept in sessionStorage alone: it ends with the tab.
const key = "banyan-token";

export const token = {
  get: () => sessionStorage.getItem(key) ?? "",
  set: (text) => sessionStorage.setItem(key, text),
  clear: () => sessionStorage.removeItem(key),
};

/** An answer other than 2xx, or none at all (status 0); `problem` is its RFC 9457 body. */
export class ApiError extends Error {
  constructor(status, problem) {
    super(explain(status, problem));
    this.status = status;
    this.problem = problem;
    this.type = String(problem.type ?? "").split(/[/:]/).pop();
  }
}

function explain(status, problem) {
  const text = [problem.title, problem.detail].filter(Boolean).join(" ");
  if (status === 0) return `Banyan does not answer: ${problem.detail}.`;
  if (status === 401) return `The token was not accepted. ${text}`;
  if (status === 403) return `Not allowed. ${text}`;
  return text || `Banyan answered ${status}.`;
}

export function authorization() {
  return token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
}

async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", credentials: "omit", redirect: "error",
      signal: AbortSignal.timeout(60_000), ...options, headers: { ...authorization(), ...options.headers } });
  } catch (error) {
    throw new ApiError(0, { detail: error.message });
  }
  if (!answer.ok) throw new ApiError(answer.status, await problemOf(answer));
  return answer;
}

export async function problemOf(answer) {
  try {
    return await answer.json();
  } catch {
    return { title: answer.statusText };
  }
}

export const get = async (path) => (await request(`/api/v1${path}`)).json();
export const text = async (path) => (await request(path)).text();

export async function send(method, path, body = {}) {
  return (await request(`/api/v1${path}`, { method, body: JSON.stringify(body),
    headers: { "Content-Type": "application/json" } })).json();
}

/** What this token may do: "viewer", "operator" or "admin". */
export async function role() {
  return (await get("/identity")).role;
}

export const ranks = { viewer: 0, operator: 1, admin: 2 };
