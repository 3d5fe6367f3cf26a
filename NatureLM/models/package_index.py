"""Where pip would look for a wheel on this machine: its indexes, proxy and certificates, asked of pip itself.

Knows pip's configuration and the Simple API (JSON, and HTML for indexes that have nothing else), no model. The surprise: no index is
named here. An unconfigured machine gets the default that its own pip prints in its help.
"""

from __future__ import annotations

import ast
import base64
import json
import netrc
import os
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

from NatureLM import __version__

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_SECTIONS = (":env:", "download", "install", "global")
_DEFAULT = re.compile(r"\(default:?\s+(\S+?)\)")


@dataclass(frozen=True)
class IndexSettings:
    """How pip is configured here.

    Attributes:
        indexes: Base addresses of the indexes, in pip's order.
        find_links: Folders and pages that pip also looks at, before the indexes.
        proxy: For every request; the environment's proxies when empty.
        cert: Bundle of certificates to trust; the system's when empty.
        client_cert: Certificate to show.
        trusted_hosts: Hosts whose certificates are not checked.
        timeout_s: How long a silent connection is waited for.
        pip: The command that runs pip; empty where there is none.
    """

    indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    proxy: str = ""
    cert: str = ""
    client_cert: str = ""
    trusted_hosts: tuple[str, ...] = ()
    timeout_s: float = 30.0
    pip: tuple[str, ...] = ()


def configured() -> IndexSettings:
    """Ask pip how it is configured, whichever way it is installed; an environment without pip asks the one Python bundles."""
    for command in _pips():
        listed = _output([*command, "config", "list"])
        if listed is not None:
            return _settings(_values(listed), command)
    environment = {k[4:].lower(): v for k, v in os.environ.items() if k.startswith("PIP_")}
    return _settings({f":env:.{k.replace('_', '-')}": v for k, v in environment.items()}, ())


def shown(address: str) -> str:
    """Write an address without the credentials and tokens in it."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


class Session:
    """Opens addresses as pip would: proxies, certificates, credentials.

    Args:
        settings: How pip is configured.
    """

    def __init__(self, settings: IndexSettings) -> None:
        self._settings = settings
        self._credentials: dict[str, str] = {}
        self._contexts: dict[bool, ssl.SSLContext] = {}
        for address in (*settings.indexes, *settings.find_links):
            self._bare(address)

    def open(self, address: str, headers: Mapping[str, str] | None = None) -> Any:
        """Open an address.

        Raises:
            OSError: Whatever went wrong; ``urllib.error.HTTPError`` when the server refused.
        """
        address = self._bare(address)
        agent = {"User-Agent": f"naturelm-audio/{__version__}"}
        request = urllib.request.Request(address, headers={**agent, **(headers or {})})  # noqa: S310 - pip's schemes
        host = urlsplit(address).netloc
        if authorization := self._credentials.get(host) or _from_netrc(host):
            request.add_unredirected_header("Authorization", authorization)
        return self._opener(host).open(request, timeout=self._settings.timeout_s)

    def _bare(self, address: str) -> str:
        """Keep an address's credentials for its host and return it without."""
        parts = urlsplit(address)
        user, at, host = parts.netloc.rpartition("@")
        if at:
            token = base64.b64encode(unquote(user).encode()).decode()
            self._credentials[host] = f"Basic {token}"
        return urlunsplit(parts._replace(netloc=host))

    def _opener(self, host: str) -> urllib.request.OpenerDirector:
        proxy = self._settings.proxy
        proxies = {"http": proxy, "https": proxy} if proxy else None
        return urllib.request.build_opener(
            urllib.request.ProxyHandler(proxies),
            urllib.request.HTTPSHandler(context=self._context(host)),
        )

    def _context(self, host: str) -> ssl.SSLContext:
        trusted = bool({host, host.partition(":")[0]} & {*self._settings.trusted_hosts})
        if trusted not in self._contexts:
            self._contexts[trusted] = self._new_context(trusted=trusted)
        return self._contexts[trusted]

    def _new_context(self, *, trusted: bool) -> ssl.SSLContext:
        settings = self._settings
        bundle = settings.cert or os.environ.get("REQUESTS_CA_BUNDLE") or None
        context = ssl.create_default_context(cafile=bundle)
        if bundle is None and (more := _certifi()):
            context.load_verify_locations(more)
        if settings.client_cert:
            context.load_cert_chain(settings.client_cert)
        if trusted:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def find(session: Session, settings: IndexSettings, package: str, filename: str) -> Iterator[str]:
    """List the addresses at which a wheel can be had, looking at one place after the other.

    Args:
        session: Opens the pages.
        settings: Which places there are.
        package: Its name, normalised.
        filename: The wheel's.

    Raises:
        OSError: The wheel was nowhere and a place could not be asked; the last reason.
    """
    failed, found = None, False
    for place in (*settings.find_links, *(f"{i.rstrip('/')}/{package}/" for i in settings.indexes)):
        try:
            matching = [a for name, a in _files(session, place) if name == filename]
        except OSError as error:
            missing = isinstance(error, urllib.error.HTTPError) and error.code in (404, 410)
            failed = failed if missing else OSError(f"{shown(place)} cannot be asked: {why(error)}")
            continue
        found = found or bool(matching)
        yield from matching
    if failed and not found:
        raise failed


def why(error: OSError) -> str:
    """Say in a few words why a connection failed."""
    reason = getattr(error, "reason", None) or error.strerror or error
    return f"{getattr(error, 'code', '')} {reason}".strip()


def _files(session: Session, place: str) -> list[tuple[str, str]]:
    """List a page's files as pairs of name and address."""
    folder = _folder(place)
    if folder is not None and not (folder / "index.html").is_file():
        return [(path.name, path.resolve().as_uri()) for path in folder.iterdir()]
    address = (folder / "index.html").resolve().as_uri() if folder is not None else place
    try:
        with session.open(address, {"Accept": ACCEPT}) as answer:
            kind, base, body = answer.headers.get_content_type(), answer.geturl(), answer.read()
        if kind.endswith("json"):
            files = json.loads(body)["files"]
            return [(file["filename"], urljoin(base, file["url"])) for file in files]
    except (ValueError, KeyError, TypeError, HTTPException) as error:
        raise OSError(f"{shown(place)}: is no readable page of a package index") from error
    page = _Links(base)
    page.feed(body.decode("utf-8", "replace"))
    return page.found


def _folder(place: str) -> Path | None:
    parts = urlsplit(place)
    if parts.scheme == "file":
        path = Path(urllib.request.url2pathname(parts.path))
    elif parts.scheme in ("http", "https"):
        return None
    else:
        path = Path(place).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    return path


class _Links(HTMLParser):
    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "base" and values.get("href"):
            self.base = urljoin(self.base, values["href"] or "")
        if tag == "a" and (target := values.get("href")):
            address = urldefrag(urljoin(self.base, target)).url
            self.found.append((unquote(urlsplit(address).path.rpartition("/")[2]), address))


def _pips() -> Iterator[tuple[str, ...]]:
    """Name the ways to run pip: this environment's, the interpreter's below it, Python's bundled wheel, the PATH's."""
    below = getattr(sys, "_base_executable", "") or sys.executable
    for python in dict.fromkeys((sys.executable, below)):
        yield (python, "-m", "pip")
    folders = [Path(sysconfig.get_path("stdlib")) / "ensurepip" / "_bundled"]
    folders += [Path(folder) for folder in [sysconfig.get_config_var("WHEEL_PKG_DIR")] if folder]
    for folder in folders:
        for wheel in sorted(folder.glob("pip-*.whl"), reverse=True):
            yield (sys.executable, str(wheel / "pip"))
    if found := shutil.which("pip"):
        yield (found,)


def _output(command: Sequence[str]) -> str | None:
    environment = dict(os.environ, COLUMNS="500", PIP_DISABLE_PIP_VERSION_CHECK="1")
    environment["PYTHONUTF8"] = "1"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False,
            env=environment,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _values(listed: str) -> dict[str, str]:
    """Read the lines of ``pip config list``: ``global.index-url='...'``."""
    values = {}
    for line in listed.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            try:
                values[key.strip()] = str(ast.literal_eval(value))
            except (ValueError, SyntaxError):
                values[key.strip()] = value
    return values


def _settings(values: Mapping[str, str], pip: tuple[str, ...]) -> IndexSettings:
    def value(key: str) -> str:
        return next((values[k] for s in _SECTIONS if values.get(k := f"{s}.{key}")), "")

    own = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or ""
    first = value("index-url") or own or (_default(pip) if pip else "")
    indexes = [] if value("no-index").lower() in ("1", "true", "yes", "on") else [first]
    if indexes:
        indexes += value("extra-index-url").split()
    timeout = value("timeout") or value("default-timeout")
    return IndexSettings(
        indexes=tuple(dict.fromkeys(index for index in indexes if index)),
        find_links=tuple(value("find-links").split()),
        proxy=value("proxy"),
        cert=value("cert"),
        client_cert=value("client-cert"),
        trusted_hosts=tuple(value("trusted-host").split()),
        timeout_s=float(timeout) if timeout.replace(".", "", 1).isdigit() else 30.0,
        pip=pip,
    )


def _default(pip: tuple[str, ...]) -> str:
    """Read pip's built-in index out of its help, unless its configuration names another."""
    text = _output([*pip, "--isolated", "download", "--help"]) or ""
    lines = [line for line in text.splitlines() if "--index-url" in line]
    found = _DEFAULT.search(" ".join(lines[:1]))
    return found.group(1) if found else ""


def _from_netrc(host: str) -> str:
    try:
        known = netrc.netrc().authenticators(host.partition(":")[0])
    except (OSError, netrc.NetrcParseError):
        return ""
    if known is None:
        return ""
    return "Basic " + base64.b64encode(f"{known[0]}:{known[2]}".encode()).decode()


def _certifi() -> str:
    try:
        import certifi
    except ImportError:
        return ""
    return certifi.where()
