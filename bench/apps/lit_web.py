"""The same answer on LitServe, which serves a `predict` and no ASGI app. The port is argument 1."""

import sys

import litserve


class Hello(litserve.LitAPI):
    def setup(self, device):
        pass

    def predict(self, request):
        return {"message": f"Hello, {request.get('name', 'World')}!"}


if __name__ == "__main__":
    # `fast_queue` is what LitServe has for many requests; it was a tenth faster here
    server = litserve.LitServer(
        Hello(api_path="/"), accelerator="cpu", workers_per_device=1, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
