/* What every page does: menus, theme, ages that count, live regions, answers that are no page. */
(() => {
  "use strict";
  const root = document.documentElement;
  const language = root.lang || "en";
  const clockOffsetMs = Number(root.dataset.nowMs || Date.now()) - Date.now();

  /* The browser's time zone, for the server to write times in. Finding it out takes tens of
     milliseconds, so it waits for the first paint: what a frame's callback puts off comes after it. */
  const tellZone = () => {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (zone) document.cookie = `relay_zone=${encodeURIComponent(zone)}; path=/; secure; samesite=strict; max-age=31536000`;
  };
  requestAnimationFrame(() => setTimeout(tellZone));

  /* Menus close by Escape and by a click elsewhere; the sidebar of a phone too. */
  const sidebar = document.getElementById("sidebar");
  const toggle = document.querySelector(".menu-toggle");
  const setSidebar = (isOpen) => {
    sidebar?.classList.toggle("is-open", isOpen);
    toggle?.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) sidebar.querySelector("a").focus();
  };
  toggle?.addEventListener("click", (event) => {
    event.stopPropagation();
    setSidebar(!sidebar.classList.contains("is-open"));
  });
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
    if (sidebar && !sidebar.contains(event.target)) setSidebar(false);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.querySelector("details.menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
    if (sidebar?.classList.contains("is-open")) {
      setSidebar(false);
      toggle.focus();
    }
  });

  /* The theme changes in place, so that nothing typed is lost. */
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("form[data-theme-form]")) return;
    event.preventDefault();
    const chosen = event.submitter.value;
    const answer = await fetch(form.action, {
      method: "POST",
      headers: { "HX-Request": "true" },
      body: new URLSearchParams(new FormData(form, event.submitter)),
    });
    if (!answer.ok) return toast(await answer.text(), "bad");
    if (chosen === "auto") delete root.dataset.bsTheme;
    else root.dataset.bsTheme = chosen;
    for (const button of form.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.value === chosen));
    }
    document.dispatchEvent(new Event("relay:theme"));
  });

  /* A form that asks first: <form data-confirm="...">. */
  document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
    if (question && !window.confirm(question)) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  }, true);

  /* A file is read into the text field that it stands for. */
  document.addEventListener("change", async (event) => {
    const field = event.target.dataset?.fillsField;
    if (field && event.target.files.length && !event.target.form?.dataset.fileAction) {
      document.getElementById(field).value = await event.target.files[0].text();
    }
  });

  /* A form that sends a chosen file as it is, however long: <form data-file-action="...">. Its other
     fields are the query, and the answer takes the place of the element #change. */
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("button");
    const form = button?.form;
    const file = form?.dataset.fileAction && form.querySelector("input[type=file]").files[0];
    if (!file) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const query = new URLSearchParams(new FormData(form));
    const token = query.get("csrf_token");
    for (const name of ["csrf_token", "text"]) query.delete(name);
    button.disabled = true;
    try {
      const answer = await fetch(`${form.dataset.fileAction}${button.dataset.fileTail ?? ""}?${query}`, {
        method: "POST",
        headers: { "HX-Request": "true", "HX-Request-Type": "partial", "X-CSRF-Token": token },
        body: file,
      });
      const next = answer.headers.get("HX-Redirect");
      if (next) location.assign(next);
      else if (answer.headers.get("Content-Type").startsWith("text/html")) {
        document.getElementById("change").outerHTML = await answer.text();
      } else toast(await answer.text(), "bad");
    } catch {
      toast(document.body.dataset.unreachable, "bad");
    }
    button.disabled = false;
  }, true);

  /* Ages: <time data-age datetime="...">, within SVG a tspan; the server wrote the first one. */
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const writers = {};
  const writerOf = (unit) => writers[unit] ??= new Intl.NumberFormat(
    language, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 0 },
  );
  const writeAges = () => {
    const nowMs = Date.now() + clockOffsetMs;
    for (const element of document.querySelectorAll("[data-age]")) {
      const ageS = Math.max(0, (nowMs - Date.parse(element.getAttribute("datetime"))) / 1000);
      const [unit, lengthS] = UNITS.find(([, length]) => ageS >= length) ?? UNITS.at(-1);
      const text = writerOf(unit).format(Math.floor(ageS / lengthS));
      if (element.textContent !== text) element.textContent = text;
    }
  };
  setInterval(writeAges, 1000);
  document.addEventListener("htmx:after:swap", writeAges);

  /* Notices that come with an answer to HTMX, and refusals, which are text and never swapped in. */
  const toast = (text, tone) => {
    const region = document.getElementById("toasts");
    const notice = document.createElement("div");
    const words = document.createElement("p");
    notice.className = `notice tone-${tone}`;
    notice.setAttribute("role", tone === "bad" ? "alert" : "status");
    words.textContent = text;
    notice.append(words);
    region.replaceChildren(notice);
    if (tone !== "bad") setTimeout(() => notice.remove(), 8000);
  };
  document.addEventListener("relay:notice", (event) => toast(event.detail.text, event.detail.tone));
  document.addEventListener("htmx:response:error", (event) => {
    const { response, text } = event.detail.ctx;
    if (response.status !== 422) toast(text, "bad");
  });
  document.addEventListener("htmx:error", (event) => {
    if (event.detail.ctx) toast(document.body.dataset.unreachable, "bad");
  });

  /* A button that copies the text of an element: <button data-copies="id" data-copied="Copied.">. */
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("button[data-copies]");
    if (!button) return;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).textContent);
    toast(button.dataset.copied, "good");
  });

  /* Live regions say when what they show may be old. */
  const live = (event) => event.target.closest?.("[data-live-state]");
  document.addEventListener("htmx:sse:after:connection", (event) => {
    live(event)?.setAttribute("data-live-state", "connected");
  });
  document.addEventListener("htmx:sse:error", (event) => {
    if (event.detail.status === 401) location.reload();
    else live(event)?.setAttribute("data-live-state", "lost");
  });
})();
