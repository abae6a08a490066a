"""Answers that are compared, as tokens: a text, or a trace of several turns of which the model's
own are trained."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from burnish.data.render import (
    RenderedResponse,
    render_demonstration,
    render_prompt,
    render_response,
)
from burnish.errors import UserError
from burnish.records import Demonstration, Message, Prompt


def render_answer(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    text: str,
    trace: Sequence[Message] = (),
    *,
    max_tokens: int,
) -> RenderedResponse:
    """The tokens of `prompt` and of the answer to it: `text`, or the turns of `trace`, where it has
    any.

    Of a trace, what the assistant says and calls is trained; what tools returned is not. Raises
    UserError where the chat template writes the prompt or earlier turns otherwise once there are
    later ones; other errors as `render_response`.
    """
    if not trace:
        return render_response(tokenizer, prompt, text, max_tokens=max_tokens)
    asked = [_untrained(message) for message in prompt.messages]
    demo = Demonstration(prompt.id, (*asked, *trace), prompt.tools, prompt.chat_template_kwargs)
    sequences = render_demonstration(tokenizer, demo, max_tokens=max_tokens)
    before = render_prompt(tokenizer, prompt, max_tokens=max_tokens)
    cut = len(before)
    if len(sequences) != 1 or sequences[0].tokens[:cut] != before:
        raise UserError(
            f"the chat template writes turns of {prompt.id!r} otherwise once there are later ones:"
            " its answers of several turns are no single sequence, and cannot be compared.",
            hint="Set model.chat_template to one that keeps earlier turns as they were.",
        )
    whole = sequences[0]
    return RenderedResponse(before, whole.tokens[cut:], whole.response_mask[cut:])


def _untrained(message: Message) -> Message:
    return {**message, "trainable": False} if message["role"] == "assistant" else message
