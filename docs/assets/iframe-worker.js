// A browser starts no Worker on a page that was opened from a file, and the search runs in one.
// So on such a page a Worker is a hidden frame, which runs the same script. Elsewhere this does nothing.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      const inside = frame.contentWindow
      // To the script, the frame is a worker: what it posts arrives here.
      inside.postMessage = (data) => this.#arrive(data)
      inside.importScripts = (...urls) => urls.reduce((before, each) => before.then(() => this.#load(each)), Promise.resolve())
      this.frame = frame
      this.#load(url)
    }

    postMessage(data) {
      this.#ready.then(() => {
        this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }))
      })
    }

    terminate() {
      this.frame.remove()
    }

    #ready = Promise.resolve()

    #arrive(data) {
      const event = new MessageEvent("message", { data })
      this.dispatchEvent(event)
      if (typeof this.onmessage === "function") this.onmessage(event)
    }

    #load(url) {
      const loading = new Promise((resolve, reject) => {
        const script = this.frame.contentDocument.createElement("script")
        script.src = url
        script.onload = resolve
        script.onerror = reject
        this.frame.contentDocument.body.appendChild(script)
      })
      this.#ready = this.#ready.then(() => loading)
      return loading
    }
  }
}
