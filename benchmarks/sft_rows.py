"""Tokenised demonstrations for the SFT benchmark: conversations of 1 to 5 of the shipped ones, trained on the last answer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from transformers import AutoTokenizer

from burnish.data.columns import demonstrations
from burnish.data.render import render_response
from burnish.data.sources import read_rows
from burnish.records import Prompt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    turns = [demo.messages for demo in demonstrations(read_rows("builtin:quickstart/demonstrations")).items]
    rows = []
    for number in range(options.count):
        talk = [message for turn in turns[number : number + 1 + number % 5] for message in turn]
        prompt = Prompt(str(number), tuple(talk[:-1]))
        rendered = render_response(tokenizer, prompt, talk[-1]["content"], max_tokens=512)
        rows.append({"prompt_ids": rendered.prompt_tokens, "completion_ids": rendered.response_tokens})
    options.out.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
