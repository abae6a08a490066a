"""The provider's side of single sign-on: OpenID Connect's authorization code flow with PKCE (OpenID
Connect Core 1.0, RFC 6749, RFC 7636, RFC 9207).

HTTP is done here, within bounds of time and size; what goes into requests, and whether a token's
claims fit, Authlib says, and signatures are checked by joserfc.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

import httpx

from burnish.annotation.sign_on.rules import Identity, SignOn, client_secret, is_safe_address
from burnish.errors import UserError
from burnish.jsonio import dumps

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
"""Of signatures: those that nobody can make with what is public. Neither "none" nor HS256."""
_TIMEOUT = 10.0
_MOST_BYTES = 1024 * 1024
_METADATA_LIFE = 3600.0
_LEEWAY = 60
"""Seconds by which the provider's clock may be another."""


class SignOnError(Exception):
    """What the provider said does not do. The message is for whoever runs the server."""


class UnreachableError(Exception):
    """The provider does not answer as it should. The message is for whoever runs the server."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A login on its way, as the browser keeps it in a cookie.

    Args:
        state: comes back in the provider's answer.
        nonce: comes back in the token.
        verifier: proves that the code is redeemed by who asked for it.
        target: the page to go on to.
        account: whose account gets connected; 0: nobody's, it is a login.
    """

    state: str
    nonce: str
    verifier: str
    target: str
    account: int = 0

    def written(self) -> str:
        """As text."""
        return dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Begun | None:
        """What `written` wrote; None for anything else."""
        try:
            given = json.loads(text)
            made = cls(**given)
        except (ValueError, TypeError, RecursionError):
            return None
        strings = (made.state, made.nonce, made.verifier, made.target)
        fit = all(isinstance(one, str) and one for one in strings) and type(made.account) is int
        return made if fit else None


class Provider:
    """An OpenID Connect provider. What it says of itself is read when it is first needed, and kept
    for an hour.

    Args:
        settings: the provider, and who comes in as what.
        say: hears why a login failed.
    """

    def __init__(self, settings: SignOn, *, say: Callable[[str], None] = lambda line: None) -> None:
        try:
            import authlib.oidc.core  # noqa: F401
        except ImportError as error:
            raise UserError(
                "single sign-on needs Authlib.", hint="pip install 'burnish[oidc]'"
            ) from error
        self.settings, self.say = settings, say
        self._secret = client_secret(settings)
        self._lock = threading.Lock()
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._keys: dict[str, Any] | None = None

    def begin(self, redirect_uri: str, *, target: str, account: int = 0) -> tuple[str, Begun]:
        """The address to send a browser to, and what the browser keeps meanwhile. Raises
        UnreachableError."""
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        begun = Begun(
            secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48),
            target, account,
        )  # fmt: skip
        address: str = prepare_grant_uri(
            self._address("authorization_endpoint"), self.settings.client_id, "code",
            redirect_uri=redirect_uri, scope=list(self.settings.scopes), state=begun.state,
            nonce=begun.nonce, code_challenge=create_s256_code_challenge(begun.verifier),
            code_challenge_method="S256",
        )  # fmt: skip
        return address, begun

    def finish(self, begun: Begun, answer: Mapping[str, str], redirect_uri: str) -> Identity:
        """Who somebody is, by what came back: `answer` has the parameters `state`, `code`, `error`
        and `iss` as they stood in the address, "" for those that did not.

        Raises SignOnError where anything does not fit, UnreachableError.
        """
        if not hmac.compare_digest(answer["state"].encode(), begun.state.encode()):
            raise SignOnError("the state is another")
        if answer["error"]:
            raise SignOnError(f"the provider answered {answer['error'][:100]!r}")
        metadata = self.metadata()
        must = metadata.get("authorization_response_iss_parameter_supported") is True
        if (answer["iss"] or must) and answer["iss"] != self.settings.issuer:
            raise SignOnError("the answer comes from another issuer")
        if not answer["code"]:
            raise SignOnError("there is no code")
        token = self._redeem(answer["code"], begun.verifier, redirect_uri)
        claims = self._claims(token, begun.nonce)
        return self._identity(claims, token)

    def metadata(self) -> dict[str, Any]:
        """What the provider says of itself (OpenID Connect Discovery 1.0). Raises
        UnreachableError."""
        with self._lock:
            known = self._metadata
        if known is not None and time.monotonic() - known[0] < _METADATA_LIFE:
            return known[1]
        issuer = self.settings.issuer
        found = _json("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise UnreachableError(f"the provider calls itself {str(found.get('issuer'))[:200]!r}")
        with self._lock:
            self._metadata = time.monotonic(), found
        return found

    def goodbye(self, back: str) -> str | None:
        """Where a browser logs out of the provider too; None where it cannot, or where the provider
        has not been asked yet. `back` is where it comes back to."""
        with self._lock:
            known = self._metadata
        address = known[1].get("end_session_endpoint") if known else None
        if not isinstance(address, str) or not is_safe_address(address):
            return None
        asked = {"client_id": self.settings.client_id, "post_logout_redirect_uri": back}
        return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}"

    def _address(self, name: str) -> str:
        address = self.metadata().get(name)
        if not isinstance(address, str) or not is_safe_address(address):
            raise UnreachableError(f"the provider names no safe {name}")
        return address

    def _redeem(self, code: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        from authlib.oauth2.auth import ClientAuth

        given = self.metadata().get("token_endpoint_auth_methods_supported")
        offered = given if isinstance(given, list) else ["client_secret_basic"]
        basic = "client_secret_basic" in offered or "client_secret_post" not in offered
        with_secret = "client_secret_basic" if basic else "client_secret_post"
        method = "none" if self._secret is None else with_secret
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }  # fmt: skip
        head = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        address, head, body = ClientAuth(self.settings.client_id, self._secret, method).prepare(
            "POST", self._address("token_endpoint"), head, urlencode(form)
        )
        return _json("POST", address, headers=head, content=body, refusal=SignOnError)

    def _claims(self, token: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """The claims of an ID token, once signature, issuer, audience, times and nonce are
        checked (OpenID Connect Core 1.0, 3.1.3.7)."""
        from authlib.oidc.core import CodeIDToken
        from joserfc.errors import JoseError

        client = self.settings.client_id
        options: Any = {
            "iss": {"essential": True, "value": self.settings.issuer},
            "aud": {"essential": True, "value": client},
            "exp": {"essential": True}, "sub": {"essential": True},
        }  # fmt: skip
        bound = {
            "nonce": nonce, "client_id": client, "access_token": token.get("access_token"),
        }  # fmt: skip
        try:
            decoded = self._decoded(token.get("id_token"))
            claims = CodeIDToken(decoded.claims, decoded.header, options, bound)
            claims.validate(leeway=_LEEWAY)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SignOnError(
                f"the token does not fit ({type(error).__name__}: {error})"
            ) from error
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= 255 or "\0" in subject:
            raise SignOnError("the token names nobody")
        return dict(claims)

    def _decoded(self, raw: object) -> Any:
        """A token whose signature fits one of the provider's keys, which are read anew where none
        of those known does: providers change them."""
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        if not isinstance(raw, str):
            raise ValueError("there is no ID token")
        known = self._keys
        if known is not None:
            try:
                return jwt.decode(raw, KeySet.import_key_set(known), algorithms=ALGORITHMS)  # type: ignore[arg-type]
            except (JoseError, ValueError):
                pass
        self._keys = fresh = _json("GET", self._address("jwks_uri"))
        return jwt.decode(raw, KeySet.import_key_set(fresh), algorithms=ALGORITHMS)  # type: ignore[arg-type]

    def _identity(self, claims: dict[str, Any], token: Mapping[str, Any]) -> Identity:
        settings = self.settings
        lacks_email = settings.asks_email and not {"email", "email_verified"} <= claims.keys()
        lacks_groups = settings.asks_groups and settings.groups_claim not in claims
        lacks_name = not {"name", "preferred_username"} & claims.keys()
        if (lacks_email or lacks_groups or lacks_name) and token.get("access_token"):
            more = self._more(str(token["access_token"]), claims["sub"])
            # an address and whether it is verified come from one place
            address = more if lacks_email else claims
            claims = {**more, **claims, "email": address.get("email")}
            claims["email_verified"] = address.get("email_verified")
        verified = claims.get("email_verified") in (True, "true")
        groups = claims.get(settings.groups_claim)
        named = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        texts = [claims.get(one) for one in ("name", "preferred_username", "nickname")]
        return Identity(
            settings.issuer,
            claims["sub"],
            name=next((one for one in texts if isinstance(one, str) and one.strip()), ""),
            email=claims["email"] if verified and isinstance(claims.get("email"), str) else "",
            groups=frozenset(one for one in named if isinstance(one, str)),
        )

    def _more(self, access_token: str, subject: str) -> dict[str, Any]:
        """What the provider tells of somebody beside the token (5.3.2: of the same subject)."""
        if not self.metadata().get("userinfo_endpoint"):
            return {}
        head = {"Authorization": f"Bearer {access_token}", "Accept": "application/json"}
        found = _json("GET", self._address("userinfo_endpoint"), headers=head)
        if found.get("sub") != subject:
            raise SignOnError("the provider's further answer is about somebody else")
        return found


def _json(
    method: str,
    address: str,
    *,
    headers: Mapping[str, str] | None = None,
    content: str | None = None,
    refusal: type[Exception] = UnreachableError,
) -> dict[str, Any]:
    """The JSON object at an address. Raises UnreachableError, and `refusal` where the answer is an
    error of the asker's (4xx)."""
    try:
        with httpx.stream(
            method, address, headers=headers, content=content, timeout=_TIMEOUT
        ) as response:
            read, ends = bytearray(), time.monotonic() + _TIMEOUT
            for part in response.iter_bytes():
                read += part
                if len(read) > _MOST_BYTES or time.monotonic() > ends:
                    raise UnreachableError(f"{address} answers too much or too slowly")
        status = response.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreachableError(f"{address}: {error}") from error
    try:
        found = json.loads(read)
    except (ValueError, RecursionError):
        found = None
    if status != 200:
        why = found.get("error") if isinstance(found, dict) else None
        kind = refusal if 400 <= status < 500 else UnreachableError
        raise kind(f"{address} answered {status}{f' ({why!r:.100})' if why else ''}")
    if not isinstance(found, dict):
        raise UnreachableError(f"{address} answers no JSON object")
    return found
