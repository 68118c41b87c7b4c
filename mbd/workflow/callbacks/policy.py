"""Which URLs of strangers may be called, and at which addresses. It knows the rules and sends nothing.

A URL is read by one strict grammar, because whatever two parsers read differently is a way in: ASCII, a lower-case
scheme, a host name that no parser takes for a number, no user, no fragment. Names are resolved when an endpoint is
registered and again before each message; every address must be public, and the connection goes to what was judged.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

from mbd.errors import CallbackError, SettingsError
from mbd.settings import Settings
from mbd.workflow.callbacks.addresses import Address, Resolve, is_public, resolve

PORTS = frozenset({443, 8443})
"""Where services for the public listen; others take an entry of the allow-list."""

LONGEST = 2048

_PORT = r"(?::(?P<port>[1-9][0-9]{0,4}))?"
_HOST = r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])"
_CHARACTER = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"
_URL = re.compile(rf"(?P<scheme>https?)://{_HOST}{_PORT}(?P<path>(?:/{_CHARACTER}*)?(?:\?(?:{_CHARACTER}|\?)*)?)")
_ENTRY = re.compile(_HOST + _PORT)

# The last label begins with a letter: "127.1", "0x7f000001" and "2130706433" are addresses to some parsers.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?=[a-z]){_LABEL}")


@dataclass(frozen=True)
class Target:
    """A URL whose form and host are allowed.

    Attributes:
        host: a name in lower case, or an address, without brackets.
        path: with the query; it begins with a slash.
        listed: the host stands in the allow-list.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str
    listed: bool

    @property
    def url(self) -> str:
        """As it is kept."""
        usual = {"http": 80, "https": 443}[self.scheme]
        return f"{self.scheme}://{self.authority}{'' if self.port == usual else f':{self.port}'}{self.path}"

    @property
    def authority(self) -> str:
        """The host as URLs write it."""
        return f"[{self.host}]" if ":" in self.host else self.host


@dataclass(frozen=True)
class UrlPolicy:
    """What a deployment allows.

    Attributes:
        hosts: ``(host, port)`` that may be called by plain HTTP and be private; a port of None means all.
        networks: where names may lead although it is private; all other rules hold for them.
        suffixes: if not None, names outside of these domains are refused.
        ports: where all others may listen.
        resolve: finds the addresses of a name.
    """

    hosts: frozenset[tuple[str, int | None]] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    suffixes: frozenset[str] | None = None
    ports: frozenset[int] = PORTS
    resolve: Resolve = resolve

    @classmethod
    def of(cls, settings: Settings, *, resolve: Resolve = resolve) -> "UrlPolicy":
        """By MBD_CALLBACK_ALLOW and MBD_CALLBACK_HOSTS.

        Raises:
            SettingsError: an entry is neither a host nor a network.
        """
        entries = settings.callback_allow or frozenset()
        networks = tuple(_network(entry) for entry in sorted(entries) if "/" in entry)
        hosts = frozenset(_listed_host(entry) for entry in entries if "/" not in entry)
        suffixes = settings.callback_hosts
        if suffixes is not None:
            suffixes = frozenset(suffix.lower() for suffix in suffixes)
            wrong = sorted(suffix for suffix in suffixes if not _NAME.fullmatch(suffix))
            if wrong:
                raise SettingsError(f"MBD_CALLBACK_HOSTS: '{wrong[0]}' is no domain.", remedy="write example.com")
        return cls(hosts, networks, suffixes, resolve=resolve)

    def admit(self, url: str) -> Target:
        """Hold a new endpoint's URL against all rules; its name is resolved, so no transaction should be open.

        Raises:
            CallbackError: it is refused. The message repeats nothing of the URL, and does not say what it leads to.
        """
        target = self.read(url)
        self.addresses(target)
        return target

    def read(self, url: str) -> Target:
        """A URL's form and host, without asking anybody.

        Raises:
            CallbackError: they are refused.
        """
        match = _URL.fullmatch(url) if len(url) <= LONGEST else None
        if match is None or int(match["port"] or 0) > 65535:
            raise CallbackError(
                f"The call-back URL is not of the form that is allowed: https, ASCII, at most {LONGEST} characters, "
                "without user, fragment, backslash or space.",
                remedy="write it as https://host/path; an international name in its xn-- form",
            )
        scheme: Literal["http", "https"] = "http" if match["scheme"] == "http" else "https"
        port = int(match["port"] or {"http": 80, "https": 443}[scheme])
        host, literal = _host(match["host"])
        path = match["path"] if match["path"].startswith("/") else f"/{match['path']}"
        listed = not self.hosts.isdisjoint({(host, port), (host, None)})
        target = Target(scheme, host, port, path, listed)
        if not target.listed:
            self._refuse_unlisted(target, literal)
        return target

    def addresses(self, target: Target) -> tuple[Address, ...]:
        """Where a target is now: what the connection has to go to.

        Raises:
            CallbackError: it has no address, or one that is not public. The two are not told apart, because that would
                say which names exist inside.
        """
        try:
            literal = _literal(target.host)
            # The dot keeps the system from trying the name inside of the domains that it searches.
            found = (literal,) if literal else self.resolve(target.host if target.listed else f"{target.host}.")
        except OSError:
            found = ()
        if not found or not (target.listed or all(self._may_call(address) for address in found)):
            raise CallbackError(
                "The call-back URL leads to no public address.",
                remedy="use a host of the public internet; the operator can allow others with MBD_CALLBACK_ALLOW",
            )
        return found

    def _may_call(self, address: Address) -> bool:
        return is_public(address) or any(address in network for network in self.networks)

    def _refuse_unlisted(self, target: Target, literal: Address | None) -> None:
        if target.scheme != "https":
            raise CallbackError("The call-back URL is not https.", remedy="use https")
        if literal is not None or "." not in target.host:
            raise CallbackError(
                "The call-back URL names no host of the public internet.", remedy="use a full host name, not an address"
            )
        if target.port not in self.ports:
            raise CallbackError(
                "The call-back URL has a port that is not allowed.",
                remedy=f"use one of {', '.join(map(str, sorted(self.ports)))}",
            )
        if self.suffixes is not None and not any(f".{target.host}".endswith(f".{each}") for each in self.suffixes):
            raise CallbackError(
                "The call-back URL is not of a domain that this service calls.",
                remedy="ask its operator which it calls",
            )


def _host(written: str) -> tuple[str, Address | None]:
    """A host in lower case and without brackets, and the address that it is, if it is one."""
    host = written.lower()
    literal = _literal(host.strip("[]"))
    if literal is not None and host.startswith("[") == isinstance(literal, IPv6Address):
        return str(literal), literal
    if literal is not None or not _NAME.fullmatch(host):
        raise CallbackError(
            "The call-back URL's host is neither a host name nor an address in its usual form.",
            remedy="write it as https://host/path; an international name in its xn-- form",
        )
    return host, None


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _listed_host(entry: str) -> tuple[str, int | None]:
    match = _ENTRY.fullmatch(entry)
    try:
        if match is None:
            raise CallbackError("It is no host.", remedy="write host or host:port")
        return _host(match["host"])[0], int(match["port"]) if match["port"] else None
    except CallbackError:
        raise SettingsError(
            f"MBD_CALLBACK_ALLOW: '{entry}' is neither a host nor a network.",
            remedy="write host, host:port, or a network such as 10.0.0.0/8",
        ) from None


def _network(entry: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(entry)
    except ValueError as error:
        raise SettingsError(
            f"MBD_CALLBACK_ALLOW: '{entry}' is no network.", remedy="write one such as 10.0.0.0/8"
        ) from error
