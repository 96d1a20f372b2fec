"use strict";
// The page of Tidegate: fetches the part that changes from the server whenever something happened, counts down between,
// and gives orders after they were confirmed. It knows nothing of rollouts; words and pictures are the server's.
(() => {
  // Several events of one moment are one look.
  const DEBOUNCE_MS = 150;
  // Between two looks: under many events the page stays within a second and the server within two answers of one.
  const PAUSE_MS = 350;
  // Things that make no event (freezes, starts that wait) are seen this late at most, and so is a connection that hangs.
  const ANYWAY_MS = 10000;
  // An answer takes milliseconds; one that takes so long is lost.
  const PATIENCE_MS = 8000;
  // Waits between two tries to listen again.
  const RETRY_MS = [500, 1000, 2000, 4000];

  const $ = (id) => document.getElementById(id);
  const live = $("live");

  // === renewing ===

  // Makes `from` like `to` and touches nothing that is the same, so that focus, selection and screen readers stay put.
  function morph(from, to) {
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
      return;
    }
    for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
    for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    morphChildren(from, to);
  }

  function morphChildren(from, to) {
    const named = new Map([...from.children].filter((child) => child.id).map((child) => [child.id, child]));
    let at = from.firstChild;
    for (const wanted of [...to.childNodes]) {
      let found = wanted.id ? named.get(wanted.id) : at;
      if (found && (found.nodeName !== wanted.nodeName || (found.id || "") !== (wanted.id || ""))) found = null;
      if (found) {
        if (found === at) at = at.nextSibling;
        else from.insertBefore(found, at);
        morph(found, wanted);
      } else {
        from.insertBefore(document.importNode(wanted, true), at);
      }
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  let clockAheadMs = 0;

  function show(html) {
    const parsed = new DOMParser().parseFromString(`<main>${html}</main>`, "text/html");
    morphChildren(live, parsed.body.firstChild);
    readClock();
    tick();
  }

  function readClock() {
    const state = $("state");
    if (state) clockAheadMs = Number(state.dataset.nowMs) - Date.now();
  }

  let timer = null;
  let isBusy = false;
  let isAsked = false;
  let endedAt = -Infinity;

  function soon() {
    isAsked = true;
    if (isBusy || timer !== null) return;
    timer = setTimeout(renew, Math.max(DEBOUNCE_MS, endedAt + PAUSE_MS - performance.now()));
  }

  async function renew() {
    timer = null;
    isBusy = true;
    isAsked = false;
    try {
      const answer = await fetch(live.dataset.live, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (answer.status === 401) {
        location.assign("/sign-in?to=" + encodeURIComponent(location.pathname));
        return;
      }
      if (answer.status === 404) {
        // A start that has come to nothing: the page says why.
        location.reload();
        return;
      }
      if (!answer.ok) throw new Error(`answer ${answer.status}`);
      show(await answer.text());
      if (isListening()) tell("live", "Live");
    } catch {
      tell("lost", "Connection lost, reconnecting");
      setTimeout(soon, RETRY_MS[2]);
    } finally {
      isBusy = false;
      endedAt = performance.now();
      if (isAsked) soon();
    }
  }

  // === listening ===

  let events = null;
  let tries = 0;
  let retry = null;

  const isListening = () => events !== null && events.readyState === EventSource.OPEN;

  function tell(state, text) {
    if ($("link").dataset.state === state) return;
    $("link").dataset.state = state;
    $("link-text").textContent = text;
  }

  function listen() {
    clearTimeout(retry);
    if (events) events.close();
    events = new EventSource(live.dataset.events);
    events.onopen = () => {
      tries = 0;
      soon();
    };
    events.addEventListener("rollout", soon);
    events.onerror = () => {
      // Its own retries end with the first answer that is no stream, such as that of a daemon which is starting.
      events.close();
      tell("lost", "Connection lost, reconnecting");
      retry = setTimeout(listen, RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]);
      tries += 1;
    };
  }

  function rest() {
    clearTimeout(retry);
    if (events) events.close();
    events = null;
  }

  // === countdowns ===

  function spanOf(leftMs) {
    const seconds = Math.ceil(Math.max(0, leftMs) / 1000);
    const two = (number) => String(number).padStart(2, "0");
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    if (hours > 0) return `${hours} h ${two(minutes)} min`;
    return minutes > 0 ? `${minutes} min ${two(seconds % 60)} s` : `${seconds} s`;
  }

  function tick() {
    const nowMs = Date.now() + clockAheadMs;
    for (const left of live.querySelectorAll("[data-until-ms]")) {
      const text = spanOf(Number(left.dataset.untilMs) - nowMs);
      if (left.textContent !== text) left.textContent = text;
    }
  }

  // === orders ===

  let order = null;

  function ask(button) {
    const { verb, address, title, says, yes, reason, full, people, step } = button.dataset;
    order = { verb, address, step };
    $("ask-title").textContent = title;
    $("ask-says").textContent = says;
    $("ask-yes").textContent = yes;
    $("ask-yes").className = button.classList.contains("danger") ? "danger" : "go";
    $("ask-reason-field").hidden = reason === "none";
    $("ask-reason").required = reason === "required";
    $("ask-reason-label").textContent = reason === "required" ? "Reason" : "Reason (optional)";
    $("ask-reason").value = "";
    $("ask-full-field").hidden = full !== "true";
    $("ask-full").checked = false;
    const names = people ? people.split("\n") : [];
    $("ask-person-field").hidden = names.length === 0;
    $("ask-person").replaceChildren(...names.map((name) => new Option(name, name)));
    problem("");
    $("ask-yes").disabled = false;
    $("ask").showModal();
  }

  function problem(text) {
    $("ask-problem").textContent = text;
    $("ask-problem").hidden = text === "";
  }

  function body() {
    const wanted = {};
    const reason = $("ask-reason").value.trim();
    if (!$("ask-reason-field").hidden && reason) wanted.reason = reason;
    if (!$("ask-full-field").hidden && $("ask-full").checked) wanted.full = true;
    if (!$("ask-person-field").hidden) wanted.person = $("ask-person").value;
    if (order.step) wanted.step = Number(order.step);
    return JSON.stringify(wanted);
  }

  async function give() {
    $("ask-yes").disabled = true;
    problem("");
    try {
      const answer = await fetch(order.address, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: body(),
        signal: AbortSignal.timeout(2 * PATIENCE_MS),
      });
      if (answer.ok) {
        $("ask").close();
        soon();
        return;
      }
      const why = await answer.json().catch(() => ({}));
      problem([why.detail || `The daemon answered ${answer.status}.`, why.hint].filter(Boolean).join(" Hint: "));
    } catch {
      problem("No answer. Look at how it stands before you try again.");
    } finally {
      $("ask-yes").disabled = false;
    }
  }

  // === beginning ===

  if (live.dataset.live) {
    readClock();
    tick();
    setInterval(tick, 1000);
    setInterval(() => { if (!document.hidden) soon(); }, ANYWAY_MS);
    live.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-verb]");
      if (button) ask(button);
    });
    $("ask-no").addEventListener("click", () => $("ask").close());
    $("ask-form").addEventListener("submit", (event) => {
      event.preventDefault();
      give();
    });
    // A page that nobody sees holds no connection: browsers have six for a host.
    document.addEventListener("visibilitychange", () => (document.hidden ? rest() : listen()));
    if (!document.hidden) listen();
  } else if (live.dataset.again) {
    // A link on another site is followed without the cookie; from here it is sent, and the server goes on by itself.
    location.replace(live.dataset.again);
  }
})();
