"""Ask the Hub before a push whose token this is, and what the repository holds."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from segacc.errors import InputError, first_line, hub_errors

FLAG = "--push-to-hub"
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class Repository:
    """A repository of models, as it is before a push."""

    name: str
    """owner/name"""
    exists: bool
    files: Mapping[str, str | None] = field(default_factory=dict)
    """its files by their paths, with the SHA-256 of large ones"""


def look_at(name: str, public: bool) -> Repository:
    """Ask the Hub whether we may push to a repository, and what it holds; writes nothing.

    Args:
        name: owner/name.
        public: whether all may see it.

    Raises:
        InputError: the name is not owner/name, there is no token that may write there, the Hub
            cannot be reached, or the repository is there with another visibility.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    check_name(name)
    check_token(name)
    api = HfApi()
    ask = f"check the network and HF_ENDPOINT, and whether the token is still valid: {LOGIN}"
    with refusals(f"{FLAG} {name}: the Hub did not say whose token this is", ask):
        who = api.whoami()
    check_owner(name, who)
    with refusals(f"{FLAG} {name}: the repository could not be looked at", "try again"):
        try:
            info = api.model_info(name, files_metadata=True)
        except RepositoryNotFoundError:
            return Repository(name, exists=False)
    if bool(info.private) == public:
        found, remedy = "public", "give --public"
        if info.private:
            found, remedy = "private", "leave --public out"
        raise InputError(
            f"{FLAG} {name} is a {found} repository, and a push does not change who can see it: "
            f"{remedy}, or another name, or change it in the repository's settings on the Hub."
        )
    files = {one.rfilename: one.lfs.sha256 if one.lfs else None for one in info.siblings or []}
    return Repository(name, exists=True, files=files)


def check_name(name: str) -> None:
    """Raises InputError for what is not owner/name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    why = ""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        why = f" ({first_line(error)})"
    if why or name.count("/") != 1:
        raise InputError(
            f"{FLAG} {name!r}: expected owner/name{why}, such as me/glands-linknet; give the name "
            "of your account, or of your organisation, before the slash."
        )


def check_token(name: str) -> None:
    """Raises InputError if there is no token, or one that cannot be sent in a request. The message
    does not show the token."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise InputError(f"{FLAG} {name} needs the network, and HF_HUB_OFFLINE is set: unset it.")
    token = get_token()
    if not token:
        raise InputError(f"{FLAG} {name} needs a token of the Hub and found none: {LOGIN}.")
    # The HTTP library would show the token in its error.
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        where = "HF_TOKEN" if os.environ.get("HF_TOKEN") else "the token of the Hub"
        raise InputError(
            f"{FLAG} {name}: {where} holds characters that no token has (a blank, a line break, a "
            "letter with an accent): copy it again from the settings of your account."
        )


def check_owner(name: str, who: Mapping[str, Any]) -> None:
    """Raises InputError if the token belongs to somebody else, or may only read.

    Args:
        who: the Hub's answer to whose token this is.
    """
    owner = name.split("/")[0]
    owners = [who["name"], *(one["name"] for one in who.get("orgs") or [])]
    if owner.casefold() not in [one.casefold() for one in owners]:
        raise InputError(
            f"{FLAG} {name}: the token is that of {who['name']}, who cannot push to {owner}: give "
            f"a name that begins with {' or '.join(f'{one}/' for one in owners)}, or {LOGIN} of "
            f"an account that belongs to {owner}."
        )
    token = (who.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise InputError(
            f"{FLAG} {name}: the token may only read: make one that may write in the settings of "
            f"your account, and {LOGIN}."
        )


@contextmanager
def refusals(start: str, remedy: str) -> Iterator[None]:
    """Turn an error of the Hub's client into one sentence, which does not show the token.

    Args:
        start, remedy: the beginning and the end of the sentence.

    Raises:
        InputError: in place of such an error.
    """
    from huggingface_hub import get_token

    try:
        yield
    except InputError:
        raise
    except hub_errors() as error:
        why, token = first_line(error), get_token()
        # A server may answer with what it was sent, and --debug prints the causes and their notes.
        if token and any(token in line for line in traceback.format_exception(error)):
            raise InputError(f"{start} ({why.replace(token, '***')}): {remedy}.") from None
        raise InputError(f"{start} ({why}): {remedy}.") from error
