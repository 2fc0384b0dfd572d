"""The FastAPI app that every contender serves: hello, events, an echo, large bodies."""

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

PIECE = bytes(2**20)

web = FastAPI()


@web.get("/")
async def hello(name: str = "World"):
    return {"message": f"Hello, {name}!"}


@web.get("/events")
async def events(count: int, every_ms: float):
    """Each event is the moment at which it was made, in nanoseconds of the monotonic clock."""

    async def made() -> AsyncIterator[str]:
        for _ in range(count):
            await asyncio.sleep(every_ms / 1000)
            yield f"data: {time.monotonic_ns()}\n\n"

    return StreamingResponse(made(), media_type="text/event-stream")


@web.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


@web.post("/upload")
async def upload(request: Request):
    count = 0
    async for piece in request.stream():
        count += len(piece)
    return {"bytes": count}


@web.get("/download")
async def download(mib: int):
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(mib):
            yield PIECE

    headers = {"content-length": str(mib * len(PIECE))}
    return StreamingResponse(pieces(), headers=headers, media_type="application/octet-stream")
