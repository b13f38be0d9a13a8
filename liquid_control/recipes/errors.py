"""Errors that a user can fix at the command line or in a recipe."""

from __future__ import annotations


class CommandError(ValueError):
    """A problem that the user can fix at the command line; the message is one line.

    Args:
        message: what is wrong, and the remedy.
        page: of the documentation, and heading, that explain it; see `docs`.
    """

    page = ""

    def __init__(self, message: str, *, page: str = "") -> None:
        super().__init__(message)
        self.page = page or self.page


class RecipeError(CommandError):
    """A recipe that cannot be used; the message is one line and names the key."""

    page = "reference/recipe.md"
