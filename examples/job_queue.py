"""A job queue: a POST starts a job and answers at once, a GET tells how it went. Jobs outlive the server.

uv run homeport deploy examples/job_queue.py
curl -X POST 'http://you--jobs-submit.localhost:4663?text=to+be+or+not+to+be'
curl 'http://you--jobs-result.localhost:4663?job=fc-…'
"""

from collections import Counter

from fastapi import HTTPException
from fastapi.responses import JSONResponse

import homeport

app = homeport.App("jobs")


@app.function(retries=2)
def count_words(text: str) -> dict[str, int]:
    return dict(Counter(text.split()))


@app.function()
@homeport.fastapi_endpoint(method="POST")
async def submit(text: str):
    job = await count_words.spawn.aio(text)
    return {"job": job.object_id}


@app.function()
@homeport.fastapi_endpoint()
async def result(job: str):
    try:
        return await homeport.FunctionCall.from_id(job).get.aio(timeout=0)
    except TimeoutError:
        return JSONResponse({"state": "not yet"}, status_code=202)
    except homeport.exception.NotFoundError:
        raise HTTPException(404, "there is no such job") from None
