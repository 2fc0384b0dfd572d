"""An app server in Rust."""

from bench.contenders.base import Program


class Granian(Program):
    """One worker."""

    name = "Granian"
    app_server = True
    told = "`granian --interface asgi --workers 1 --loop uvloop web:web`: no access log by default"
    environment = "granian"
    packages = ["granian[uvloop]", "fastapi"]

    def argv(self, port: int) -> list[str]:
        words = [str(self.folder / "bin" / "granian"), "--interface", "asgi", "--loop", "uvloop"]
        return [*words, "--workers", "1", "--port", str(port), "--log-level", "warning", "web:web"]
