"""Sends signed requests to the CA: again after `badNonce`, with a bound on answers, and with their `Retry-After`.

Everything here blocks, so `client` calls it in threads. One request at a time: the library's set of nonces is
not made for threads.
"""

import email.utils
import threading
import time
from typing import Any

import requests
from acme import errors, messages
from acme.client import ClientNetwork
from josepy.jwa import ES256
from josepy.jwk import JWKEC

NONCES = 10  # tries with another nonce; pebble was met to refuse two in a row
TIMEOUT_S = 30
MAX_RETRY_S = 7 * 86400.0  # no CA is believed to mean more


class Network(ClientNetwork):
    """The library's network, which gives up after two bad nonces and forgets `Retry-After`."""

    def __init__(self, key: JWKEC, *, bundle: str, agent: str) -> None:
        """`bundle`: a file with the certificates of a private CA; empty: those that the system trusts."""
        verify: Any = bundle or True  # the library's annotation is too narrow
        super().__init__(key, alg=ES256, verify_ssl=verify, user_agent=agent, timeout=TIMEOUT_S)
        # A proxy of the environment is obeyed, but no password of ~/.netrc is sent.
        self._turn = threading.Lock()

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        """POST a signed object; a bad nonce is no answer, so try again (RFC 8555, 6.5)."""
        with self._turn:
            for left in reversed(range(NONCES)):
                try:
                    return self._post_once(*args, **dict(kwargs))
                except messages.Error as error:
                    if error.code != "badNonce" or not left:
                        raise
            raise AssertionError("unreachable")

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["allow_redirects"] = False  # a signed request is for one URL
        response = super()._send_request(method, url, *args, **kwargs)
        if not response.ok and self.REPLAY_NONCE_HEADER in response.headers:
            self._add_nonce(response)  # of an error, too: the next request needs no other
        return response

    @classmethod
    def _check_response(
        cls, response: requests.Response, content_type: str | None = None
    ) -> requests.Response:
        try:
            return super()._check_response(response, content_type)
        except (messages.Error, errors.Error) as error:
            error.__dict__["retry_at"] = retry_at(response)
            error.__dict__["status"] = response.status_code
            raise


def retry_at(response: requests.Response) -> float:
    """Return when the CA wants to be asked again, in seconds since the epoch; 0 if it does not say."""
    text = response.headers.get("Retry-After", "").strip()
    now = time.time()
    if text.isascii() and text.isdecimal():
        return now + min(float(text[:9]), MAX_RETRY_S)
    try:
        at = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(at, 0.0), now + MAX_RETRY_S)
