"""Use of the Hugging Face Hub without a network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

SECONDS = 10.0
"""seconds to wait for a connection, as long as the Hub's client waits"""


@contextmanager
def hub_or_its_cache() -> Iterator[str]:
    """Let the Hub's client use its cache at once if the Hub cannot be reached. Else it would ask
    six times, for half a minute, and print a line each time.

    Yields:
        why the Hub cannot be reached; empty where it can, or where HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import constants

    why = "" if constants.HF_HUB_OFFLINE else why_unreachable(constants.ENDPOINT)
    if not why:
        yield ""
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield why
    finally:
        constants.HF_HUB_OFFLINE = False


def why_unreachable(address: str) -> str:
    """Say why no connection to a web address can be made, as a clause; empty if one can, or if a
    proxy is set, since only the proxy knows."""
    parts = urlsplit(address)
    if parts.hostname is None:
        return ""
    if {parts.scheme, "all"} & getproxies().keys() and not proxy_bypass(parts.hostname):
        return ""
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), SECONDS).close()
    except OSError as error:
        return f"{parts.hostname} cannot be reached: {error.strerror or error}"
    return ""
