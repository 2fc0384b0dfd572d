"""The scikit-learn class of `cold.py` as a FastAPI app; what it takes longer is in the environment."""

import os
import pickle
import time
from contextlib import asynccontextmanager

import sklearn.linear_model  # noqa: F401 - unpickling needs it
from fastapi import FastAPI, Request


@asynccontextmanager
async def lifespan(_web: FastAPI):
    time.sleep(float(os.environ["WARM_UP_S"]))
    with open(os.environ["MODEL"], "rb") as file:
        yield {"model": pickle.load(file)}


web = FastAPI(lifespan=lifespan)


@web.get("/")
def answer(request: Request, x: float = 1.0):
    return {"answer": float(request.state.model.predict([[x] * 4])[0])}
