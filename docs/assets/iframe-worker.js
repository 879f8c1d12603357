// Search where a page was opened from disk: browsers refuse workers there, so one runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.documentElement.appendChild(this.frame);
      const inside = this.frame.contentWindow;
      const page = inside.document;
      inside.postMessage = (data) => this.deliver(this, data);
      inside.importScripts = (...addresses) =>
        addresses.reduce((before, next) => before.then(() => load(page, new URL(next, address))), Promise.resolve());
      this.ready = load(page, address);
    }
    deliver(target, data) {
      const event = new MessageEvent("message", { data });
      target.dispatchEvent(event);
      if (target.onmessage) target.onmessage(event);
    }
    postMessage(data) {
      this.ready.then(() => this.deliver(this.frame.contentWindow, data));
    }
    terminate() {
      this.frame.remove();
    }
  };
  const load = (page, address) =>
    new Promise((resolve, reject) => {
      const script = page.createElement("script");
      script.src = address;
      script.onload = resolve;
      script.onerror = reject;
      page.body.appendChild(script);
    });
}
