"""What a stored request must not hold."""

import pytest

from homeport.contract.captured import Captured, Message
from homeport.control.deploys.redacting import redacted


def one(target: str = "/", fields=(), body: bytes = b"", answer=(), told: bytes = b"") -> Captured:
    return Captured(
        id="x",
        method="GET",
        target=target,
        request=Message(fields=tuple(fields), body=body, body_bytes=len(body)),
        status=200,
        response=Message(fields=tuple(answer), body=told, body_bytes=len(told)),
    )


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        ("Authorization", False),
        ("proxy-authorization", False),
        ("Cookie", False),
        ("Set-Cookie", False),
        ("Modal-Key", False),
        ("Modal-Secret", False),
        ("X-Api-Key", False),
        ("apikey", False),
        ("X-Auth-Token", False),
        ("X-CSRF-Token", False),
        ("X-Amz-Security-Token", False),
        ("X-Hub-Signature-256", False),
        ("Ocp-Apim-Subscription-Key", False),
        ("X-My-Own", False),
        ("X-Homeport-Method", False),
        ("Accept", True),
        ("Content-Type", True),
        ("X-Keyboard", True),
        ("X-Request-Id", True),
    ],
)
def test_fields_with_credentials_are_removed(name, stays):
    told = redacted(one(fields=[(name, "v")], answer=[(name, "v")]), (), {"x-my-own"})

    assert (((name, "v"),) if stays else ()) == told.request.fields == told.response.fields
    if name != "X-Homeport-Method":
        assert (() if stays else (name.lower(),)) == told.removed


def test_values_of_secrets_are_hidden_in_all_their_forms_everywhere():
    secret = "s3cr3t/value"
    told = redacted(
        one(
            target="/s3cr3t%2Fvalue?a=s3cr3t%2Fvalue",
            fields=[("X-Note", f"<{secret}>")],
            body=b'{"a": "s3cr3t/value"}\nczNjcjN0L3ZhbHVl',
            told=b"\xff\x00s3cr3t/value\xfe",
        ),
        [secret],
        (),
    )

    assert "/***?a=***" == told.target
    assert (("X-Note", "<***>"),) == told.request.fields
    assert b'{"a": "***"}\n***' == told.request.body
    assert b"\xff\x00***\xfe" == told.response.body


def test_a_parameter_of_the_url_that_tells_of_a_credential_is_hidden():
    told = redacted(one(target="/a?page=1&access_token=x&sig=2&api_key=y"), (), ())

    assert "/a?page=1&access_token=***&sig=2&api_key=***" == told.target


def test_a_compressed_body_is_not_kept():
    told = redacted(one(answer=[("Content-Encoding", "gzip")], told=b"zipped"), ["secret"], ())

    assert (b"", True, 6) == (told.response.body, told.response.cut, told.response.body_bytes)


def test_what_holds_nothing_stays_as_it_is():
    before = one("/a?b=1", [("Accept", "x")], b"\r\n\xff a", [("X", "y")], b"\n")

    assert before == redacted(before, ["another"], ())
