// Sets the colours before the first paint.
try {
  const chosen = localStorage.getItem("session-store-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* storage is off: the system's choice holds */ }
