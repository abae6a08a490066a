"""A run's pretrained model without its weights."""

from __future__ import annotations

from typing import Any

from burnish.models import sources
from burnish.models.loading.folder import read_config
from burnish.models.loading.vocabulary import load_tokenizer
from burnish.models.supported import read_model_type
from burnish.models.tiny import tiny_model, tiny_tokenizer
from burnish.stages.chat_settings import settle
from burnish.stages.context import Run


def configuration_of(run: Run) -> tuple[dict[str, Any], Any]:
    """(configuration, tokenizer) of the model that the recipe names."""
    source = sources.resolve(run.recipe.model.name, say=run.say)
    if source.folder is None:
        config, tokenizer = tiny_model().config.to_dict(), tiny_tokenizer()
    else:
        read_model_type(source.folder)
        config, tokenizer = (
            read_config(source.folder),
            load_tokenizer(source.tokenizer or source.folder),
        )
    settle(tokenizer, run.recipe.model, own=True)
    return config, tokenizer
