"""A class that loads a model once per container and answers POSTs.

    uv run --with scikit-learn homeport serve examples/classifier.py
    curl -X POST http://127.0.0.1:4664 -H 'content-type: application/json' \
         -d '{"measurements": [[5.1, 3.5, 1.4, 0.2]]}'
"""

from fastapi import HTTPException
from pydantic import BaseModel

import homeport

image = homeport.Image.debian_slim().pip_install("scikit-learn", "fastapi[standard]")
app = homeport.App("classifier", image=image)


class Flowers(BaseModel):
    measurements: list[list[float]]  # sepal length and width, petal length and width, in cm


@app.cls()
@homeport.concurrent(max_inputs=10)
class Iris:
    @homeport.enter()
    def load(self):
        from sklearn.datasets import load_iris
        from sklearn.linear_model import LogisticRegression

        data = load_iris()
        self.names = list(data.target_names)
        self.model = LogisticRegression(max_iter=1000).fit(data.data, data.target)

    @homeport.fastapi_endpoint(method="POST")
    def classify(self, flowers: Flowers):
        if any(len(row) != 4 for row in flowers.measurements):
            raise HTTPException(422, "each flower has four measurements")
        kinds = self.model.predict(flowers.measurements)
        return {"kinds": [str(self.names[kind]) for kind in kinds]}
