"""Ray's token: who does not have it can neither connect to a run's Ray nor run anything there.

Ray listens on every interface of the machine and runs what clients send it as the user who started it, so a Ray of
ours always asks for a token, made anew for every run and never written to disk. Ray reads mode and token from the
environment once per process; what it has read is refreshed here.
"""

from __future__ import annotations

import importlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.core.errors import MissingError

_MODE, _TOKEN, _FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


@contextmanager
def own_token() -> Iterator[None]:
    """Make processes that Ray starts from now on, and this one, ask for a token nobody else has.

    What the user had set is back afterwards.

    Raises:
        MissingError: this Ray is too old to know tokens.
    """
    _read_anew()  # refuses an old Ray before anything is changed
    before = {name: os.environ.get(name) for name in (_MODE, _TOKEN, _FILE)}
    os.environ.pop(_FILE, None)
    os.environ |= {_MODE: "token", _TOKEN: secrets.token_hex(32)}
    _read_anew()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_anew()


def user_token() -> None:
    """Use the token the user has, if any: Ray itself does so only when the mode is set as well.

    Where a token lies: `$RAY_AUTH_TOKEN`, the file `$RAY_AUTH_TOKEN_PATH`, or `~/.ray/auth_token`.
    """
    if _read_anew() and _MODE not in os.environ:
        os.environ[_MODE] = "token"
        _read_anew()


def hide() -> None:
    """Take the token out of this process's environment: Ray knows it by now, methods and systems need not."""
    for name in (_TOKEN, _FILE):
        os.environ.pop(name, None)


def require_accepted(address: str) -> None:
    """Ask a cluster whether it takes our token; Ray itself would try for 20 seconds and not say why.

    Args:
        address: `host:port`, or a message of Ray's that holds one; anything else is not asked.

    Raises:
        MissingError: it asks for a token that we do not have.
    """
    import ray

    place = re.search(r"[\w.\-]+:\d+", address)
    if place is None or "://" in address:
        return
    try:
        with _quiet():
            _inside_ray().GcsClient(place[0])
    except ray.exceptions.AuthenticationError as error:
        problem = "does not take this token" if os.environ.get(_MODE) == "token" else "asks for a token"
        raise MissingError(
            f"The Ray cluster at {place[0]} {problem}.",
            f"Set ${_TOKEN}, or ${_FILE} to a file that holds it, to the token it was started with.",
        ) from error
    except Exception:  # not about the token: connecting says what it is
        return


def _read_anew() -> bool:
    """Make this process's Ray read mode and token again; return whether there is a token."""
    raylet = _inside_ray()
    try:
        loader = raylet.AuthenticationTokenLoader.instance()
    except AttributeError as error:
        raise MissingError(
            "This version of Ray cannot ask for a token, so others on the network could use it.",
            "Install the one in constraints.txt, or run without Ray: --executor inline",
        ) from error
    raylet.Config.initialize("")
    loader.reset_cache()
    found = bool(loader.has_token(ignore_auth_mode=True))
    loader.reset_cache()  # what was found would be asked of others even where the mode says there is no token
    return found


def _inside_ray() -> Any:
    """Return the module of Ray that knows about tokens; nothing public of Ray's does."""
    return importlib.import_module("ray._raylet")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray's own code writes to the standard error from the user: we say it better."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
