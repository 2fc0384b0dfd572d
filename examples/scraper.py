"""A scraper: many pages at once by `.map`, into a Volume; `homeport volume get` takes them out.

uv run homeport run examples/scraper.py --urls 'https://example.com https://example.org'
uv run homeport volume ls scraped-pages
"""

import hashlib
import urllib.request
from pathlib import Path

import homeport

app = homeport.App("scraper")
pages = homeport.Volume.from_name("scraped-pages", create_if_missing=True)


@app.function(volumes={"/pages": pages}, max_containers=10, retries=2, timeout=60)
@homeport.concurrent(max_inputs=5)
def fetch(url: str) -> dict:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is not the address of a web page")
    with urllib.request.urlopen(url, timeout=30) as answer:
        content = answer.read()
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.html"
    Path("/pages", name).write_bytes(content)
    return {"url": url, "file": name, "bytes": len(content)}


@app.local_entrypoint()
def main(urls: str):
    for page in fetch.map(urls.split(), return_exceptions=True, order_outputs=False):
        print(page if isinstance(page, dict) else f"failed: {page}")
