"""A chat room over WebSockets, with the page to open in a browser.

uv run homeport serve examples/websocket_chat.py
"""

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse

import homeport

app = homeport.App("chat")
web = FastAPI()
room: set[WebSocket] = set()

PAGE = """<!doctype html>
<title>Chat</title>
<style>
  body { font: 16px/1.5 system-ui; max-width: 36rem; margin: 3rem auto; padding: 0 1rem }
  ul { list-style: none; padding: 0 } li { padding: .2rem 0; border-bottom: 1px solid #eee }
  input { font: inherit; width: 100%; padding: .5rem; box-sizing: border-box }
</style>
<h1>Chat</h1>
<p id=state>connecting…</p>
<ul id=log></ul>
<form><input placeholder="Say something, press Enter" autofocus></form>
<script>
  const scheme = location.protocol === "https:" ? "wss:" : "ws:"
  const socket = new WebSocket(scheme + "//" + location.host + "/ws")
  const state = document.querySelector("#state"), log = document.querySelector("#log")
  socket.onopen = () => state.textContent = "connected"
  socket.onclose = () => state.textContent = "disconnected"
  socket.onmessage = message => {
    const line = document.createElement("li")
    line.textContent = message.data
    log.append(line)
  }
  document.querySelector("form").onsubmit = event => {
    event.preventDefault()
    socket.send(event.target[0].value)
    event.target.reset()
  }
</script>
"""


@web.get("/")
async def page():
    return HTMLResponse(PAGE)


@web.websocket("/ws")
async def chat(visitor: WebSocket):
    await visitor.accept()
    room.add(visitor)
    try:
        while True:
            text = await visitor.receive_text()
            for other in list(room):
                await other.send_text(text)
    except WebSocketDisconnect:
        pass
    finally:
        room.discard(visitor)


# Everyone has to be in the same container to meet, and a connection stays as long as it likes.
@app.function(max_containers=1, timeout=24 * 3600)
@homeport.concurrent(max_inputs=1000)
@homeport.asgi_app()
def chat_room():
    return web
