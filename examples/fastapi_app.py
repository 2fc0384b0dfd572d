"""A whole FastAPI application: routes, validation, docs at /docs.

uv run homeport serve examples/fastapi_app.py
"""

from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

import homeport

app = homeport.App("library")


class Book(BaseModel):
    title: str = Field(min_length=1)
    year: int = Field(ge=1450, le=2100)


@asynccontextmanager
async def lifespan(_web: FastAPI):
    # What is yielded here is `request.state` of every request.
    yield {"books": {1: Book(title="A Room of One's Own", year=1929)}}


web = FastAPI(title="Library", lifespan=lifespan)


@web.get("/books/{number}")
async def read(number: int, request: Request) -> Book:
    try:
        return request.state.books[number]
    except KeyError:
        raise HTTPException(404, f"no book {number}") from None


@web.post("/books", status_code=201)
async def add(book: Book, request: Request) -> dict[str, int]:
    books = request.state.books
    number = max(books) + 1
    books[number] = book
    return {"number": number}


# One container answers up to 100 requests at once, as an async app can.
@app.function(max_containers=1)
@homeport.concurrent(max_inputs=100)
@homeport.asgi_app()
def library():
    return web
