"""Tokens for SASL OAUTHBEARER, by the client-credentials grant (RFC 6749, section 4.4)."""

import threading
import time
from functools import cache

import httpx
import msgspec
from kafka.errors import SaslAuthenticationFailedError
from kafka.net.sasl.oauth import AbstractTokenProvider

_TIMEOUT_S = 5.0
_SPARE_S = 30.0


class _Answer(msgspec.Struct):
    """What a token endpoint answers (RFC 6749, section 5.1), as far as it is used."""

    access_token: str
    expires_in: float = 300.0


class ClientCredentials(AbstractTokenProvider):
    """Asks the token endpoint for a token and keeps it until shortly before it expires. Safe to share."""

    def __init__(self, url: str, client: tuple[str, str], scope: str | None) -> None:
        """`client` is its id and its secret, which go to `url` by HTTP basic authentication."""
        super().__init__()
        self._url = url
        self._client = client
        self._form = {"grant_type": "client_credentials"} | ({} if scope is None else {"scope": scope})
        self._lock = threading.Lock()
        self._token = ""
        self._good_until = float("-inf")

    def token(self) -> str:
        """Return a token that is still good; raises SaslAuthenticationFailedError when the endpoint gives none."""
        with self._lock:
            if time.monotonic() >= self._good_until:
                answer = self._fetched()
                self._token = answer.access_token
                self._good_until = time.monotonic() + max(answer.expires_in - _SPARE_S, answer.expires_in / 2)
            return self._token

    def _fetched(self) -> _Answer:
        try:
            answer = httpx.post(self._url, data=self._form, auth=self._client, timeout=_TIMEOUT_S)
            answer.raise_for_status()
            return msgspec.json.decode(answer.content, type=_Answer)
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            raise SaslAuthenticationFailedError(f"the token endpoint {self._url} gave no token: {error}") from error


@cache
def client_credentials(url: str, client: tuple[str, str], scope: str | None) -> ClientCredentials:
    """Return the one provider of these credentials, so that the clients of a process share its token."""
    return ClientCredentials(url, client, scope)
