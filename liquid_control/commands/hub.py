"""Packed policies on the Hugging Face Hub: one file in a repository, with its card and film.

The file has a manifest of the hashes of all its parts, so a pulled file is either the one pushed or
an error. The card is for readers, and may be edited on the Hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from liquid_control.recipes import CommandError
from liquid_control.recipes.text import cut, one_line

FILE = "policy_package.zip"
PREFIX = "hub:"
PAGE = "how_to/deploy.md#on-the-hugging-face-hub"
_ADDRESS = re.compile(r"(?:hub:)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class Address:
    """A repository on the Hub.

    Attributes:
        repo: OWNER/NAME.
        revision: a branch, tag or commit; None for the newest.
    """

    repo: str
    revision: str | None = None

    @classmethod
    def of(cls, text: str) -> Address:
        """Parse [hub:]OWNER/NAME[@REVISION].

        Raises:
            CommandError: the text is invalid.
        """
        found = _ADDRESS.fullmatch(text)
        if found is None:
            raise CommandError(
                f"{cut(text)}: write a repository of the Hub as OWNER/NAME, or OWNER/NAME@REVISION",
                page=PAGE,
            )
        return cls(found["repo"], found["revision"])

    def __str__(self) -> str:
        return PREFIX + self.repo + (f"@{self.revision}" if self.revision else "")


def push(files: Mapping[str, bytes], address: Address, *, private: bool) -> str:
    """Write files into a repository in one commit; return the address of its page.

    The repository is created if necessary; `private` applies only then.

    Raises:
        CommandError: huggingface_hub is missing, or the Hub cannot be reached or refuses.
    """
    hub, errors = _library()
    with _errors_name(errors, f"{address} is not pushed"):
        api = hub.HfApi()
        url = api.create_repo(repo_id=address.repo, private=private, exist_ok=True)
        api.create_commit(
            repo_id=address.repo,
            operations=[
                hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
                for name, content in files.items()
            ],
            commit_message="Push a policy of liquid_control",
            revision=address.revision,
        )
    return str(url)


def pull(address: Address) -> Path:
    """Download a packed policy into the Hub's cache, if it is missing; return its path.

    Raises:
        CommandError: huggingface_hub is missing, or the Hub cannot be reached or has no such file.
    """
    hub, errors = _library()
    with _errors_name(errors, f"{address} is not pulled"):
        path = hub.hf_hub_download(repo_id=address.repo, filename=FILE, revision=address.revision)
    return Path(path).resolve()  # the cache has links to files, and links are not read


def _library() -> tuple[Any, Any]:
    """Return the library and its module of errors, which it does not import by itself."""
    try:
        return import_module("huggingface_hub"), import_module("huggingface_hub.errors")
    except ModuleNotFoundError as error:
        raise CommandError(
            f"{error.name} is missing: pip install 'liquid-control[hub]'", page=PAGE
        ) from error


@contextmanager
def _errors_name(errors: Any, what: str) -> Iterator[None]:
    """Report errors of the Hub and the network on one line, with a remedy."""
    refused = errors.HfHubHTTPError
    try:
        yield
    except errors.RepositoryNotFoundError as error:
        raise CommandError(
            f"{what}: there is no such repository, or you may not see it; `hf auth login` stores "
            "a token",
            page=PAGE,
        ) from error
    except (OSError, ValueError, *refused.__bases__) as error:  # a base class is the HTTP client's
        offline = isinstance(error, OSError) and not isinstance(error, refused)
        remedy = "; is this machine online?" if offline else ""
        raise CommandError(
            f"{what}: {cut(one_line(error).rstrip('.'), 300)}{remedy}", page=PAGE
        ) from error
