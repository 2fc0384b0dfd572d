"""A scikit-learn class and a snapshot class, which scale to zero at once.

The benchmark writes the pickled model and the warm-up's seconds into it: a container sees no other file of ours.
"""

import pickle
import time

import modal
import sklearn.linear_model  # noqa: F401 - unpickling needs it

app = modal.App("cold-classes")
MODEL = b""
WARM_UP_S = 0.5


def load():
    return pickle.loads(MODEL)


@app.cls(scaledown_window=2, max_containers=1)
class Sklearn:
    @modal.enter()
    def begin(self):
        self.model = load()

    @modal.fastapi_endpoint()
    def answer(self, x: float = 1.0):
        return {"answer": float(self.model.predict([[x] * 4])[0])}


@app.cls(scaledown_window=2, max_containers=1, enable_memory_snapshot=True)
class Snapshot:
    @modal.enter(snap=True)
    def begin(self):
        time.sleep(WARM_UP_S)  # what a large model's loading would take
        self.model = load()

    @modal.fastapi_endpoint()
    def answer(self, x: float = 1.0):
        return {"answer": float(self.model.predict([[x] * 4])[0])}
