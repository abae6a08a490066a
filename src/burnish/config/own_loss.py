"""A preference loss that is a user's own function. Torch-free: what it is given is read from its
signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from burnish.config.hints import nearest
from burnish.config.narrow import is_section
from burnish.config.sections import Section, SftTerm
from burnish.errors import UserError
from burnish.own_code import own

PAIRED = (
    "chosen_logprobs", "rejected_logprobs", "ref_chosen_logprobs", "ref_rejected_logprobs",
    "chosen_tokens",
    "rejected_tokens", "probability", "margin",
)  # fmt: skip
"""What a loss of pairs may ask for, a tensor [pairs] each."""
UNPAIRED = ("logprobs", "ref_logprobs", "kl", "probability")
"""What a loss that judges answers singly may ask for: tensors [answers], and the number `kl`."""


class OwnLoss(Section):
    """A function of your own: `loss: folder/file.py:NAME` (docs/extending.md)."""

    name: Annotated[str, Field(pattern=r"^.+:.+$", max_length=4096)]
    """package.module:NAME or folder/file.py:NAME."""
    options: dict[str, bool | int | float | str] = Field(default={})
    """What it takes besides what every loss is given; they may stand beside `name` too."""
    sft: SftTerm = SftTerm()
    """Added to the preference loss."""

    @model_validator(mode="before")
    @classmethod
    def _options_beside(cls, given: Any) -> Any:
        if not is_section(given):
            return given
        beside = {key: value for key, value in given.items() if key not in cls.model_fields}
        kept = {key: value for key, value in given.items() if key not in beside}
        return {**kept, "options": {**given.get("options", {}), **beside}} if beside else kept

    @model_validator(mode="after")
    def _fits(self) -> OwnLoss:
        try:
            function = self.function()
        except UserError as error:
            raise ValueError(
                f"the loss {self.name} cannot be had: {error.problem}".rstrip(".")
            ) from None
        if not callable(function):
            raise ValueError(
                f"the loss {self.name} is {type(function).__name__}, which cannot be called"
            )
        known = _parameters(function)
        given = UNPAIRED if "logprobs" in known else PAIRED
        if not {"logprobs", "chosen_logprobs"} & known.keys():
            raise ValueError(
                f"the loss {self.name} takes neither chosen_logprobs, as one of pairs does, nor"
                " logprobs"
            )
        options = [name for name in known if name not in given]
        unknown = next((name for name in self.options if name not in options), None)
        if unknown is not None:
            near = nearest(unknown, options)
            hint = f'did you mean "{near}"?' if near else f"it has {', '.join(options) or 'none'}"
            raise ValueError(f"the loss {self.name} has no option {unknown}: {hint}")
        missing = [
            name
            for name in options
            if known[name] is inspect.Parameter.empty and name not in self.options
        ]
        if missing:
            hint = "it is no option that has a default, and nothing that a loss is given"
            raise ValueError(
                f"the loss {self.name} wants {missing[0]}: {hint}; give it in options, or rename it"
            )
        return self

    def function(self) -> Callable[..., Any]:
        """What it names, imported."""
        return own(self.name, field="loss.name", fresh=False)

    def takes(self) -> tuple[str, ...]:
        """What it asks for of what every loss is given."""
        known = _parameters(self.function())
        return tuple(
            name for name in (UNPAIRED if "logprobs" in known else PAIRED) if name in known
        )


def _parameters(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The parameters that can be given by name, with their defaults."""
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {
        one.name: one.default
        for one in inspect.signature(function).parameters.values()
        if one.kind in named
    }
