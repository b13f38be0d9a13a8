"""Recipes: agents, tasks and settings of trainings, as data."""

from liquid_control.recipes.arguments import needs_trust
from liquid_control.recipes.build import (
    AGENTS,
    build_agent,
    build_env,
    build_robot,
    build_training_env,
)
from liquid_control.recipes.errors import CommandError, RecipeError
from liquid_control.recipes.schema import Recipe, load_recipe, read_recipe, recipe_from

__all__ = [
    "AGENTS",
    "CommandError",
    "Recipe",
    "RecipeError",
    "build_agent",
    "build_env",
    "build_robot",
    "build_training_env",
    "load_recipe",
    "needs_trust",
    "read_recipe",
    "recipe_from",
]
