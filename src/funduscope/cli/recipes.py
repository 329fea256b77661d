"""The verb `recipes`: lists the recipes that come with the package."""

from __future__ import annotations

from typing import Annotated, Optional

import typer


def recipes(
    show: Annotated[Optional[str], typer.Option(help="Print this recipe's TOML.", metavar="NAME")] = None,  # noqa: UP045
    full: Annotated[
        bool, typer.Option("--full", help="With --show: every setting, those at their defaults too.")
    ] = False,
) -> int:
    """List the recipes that come with the package."""
    import tomllib

    from funduscope.recipe import Recipe, builtin_recipes

    known = builtin_recipes()
    if full and show is None:
        raise typer.BadParameter("it shows every setting of one recipe: name it with --show", param_hint="--full")
    if show is None:
        width = max(map(len, known))
        for name, text in known.items():
            print(f"{name:{width}}  {tomllib.loads(text).get('about', '')}".rstrip())
    elif show in known:
        print(Recipe.load(show).to_toml() if full else known[show], end="")
    else:
        raise typer.BadParameter(f"no recipe {show!r}; known: {', '.join(known)}", param_hint="--show")
    return 0
