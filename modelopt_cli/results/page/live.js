// A served page asks for what is new while its run goes on (modelopt watch RUN --serve). What the reader has open stays.
(() => {
  "use strict";
  const EVERY = 2000; // milliseconds
  const badge = document.getElementById("status");
  let version = null;
  const kinds = () => [...document.querySelectorAll("[data-chart]")].map((each) => each.dataset.chart).sort().join();
  const say = (status) => {
    if (!badge) return;
    badge.textContent = status;
    badge.className = `badge ${status}`;
  };
  const ended = (status) => {
    say(status);
    const note = document.createElement("p");
    const again = document.createElement("a");
    again.href = "/";
    again.textContent = "show its report";
    note.className = "when";
    note.append("The run has ended: ", again);
    badge?.closest("header")?.querySelector(".wrap")?.append(note);
  };
  const look = async () => {
    let fresh;
    try {
      const answer = await fetch("/data.json", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      fresh = await answer.json();
    } catch {
      say("not connected");
      return setTimeout(look, EVERY);
    }
    if (fresh.version !== version) {
      const drawn = Object.keys(fresh.data.charts ?? {}).sort().join();
      if (version !== null && drawn !== kinds() && fresh.status === "running") return location.reload(); // there is more to draw
      if (version !== null) await window.modelopt.update(fresh.data);
      version = fresh.version;
    }
    if (fresh.status !== "running") return ended(fresh.status);
    say("running");
    setTimeout(look, EVERY);
  };
  look();
})();
