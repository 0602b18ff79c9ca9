// What the portal adds where there is JavaScript: copying, ages that go on, what is live. Text from
// elsewhere is only ever set as text; with the page's policy nothing else would work.

const SIGNS = {
  delivered: ["good", "✓"],
  failed: ["bad", "✕"],
  retrying: ["warn", "↻"],
  pending: ["plain", "…"],
  canceled: ["mute", "⊘"],
};
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const KEPT_ROWS = 200;

function relative(at) {
  const away = Math.floor(Math.abs(Date.now() - at) / 1000);
  const unit = UNITS.find(([seconds]) => away >= seconds);
  if (!unit) return "now";
  const text = `${Math.floor(away / unit[0])} ${unit[1]}`;
  return at < Date.now() ? `${text} ago` : `in ${text}`;
}

function age() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const text = relative(Date.parse(time.dateTime));
    if (time.textContent !== text) time.textContent = text;
  }
}

function badge(status) {
  const [kind, sign] = SIGNS[status] ?? ["plain", "•"];
  const outer = document.createElement("span");
  const inner = document.createElement("span");
  outer.className = `badge ${kind}`;
  inner.setAttribute("aria-hidden", "true");
  inner.textContent = sign;
  outer.append(inner, status);
  return outer;
}

function latency(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return `${ms.toFixed(ms < 1 ? 2 : ms < 10 ? 1 : 0)} ms`;
}

// What an attempt came to: a status, or a code, and how long it took.
function answer(cell, attempt) {
  const parts = [];
  if (attempt.status !== null) {
    const code = document.createElement("code");
    code.textContent = attempt.status;
    parts.push(code, " ");
  }
  if (attempt.error) {
    const error = document.createElement("span");
    error.textContent = attempt.error.code;
    error.title = attempt.error.cause;
    parts.push(error, " ");
  }
  const took = document.createElement("small");
  took.textContent = latency(attempt.latency_ms);
  cell.replaceChildren(...parts, took);
}

// A list of deliveries: its rows go on; what is not in it is counted.
function list(source, place) {
  const seen = new Set();
  const link = place.querySelector("a");
  link.href = location.href;
  source.addEventListener("attempt", (event) => {
    const told = JSON.parse(event.data);
    const row = document.querySelector(`tr[data-delivery="${CSS.escape(told.delivery_id)}"]`);
    if (row) {
      row.querySelector(".state").replaceChildren(badge(told.status));
      answer(row.querySelector(".answer"), told.attempt);
      row.querySelector(".number").textContent = told.attempt.number;
      return;
    }
    seen.add(told.delivery_id);
    place.querySelector("span").textContent = seen.size === 1 ? "1 more delivery" : `${seen.size} more deliveries`;
    place.hidden = false;
  });
}

// The live tail: a row for each attempt, the newest first.
function tail(source, place) {
  const rows = document.querySelector("[data-rows] tbody");
  const template = document.getElementById("attempt");
  const pause = document.querySelector("[data-pause]");
  const lag = document.querySelector("[data-lag]");
  const names = new Map([...document.querySelectorAll("#webhooks option")].map((one) => [one.value, one.textContent]));
  let count = 0;
  let held = null;
  const show = (told) => {
    const row = template.content.firstElementChild.cloneNode(true);
    const link = row.querySelector("a");
    row.querySelector(".state").append(badge(told.status));
    link.textContent = told.event_type;
    link.href = `${place.dataset.deliveries}/${encodeURIComponent(told.delivery_id)}`;
    row.querySelector(".wide").textContent = names.get(told.webhook_id) ?? told.webhook_id ?? "(forgotten)";
    answer(row.querySelector(".answer"), told.attempt);
    row.querySelector(".number").textContent = told.attempt.number;
    const time = row.querySelector("time");
    time.dateTime = told.attempt.at;
    time.title = told.attempt.at;
    time.textContent = relative(Date.parse(told.attempt.at));
    rows.prepend(row);
    while (rows.childElementCount > KEPT_ROWS) rows.lastElementChild.remove();
  };
  const say = () => {
    place.textContent = held
      ? `Paused; ${held.length} came since.`
      : `Live: ${count} ${count === 1 ? "attempt" : "attempts"} since this page was opened.`;
  };
  source.addEventListener("open", say);
  source.addEventListener("error", () => {
    place.textContent = "The connection is gone; trying again.";
  });
  source.addEventListener("attempt", (event) => {
    const told = JSON.parse(event.data);
    count += 1;
    if (held) {
      held.push(told);
      if (held.length > KEPT_ROWS) held.shift();
    } else show(told);
    say();
  });
  source.addEventListener("lagged", (event) => {
    const { missed } = JSON.parse(event.data);
    lag.textContent = `${missed ?? "Some"} attempts were left out: this page was too slow for them. They are in the deliveries.`;
    lag.hidden = false;
  });
  pause.hidden = false;
  pause.addEventListener("click", () => {
    if (held) {
      held.forEach(show);
      held = null;
    } else held = [];
    pause.textContent = held ? "Go on" : "Pause";
    say();
  });
}

for (const place of document.querySelectorAll("[data-stream]")) {
  const source = new EventSource(place.dataset.stream);
  (place.dataset.live === "tail" ? tail : list)(source, place);
  // A page that waits in the background for its way back holds no stream.
  addEventListener("pagehide", () => source.close());
}

for (const button of document.querySelectorAll("[data-copy]")) {
  const label = button.textContent;
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1500);
  });
}

for (const place of document.querySelectorAll("[data-reload]")) {
  setTimeout(() => location.reload(), Number(place.dataset.reload));
}

addEventListener("pageshow", (event) => event.persisted && location.reload());
setInterval(age, 1000);
