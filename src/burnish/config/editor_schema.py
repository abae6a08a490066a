"""A JSON Schema of recipes as they are written, for editors: kinds by the names of stages,
shorthands, rounds. Torch-free."""

from __future__ import annotations

from typing import Any

from burnish.config.describe import describe_fields, variant
from burnish.config.families import FAMILIES
from burnish.config.kinds import KINDS
from burnish.config.narrow import is_list, is_section
from burnish.config.recipe import NAME_OF_A_STAGE, Recipe

Schema = dict[str, Any]
_OWN = {"type": "string", "pattern": "^.+:.+$"}


def editor_schema() -> Schema:
    """The schema (draft 2020-12). It accepts what the loader accepts, but for what only the loader
    can know: that references lead somewhere, that numbers fit together, that files are there."""
    schema = _without_titles(_by_tags(Recipe.model_json_schema()))
    sections = schema["$defs"]
    _shorthands(sections)
    for kind, stage in KINDS.items():
        rows = [row for row, (family, _) in FAMILIES.items() if family == kind]
        sections[stage.section.__name__]["properties"]["kind"] = {"enum": [kind, *rows]}
    words = [*KINDS, *FAMILIES]
    sections["Stage"] = _named_stage(words)
    sections["Rounds"] = {
        "type": "object", "required": ["repeat", "stages"], "additionalProperties": False,
        "description": "Stages that are done several times.",
        "properties": {
            "repeat": {"type": "integer", "minimum": 1, "maximum": 100,
                "description": "How often."},
            "stages": _ref("Stages"),
        },
    }  # fmt: skip
    sections["Stages"] = {
        "if": {"type": "array"},
        "then": {"items": {"enum": words}, "uniqueItems": True},
        "else": {
            "type": "object",
            "propertyNames": {"pattern": NAME_OF_A_STAGE, "maxLength": 100},
            "properties": {word: _stage_called(word) for word in words},
            "additionalProperties": _ref("Stage"),
        },
    }
    schema["properties"]["stages"] = {
        "description": schema["properties"]["stages"]["description"],
        **_ref("Stages"),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A Burnish recipe",
        **schema,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _stage_of(word: str) -> Schema:
    """The settings of a stage of this kind, algorithm or loss."""
    kind, family = FAMILIES.get(word, (word, None))
    section = _ref(KINDS[kind].section.__name__)
    if kind != "preference":
        return section
    loss = _loss(word if family else "dpo")
    return {"allOf": [section, {"properties": {"loss": loss}}]}


def _stage_called(word: str) -> Schema:
    """A stage whose name says its kind, unless it says another, or is the name of rounds."""
    says = {
        "type": "object",
        "anyOf": [{"required": [key]} for key in ("kind", "repeat", "stages")],
    }
    own = {"if": {"type": "null"}, "else": _stage_of(word)}
    kind = KINDS[FAMILIES.get(word, (word, None))[0]]
    about = " ".join((kind.section.__doc__ or "").split())
    return {"description": about, "if": says, "then": _ref("Stage"), "else": own}


def _named_stage(words: list[str]) -> Schema:
    """A stage that says its kind, or rounds."""
    rounds = {"type": "object", "anyOf": [{"required": ["repeat"]}, {"required": ["stages"]}]}
    kinds = [{"if": _is({"kind": {"const": word}}), "then": _stage_of(word)} for word in words]
    named = {
        "type": "object", "required": ["kind"], "allOf": kinds,
        "properties": {"kind": {"anyOf": [{"enum": words}, _OWN]}},
    }  # fmt: skip
    return {"if": rounds, "then": _ref("Rounds"), "else": named}


def _is(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _loss(row: str) -> Schema:
    """A loss by its name, or the options of the row that the stage's name says."""
    sections = {variant(section, "name"): section.__name__ for section in _losses()}
    known = [
        {"if": _is({"name": {"const": name}}), "then": _ref(section)}
        for name, section in sections.items()
    ]
    unnamed = {"if": {"type": "object", "not": {"required": ["name"]}}, "then": _ref(sections[row])}
    return {
        "if": {"type": "string"},
        "then": {"anyOf": [{"enum": list(sections)}, _OWN]},
        "else": {
            "type": "object", "allOf": [unnamed, *known],
            "properties": {"name": {"anyOf": [{"enum": list(sections)}, _OWN]}},
        },
    }  # fmt: skip


def _losses() -> list[Any]:
    section = KINDS["preference"].section
    found = (o.section for o in describe_fields(section) if o.variants and o.key == "loss.name")
    return list(dict.fromkeys(found))


def _shorthands(sections: Schema) -> None:
    """What a recipe may say shorter than its section: `by: panel`, `algorithm: cispo`."""
    rows = [row for row, (kind, _) in FAMILIES.items() if kind == "online"]
    online = sections["Online"]["properties"]
    online["algorithm"] = {
        "description": online["algorithm"]["description"],
        "if": {"type": "string"}, "then": {"anyOf": [{"enum": rows}, _OWN]},
        "else": _ref("Algorithm"),
    }  # fmt: skip
    # which loss it is, and what that loss takes, depends on the stage's name
    loss = sections["Preference"]["properties"]["loss"]
    sections["Preference"]["properties"]["loss"] = {"description": loss["description"]}
    by = sections["Compare"]["properties"]["by"]
    one = {"if": {"type": "string"}, "then": {"const": "panel"}, "else": _ref("Judges")}
    sections["Compare"]["properties"]["by"] = {
        "description": by["description"],
        "if": {"type": "array"}, "then": {"items": one, "minItems": 1}, "else": one,
    }  # fmt: skip


def _by_tags(node: Any) -> Any:
    """Unions of kinds as a chain of conditions, of which an editor tells the one that failed; a
    `oneOf` would only say that none of them fits."""
    if is_list(node):
        return [_by_tags(one) for one in node]
    if not is_section(node):
        return node
    if "discriminator" not in node:
        return {key: _by_tags(value) for key, value in node.items()}
    tag, sections = node["discriminator"]["propertyName"], node["discriminator"]["mapping"]
    chain = [
        {"if": _is({tag: {"const": name}}), "then": {"$ref": section}}
        for name, section in sections.items()
    ]
    rest = {
        key: _by_tags(one) for key, one in node.items() if key not in ("discriminator", "oneOf")
    }
    return {
        **rest, "type": "object", "required": [tag], "allOf": chain,
        "properties": {tag: {"enum": list(sections)}},
    }  # fmt: skip


def _without_titles(node: Any) -> Any:
    """The schema without the titles that pydantic makes of names, which say nothing more; a
    property may be called `title`."""
    if is_list(node):
        return [_without_titles(one) for one in node]
    if not is_section(node):
        return node
    kept = {key: one for key, one in node.items() if key != "title" or not isinstance(one, str)}
    return {key: _without_titles(one) for key, one in kept.items()}
