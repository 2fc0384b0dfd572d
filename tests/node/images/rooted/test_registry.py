"""Credentials for registries, and the names of images."""

import base64
import http.server
import ipaddress
import json
import re
import stat

import pytest

from homeport.contract.errors import ImageError
from homeport.node.images.rooted import download, registry
from tests import registries, web
from tests.node.images.rooted.conftest import step

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/tool:1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "very-secret"}


@pytest.fixture
def aws():
    """A server that answers as ECR does, and its requests."""
    asked: list[tuple[dict[str, str], bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            asked.append(({k.lower(): v for k, v in self.headers.items()}, body))
            good = "AKID" in self.headers["authorization"]
            token = base64.b64encode(b"AWS:the-token").decode()
            told = {"authorizationData": [{"authorizationToken": token}]}
            answer = json.dumps(told if good else {"message": "not yours"}).encode()
            self.send_response(200 if good else 400)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_args: object) -> None:
            pass

    with web.served(Handler) as server:
        yield f"http://127.0.0.1:{server.server_port}/", asked


def test_amazons_registry_gives_a_token_for_a_signed_request(aws):
    url, asked = aws
    found = registry.credentials("aws", ECR, {**KEYS, "AWS_ENDPOINT_URL_ECR": url})

    assert ("AWS", "the-token") == found
    headers, body = asked[0]
    assert b"{}" == body
    assert headers["x-amz-target"].endswith(".GetAuthorizationToken")
    signature = r"AWS4-HMAC-SHA256 Credential=AKID/\d{8}/eu-west-1/ecr/aws4_request, SignedHeaders="
    assert re.match(signature, headers["authorization"])
    assert "very-secret" not in str(headers)


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers each request with the server's text."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.text.encode())

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("form", ["file://{}", "http://127.0.0.2:{}/keys", "nonsense"])
def test_a_secrets_address_of_amazon_reads_no_file_and_no_credentials_of_this_machine(
    form, tmp_path, monkeypatch
):
    monkeypatch.setattr(download, "CREDENTIALS", (ipaddress.ip_network("127.0.0.2/32"),))
    token = base64.b64encode(b"AWS:taken").decode()
    text = json.dumps({"authorizationData": [{"authorizationToken": token}]})
    (tmp_path / "file").write_text(text)
    with web.serving(http.server.HTTPServer(("127.0.0.2", 0), Answering)) as server:
        server.text = text
        url = form.format(tmp_path / "file" if "file" in form else server.server_port)
        with pytest.raises(ImageError, match="AWS gives no token"):
            registry.credentials("aws", ECR, {**KEYS, "AWS_ENDPOINT_URL_ECR": url})


@pytest.mark.parametrize("text", ["[]", '{"authorizationData": [3]}', '{"authorizationData": {}}'])
def test_an_answer_that_has_no_token_is_an_error_of_the_image(text):
    with web.served(Answering) as server:
        server.text = text
        url = f"http://127.0.0.1:{server.server_port}/"
        with pytest.raises(ImageError, match="AWS gives no token"):
            registry.credentials("aws", ECR, {**KEYS, "AWS_ENDPOINT_URL_ECR": url})


def test_an_error_names_the_refusal_of_amazon_or_the_key_that_the_secret_lacks(aws):
    url, _ = aws
    with pytest.raises(ImageError, match="400 not yours"):
        registry.credentials(
            "aws", ECR, {**KEYS, "AWS_ACCESS_KEY_ID": "x", "AWS_ENDPOINT_URL_ECR": url}
        )
    with pytest.raises(ImageError, match="lacks `AWS_SECRET_ACCESS_KEY`"):
        registry.credentials("aws", ECR, {"AWS_ACCESS_KEY_ID": "x"})
    with pytest.raises(ImageError, match="lacks `SERVICE_ACCOUNT_JSON`"):
        registry.credentials("gcp", "europe-docker.pkg.dev/a/b:1", {})


def test_googles_registry_takes_the_service_account():
    found = registry.credentials("gcp", "x.pkg.dev/a:1", {"SERVICE_ACCOUNT_JSON": "{}"})

    assert ("_json_key", "{}") == found


def test_credentials_are_in_a_file_of_ones_own_and_on_no_command_line(tmp_path):
    path = tmp_path / "auth.json"
    registry.write_authfile(path, "ghcr.io/me/it:1", "me", "secret")

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    told = json.loads(path.read_text())["auths"]["ghcr.io"]["auth"]
    assert b"me:secret" == base64.b64decode(told)


@pytest.mark.parametrize("name", ["", "--help", "a b", "a\nb", "../x", "$(id)"])
def test_a_text_that_is_no_name_of_an_image_is_refused(name):
    with pytest.raises(ImageError, match="is not the name of an image"):
        registry.whole(name)


@pytest.mark.parametrize("what", ["layer", "config", "manifest"])
async def test_a_registry_that_gives_other_content_than_it_says_is_refused(
    house, tmp_path, system, what
):
    """Debian's registry does not look into the files that it serves, so it lies when they are changed."""
    with registries.running(tmp_path / "lying") as lying:
        layer = registries.layer({"srv/file": "true"})
        tag = lying.push("honest:1", [system, layer], Env=["PATH=/usr/bin:/bin"])
        digest = lying.pushed[-1]
        blobs = tmp_path / "lying" / "storage" / "docker" / "registry" / "v2" / "blobs" / "sha256"
        manifest = blobs / digest[7:9] / digest[7:] / "data"
        named = json.loads(manifest.read_text())
        changed = {
            "layer": named["layers"][1]["digest"],
            "config": named["config"]["digest"],
            "manifest": digest,
        }[what]
        file = blobs / changed[7:9] / changed[7:] / "data"
        if what == "layer":
            file.write_bytes(registries.layer({"srv/file": "a lie"}))
        else:
            text = file.read_text().replace("amd64", "amd46").replace("arm64", "arm46")
            file.write_text(
                text.replace(named["layers"][1]["digest"], named["layers"][0]["digest"])
            )
        reference = f"{tag.rpartition(':')[0]}@{digest}" if what == "manifest" else tag
        failure = await house.fails(step("from_registry", tag=reference))

    assert "cannot be fetched" in failure.message
    assert [] == house.half()
    assert [] == list(house.root.glob("*/files/srv/file"))


@pytest.mark.parametrize(
    "files",
    [
        {"index": []},
        {"index": {"manifests": []}},
        {"index": "[" * 100_000},
        {"config": []},
        {"config": {"config": ["PATH=/bin"]}},
        {"manifest": {"config": {"digest": "sha256:config"}, "layers": 7}},
        {"manifest": {"config": {"digest": "sha256:config"}, "layers": [{"size": 1}]}},
    ],
)
def test_files_that_describe_no_image_are_an_error_of_the_image(files, tmp_path):
    good = {
        "index": {"manifests": [{"digest": "sha256:manifest"}]},
        "manifest": {"config": {"digest": "sha256:config"}, "layers": []},
        "config": {"config": {"Env": ["A=1"]}},
    }
    (tmp_path / "blobs" / "sha256").mkdir(parents=True)
    for name, content in {**good, **files}.items():
        path = tmp_path / "index.json" if name == "index" else tmp_path / "blobs" / "sha256" / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    with pytest.raises(ImageError, match="describes no image"):
        registry.read(tmp_path)
