"""Two handlers: one that does nothing, and one that needs the CPU for some milliseconds."""

from fastapi import FastAPI

web = FastAPI()


@web.get("/")
async def hello(name: str = "World") -> dict[str, str]:
    return {"message": f"Hello, {name}!"}


@web.get("/work")
def work() -> int:
    return sum(number * number for number in range(100_000))
