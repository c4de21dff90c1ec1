"""The request of one provider, read from its settings: where it goes, who we are, and what stands in it. Pure."""

import base64
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import attrs

from messaging.runtime.providers_file import Provider
from messaging.runtime.secret import Secret
from providers.base import Request, Submission
from providers.bodies import FORM, JSON, form_body, json_body
from providers.braces import BadBraces, read_braces
from providers.http_shape import BasicAuth, Shape
from providers.http_template import (
    NAMES,
    NOTHING,
    Address,
    Faults,
    Fields,
    Headers,
    read_address,
    read_fields,
    read_headers,
    values_of,
    without_own,
)

_LOOK_UP_NAMES = frozenset({"message_id"})


@attrs.frozen(repr=False)
class HttpRequest:
    """Builds the requests of one provider."""

    method: str
    encoding: str
    address: Address
    headers: Headers
    fields: Fields
    credentials: Mapping[str, str]
    """The header of `basic_auth`; empty when there is none."""
    look_up: Address | None
    sender: str

    def send(self, submission: Submission) -> Request:
        """Make the request that sends a message."""
        values = values_of(submission, self.sender)
        headers = {**self.credentials, **self.headers.fill(values), "traceparent": submission.traceparent}
        url = self.address.fill(values)
        match self.encoding:
            case "json":
                headers.setdefault("content-type", JSON)
                return Request(self.method, url, headers, json_body(self.fields.fill_document(values)))
            case "form":
                headers.setdefault("content-type", FORM)
                return Request(self.method, url, headers, form_body(self.fields.fill_pairs(values)))
            case _:
                query = form_body(self.fields.fill_pairs(values)).decode()
                joint = "&" if "?" in url else "?"
                return Request(self.method, f"{url}{joint}{query}" if query else url, headers)

    def ask(self, message_id: str, traceparent: str) -> Request:
        """Make the request that asks about a message; raises ValueError when there is no look-up."""
        if self.look_up is None:
            raise ValueError("this provider has no look-up")
        headers = {**self.credentials, **self.headers.fill(NOTHING), "traceparent": traceparent}
        return Request("GET", self.look_up.fill({"message_id": message_id}), headers)


def read_request(provider: Provider, shape: Shape, faults: Faults) -> HttpRequest:
    """Read the request from the settings; adds to `faults` what is wrong, by the setting's path below the provider."""
    settings: Faults = []
    secrets, pairs = provider.secrets, shape.encoding != "json"
    url = provider.url
    if shape.encoding == "query":
        url = without_own(url, frozenset(shape.fields))
    request = HttpRequest(
        shape.method,
        shape.encoding,
        _address(".url", url, NAMES, secrets, faults),
        read_headers(shape.headers, secrets, provider.sender, settings),
        read_fields(shape.fields, secrets, settings, json=not pairs),
        _credentials(shape, provider, settings),
        _look_up(shape, provider, settings),
        provider.sender,
    )
    faults += [(f".settings{where}", text) for where, text in settings]
    return request


def _address(where: str, url: str, names: frozenset[str], secrets: Mapping[str, Secret], faults: Faults) -> Address:
    try:
        return read_address(url, names, secrets)
    except BadBraces as exc:
        faults.append((where, str(exc)))
        return read_address("http://unread/", names, secrets)


def _look_up(shape: Shape, provider: Provider, faults: Faults) -> Address | None:
    """Read the look-up's URL; one that begins with / is relative to the provider's host."""
    if shape.look_up is None:
        return None
    url = shape.look_up.url
    if url.startswith("//"):
        url = f"{provider.url.partition('//')[0]}{url}"
    elif url.startswith("/"):
        url = re.sub(r"(//[^/?#]*).*", r"\1", provider.url, flags=re.DOTALL) + url
    elif not url.lower().startswith(("http://", "https://")):
        faults.append((".look_up.url", "must begin with / or with http:// or https://"))
    return _address(".look_up.url", url, _LOOK_UP_NAMES, provider.secrets, faults)


def _credentials(shape: Shape, provider: Provider, faults: Faults) -> dict[str, str]:
    """Make the header of `basic_auth`."""
    auth: BasicAuth | None = shape.basic_auth
    in_url = "@" in urllib.parse.urlsplit(_plain(provider.url)).netloc
    own = any(name.lower() == "authorization" for name in shape.headers)
    if in_url and (own or auth is not None):
        faults.append((".basic_auth" if auth else ".headers", "has credentials, and so has the URL: keep one of them"))
    if auth is None:
        return {}
    if own:
        faults.append((".basic_auth", "makes the header authorization, which stands in headers too: keep one of them"))
    parts: dict[str, Any] = {}
    for name in ("user", "password"):
        try:
            parts[name] = read_braces(getattr(auth, name), frozenset(), provider.secrets).fixed
        except BadBraces as exc:
            faults.append((f".basic_auth.{name}", str(exc)))
    if ":" in parts.get("user", ""):
        faults.append((".basic_auth.user", "must not hold a colon, which ends it"))
    pair = f"{parts.get('user', '')}:{parts.get('password', '')}"
    if not pair.isprintable():
        faults.append((".basic_auth", "may have no line breaks or other control characters; look at the secrets in it"))
    return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _plain(url: str) -> str:
    """Replace what urlsplit refuses: brackets that do not pair."""
    return url.replace("[", "").replace("]", "")
