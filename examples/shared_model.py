"""A class with a model that three endpoints use: it is loaded once, whoever asks.

uv run homeport deploy examples/shared_model.py
curl 'http://you--library-similar.localhost:4663?text=a+ship+at+sea'
"""

import math
from collections import Counter

import homeport

app = homeport.App("library")

BOOKS = {
    "Moby-Dick": "a captain hunts a white whale with his ship at sea",
    "Robinson Crusoe": "a man lives alone on an island after his ship was lost at sea",
    "Middlemarch": "people of a small town marry and are disappointed",
    "The Time Machine": "a man travels to the far future and finds two peoples",
}


@app.cls(scaledown_window=300)
@homeport.concurrent(max_inputs=20)
class Library:
    @homeport.enter()
    def load(self):
        self.vectors = {title: self.vector(text) for title, text in BOOKS.items()}

    def vector(self, text: str) -> Counter:
        return Counter(word for word in text.lower().split() if len(word) > 2)

    def closeness(self, one: Counter, other: Counter) -> float:
        common = sum(one[word] * other[word] for word in one)
        return common / (math.hypot(*one.values()) * math.hypot(*other.values()) or 1.0)

    @homeport.method()
    def ranked(self, text: str) -> list[tuple[str, float]]:
        asked = self.vector(text)
        found = {title: self.closeness(asked, vector) for title, vector in self.vectors.items()}
        return sorted(found.items(), key=lambda item: -item[1])

    @homeport.method()
    def words(self, title: str) -> list[str]:
        return sorted(self.vectors.get(title, ()))


@app.function()
@homeport.fastapi_endpoint()
async def similar(text: str, count: int = 2):
    return (await Library().ranked.remote.aio(text))[:count]


@app.function()
@homeport.fastapi_endpoint()
async def best(text: str):
    return (await Library().ranked.remote.aio(text))[0][0]


@app.function()
@homeport.fastapi_endpoint()
async def words(title: str):
    return await Library().words.remote.aio(title)
