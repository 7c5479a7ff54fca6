// What the page knows, kept fresh. /events tells the status and, by resource, a text that changes with
// it; a resource that is shown is fetched again when its text changes. Without that route the status is
// polled, and what is shown with it.
import { useEffect, useReducer } from "./vendor/preact-hooks.js";
import { ApiError, authorization, get, problemOf } from "./api.js";

const poll_ms = 2000;
const silence_ms = 25_000;  // a keep-alive comes every 10 s
const longest_back_off_ms = 15_000;

export const live = {
  status: null,
  revisions: {},
  mode: "connecting",  // "live", "polling", "stale"
  heard_unix_ms: null,
  error: null,
  refused: null,  // an ApiError 401 or 403: the token is not good enough to look
};
const listeners = new Set();
let stop = null;

export function changed() {
  for (const listener of [...listeners]) listener();
}

/** Draws the component again whenever something has changed. */
export function useLive() {
  const [, again] = useReducer((n) => n + 1, 0);
  useEffect(() => {
    listeners.add(again);
    return () => listeners.delete(again);
  }, []);
  return live;
}

export function start() {
  stop?.();
  Object.assign(live, { status: null, revisions: {}, mode: "connecting", error: null, refused: null, heard_unix_ms: null });
  const control = new AbortController();
  stop = () => control.abort();
  run(control.signal);
}

export function end() {
  stop?.();
  stop = null;
  resources.clear();
}

function heard(state, mode) {
  live.status = state.status;
  live.revisions = state.revisions ?? {};
  live.mode = mode;
  live.heard_unix_ms = Date.now();
  live.error = null;
  for (const resource of resources.values()) resource.check(mode === "polling");
  changed();
}

function lost(error) {
  live.mode = live.status ? "stale" : "connecting";
  live.error = error.message;
  if (error instanceof ApiError && (error.status === 401 || error.status === 403)) live.refused = error;
  changed();
}

const pause = (ms, signal) => new Promise((done) => {
  const timer = setTimeout(done, ms);
  signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
});

async function run(signal) {
  let streams = true;
  let failures = 0;
  while (!signal.aborted && !live.refused) {
    try {
      if (streams) {
        await stream(signal, () => { failures = 0; });
        throw new Error("the stream of events ended");
      }
      heard({ status: await get("/status") }, "polling");
      failures = 0;
      await pause(poll_ms, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (streams && error.status === 404) {
        streams = false;
        continue;
      }
      lost(error);
      await pause(Math.min(longest_back_off_ms, 500 * 2 ** failures++) * (0.8 + 0.4 * Math.random()), signal);
    }
  }
}

async function stream(signal, arrived) {
  const control = new AbortController();
  const abort = () => control.abort();
  signal.addEventListener("abort", abort);
  let timer = setTimeout(abort, silence_ms);
  try {
    const answer = await fetch("/api/v1/events", { cache: "no-store", credentials: "omit", signal: control.signal,
      headers: { ...authorization(), Accept: "text/event-stream" } });
    if (!answer.ok) throw new ApiError(answer.status, await problemOf(answer));
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const parse = eventParser((name, data) => {
      if (name !== "state") return;
      arrived();
      heard(JSON.parse(data), "live");
    });
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(abort, silence_ms);
      live.heard_unix_ms = Date.now();
      parse(value);
    }
  } catch (error) {
    throw error.name === "AbortError" ? new Error("no sign of life from Banyan") : error;
  } finally {
    clearTimeout(timer);
    control.abort();
    signal.removeEventListener("abort", abort);
  }
}

/** Takes text in pieces; tells each event's name and data. Comments and other fields are skipped. */
export function eventParser(tell) {
  let rest = "";
  let name = "message";
  let data = [];
  return (piece) => {
    const lines = (rest + piece).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length) tell(name, data.join("\n"));
        name = "message";
        data = [];
      } else if (line.startsWith("event:")) {
        name = line.slice(6).trimStart();
      } else if (line.startsWith("data:")) {
        data.push(line.slice(5).replace(/^ /, ""));
      }
    }
  };
}

// --- resources ---

const resources = new Map();

class Resource {
  constructor(path, revision) {
    Object.assign(this, { path, revision, data: null, error: null, users: 0, seen: undefined, busy: false, again: false });
  }

  check(always) {
    if (this.users === 0) return;
    const now = this.revision ? live.revisions[this.revision] : "";
    if (always || now !== this.seen) {
      this.seen = now;
      this.fetch();
    }
  }

  async fetch() {
    if (this.busy) {
      this.again = true;
      return;
    }
    this.busy = true;
    try {
      this.data = await get(this.path);
      this.error = null;
    } catch (error) {
      this.error = error;
    }
    this.busy = false;
    changed();
    if (this.again) {
      this.again = false;
      this.fetch();
    }
  }
}

/** {data, error, refresh} of a path of the API, kept fresh by the revision of that name, or by time. */
export function useResource(path, revision = null, every_ms = 0) {
  useLive();
  let resource = resources.get(path);
  if (!resource) resources.set(path, (resource = new Resource(path, revision)));
  useEffect(() => {
    resource.users += 1;
    resource.seen = revision ? live.revisions[revision] : "";
    resource.fetch();
    const timer = every_ms ? setInterval(() => document.hidden || resource.fetch(), every_ms) : 0;
    return () => {
      resource.users -= 1;
      clearInterval(timer);
      if (resource.users === 0 && resources.get(path) === resource) resources.delete(path);
    };
  }, [path]);
  return { data: resource.data, error: resource.error, refresh: () => resource.fetch() };
}

/** Now, and again every second: for ages and deadlines. */
export function useClock() {
  const [, again] = useReducer((n) => n + 1, 0);
  useEffect(() => {
    const timer = setInterval(again, 1000);
    return () => clearInterval(timer);
  }, []);
  return Date.now();
}
