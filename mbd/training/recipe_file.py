"""A recipe from a TOML file: strictly the fields of `Recipe`, the rest as its defaults. It runs nothing.

backbone = "mbd"
epochs = 40
learning_rate = 1e-3

[options]        # of the backbone
width = 32

[[sharded]]      # towers for each shard of the revocable people
shards = 4
tower = { modality = "audio" }
"""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from mbd.backbones.zoo import ZOO
from mbd.errors import TrainingError
from mbd.training.recipe import Recipe

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file. Two files that say the same in other words have one digest.

    Raises:
        TrainingError: no such file, no TOML, a key or an option that does not exist, or a value of another type.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"The recipe {path} cannot be read: {error}.", remedy="give a UTF-8 text file") from error
    except tomllib.TOMLDecodeError as error:
        raise TrainingError(
            f"The recipe {path} is not TOML: {error}.", remedy='write one `key = value` a line, text in "quotes"'
        ) from error
    recipe = Recipe(**_checked(Recipe, values, path))
    if recipe.backbone not in ZOO:
        raise TrainingError(
            f"The recipe {path} names the backbone '{recipe.backbone}', which does not exist.",
            remedy=f"use one of: {', '.join(ZOO)}",
        )
    _checked(ZOO[recipe.backbone].Options, recipe.options, path, within="options.")
    return recipe


def _checked(kind: type[Any], values: Mapping[str, Any], path: Path, within: str = "") -> dict[str, Any]:
    """The values that a file gives for fields of a dataclass, each of its declared type; tables become dataclasses."""
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    given = {name: _tables(hints.get(name), value, path, f"{within}{name}") for name, value in values.items()}
    typed: dict[str, Any] = {name: (hints[name], None) for name in names}
    model = create_model(kind.__name__, __config__=_STRICT, **typed)
    try:
        checked = model.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False)
    else:
        return {name: getattr(checked, name) for name in checked.model_fields_set}
    said = "; ".join(f"{within}{'.'.join(str(part) for part in one['loc'])}: {_said(one)}" for one in found)
    raise TrainingError(
        f"The recipe {path} is not one: {said}.",
        remedy=f"use only {within.rstrip('.') or 'the keys'} {', '.join(names)}, each with a value of its type",
    )


def _tables(hint: Any, value: Any, path: Path, where: str) -> Any:
    """A table, or an array of tables, as the dataclass that its place calls for; any other value as it is."""
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        given = _checked(hint, value, path, f"{where}.")
        if missing := [f.name for f in fields(hint) if f.default is MISSING and f.name not in given]:
            raise TrainingError(
                f"The recipe {path} is not one: {where} lacks {', '.join(missing)}.", remedy="give each of them a value"
            )
        return hint(**given)
    if get_origin(hint) is tuple and isinstance(value, list):
        each, *_ = get_args(hint)
        return tuple(_tables(each, one, path, f"{where}.{n}") for n, one in enumerate(value))
    return value


def _said(error: Any) -> str:
    if error["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        return "there is no such key"
    return f"{error['msg']}, not {error['input']!r}"
