// Starts the page: fetches the WebAssembly module that the build named in <meta name="holdfast"> and runs it.
// Lives here: what must work when nothing else does. Must not live here: anything the page itself can do.
// Invariant: a download that fails says so in words and offers to try again; it never leaves a blank page.

const words = navigator.language.toLowerCase().startsWith("zh")
  ? {
      failed: "页面未能加载。草稿和未发送的消息仍保存在本设备。",
      old: "此浏览器不支持 WebAssembly，无法运行 Holdfast。",
      reload: "重新加载",
    }
  : {
      failed: "The page could not be loaded. Drafts and unsent messages are still on this device.",
      old: "This browser has no WebAssembly, which Holdfast needs.",
      reload: "Reload",
    };

function explain(text, cause) {
  const box = document.createElement("main");
  box.setAttribute("role", "alert");
  box.className = "load-failed";
  box.dataset.testid = "load-failed";
  const line = document.createElement("p");
  line.textContent = text;
  const reload = document.createElement("button");
  reload.type = "button";
  reload.textContent = words.reload;
  reload.addEventListener("click", () => location.reload());
  box.append(line, reload);
  if (cause) {
    const detail = document.createElement("p");
    detail.textContent = String(cause);
    box.append(detail);
  }
  document.getElementById("app").replaceChildren(box);
}

const build = document.querySelector('meta[name="holdfast"]').dataset;
if (typeof WebAssembly === "undefined") {
  explain(words.old);
} else {
  let start;
  try {
    const page = await import(build.js);
    // Compiled here and started below: a failed download is ours to tell, a panic is the page's own to tell.
    const module = await WebAssembly.compileStreaming(fetch(build.wasm));
    start = () => page.default({ module_or_path: module });
  } catch (cause) {
    explain(words.failed, cause);
  }
  if (start) await start();
}
