"""Server-sent events: words, one by one, as a language model would send them.

uv run homeport serve examples/sse_tokens.py
curl -N 'http://127.0.0.1:4664?prompt=Tell+me+about+harbours'
"""

import asyncio

from fastapi.responses import StreamingResponse

import homeport

app = homeport.App("tokens")


@app.function()
@homeport.concurrent(max_inputs=100)
@homeport.fastapi_endpoint()
async def stream(prompt: str = "Hello from home", pause: float = 0.05):
    async def events():
        for word in prompt.split():
            yield f"data: {word}\n\n"
            await asyncio.sleep(pause)
        yield "event: done\ndata: \n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
