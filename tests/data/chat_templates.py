"""Stand-ins for the chat templates of common families, written from what the originals do; and a
tokenizer that has their tokens.

Each is as short as its behaviour allows: what begins and ends a turn, what becomes of reasoning in
earlier turns, which roles there are, what a prompt opens for the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from burnish.models.tiny import tiny_tokenizer

_GEN = "{%- if add_generation_prompt %}"
_STRIP = (
    "{%- set said = m.content.split('</think>')[-1].lstrip('\\n') if '</think>' in m.content else"
    " m.content %}"
)


@dataclass(frozen=True)
class Family:
    """A template, its special tokens (the end of a turn first), its other tokens, and facts that
    the tests hold it to."""

    template: str
    end: str
    special: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    bos: str | None = None
    eos: str | None = None  # where it is another than the end of a turn
    wraps: tuple[str, str] = ("", "")  # what it writes round an answer, before the end token
    header: str = ""  # what a prompt ends with
    system: bool = True
    apart: bool = False  # each turn of a conversation is a sequence of its own


CHATML = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%-"
    " endfor %}" + _GEN + "{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)
_IM = ("<|im_start|>",)
_IM_HEADER = "<|im_start|>assistant\n"

QWEN25 = (
    "{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n'"
    " }}{%- endif %}" + CHATML
)
QWEN3 = (
    "{%- set ns = namespace(last=0) %}{%- for m in messages %}{%- if m.role == 'user' %}{%- set"
    " ns.last = loop.index0 %}{%- endif %}{%- endfor %}{%- for m in messages %}{%- if m.role =="
    " 'assistant' %}{%- set think = m.reasoning_content or '' %}{%- set said = m.content %}{%- if"
    " '</think>' in m.content %}{%- set said = m.content.split('</think>')[-1].lstrip('\\n') %}{%-"
    " set think = m.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n')"
    " %}{%- endif %}{{- '<|im_start|>assistant\\n' }}{%- if loop.index0 > ns.last and (loop.last or"
    " think) %}{{- '<think>\\n' + think.strip('\\n') + '\\n</think>\\n\\n' + said.lstrip('\\n')"
    " }}{%- else %}{{- said }}{%- endif %}{{- '<|im_end|>\\n' }}{%- else %}{{- '<|im_start|>' +"
    " m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    + _GEN
    + "{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and enable_thinking is"
    " false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
QWEN35 = QWEN3.replace(
    "{%- if enable_thinking is defined and enable_thinking is false %}{{-"
    " '<think>\\n\\n</think>\\n\\n' }}",
    "{%- if enable_thinking is defined and enable_thinking is false %}{{-"
    " '<think>\\n\\n</think>\\n\\n' }}{%- else %}{{- '<think>\\n' }}",
)
SMOLLM3 = (
    "{%- set mode = '/no_think' if enable_thinking is defined and not enable_thinking else '/think'"
    " %}{{- '<|im_start|>system\\n## Metadata\\nToday Date: ' + strftime_now('%d %B %Y') +"
    " '\\nReasoning Mode: ' + mode + '\\n' }}{%- if messages[0].role == 'system' %}{{-"
    " messages[0].content }}{%- set rest = messages[1:] %}{%- else %}{{- 'Put thoughts in <think>"
    " ... </think>.' }}{%- set rest = messages %}{%- endif %}{{- '<|im_end|>\\n' }}{%- for m in"
    " rest %}{{- '<|im_start|>' + m.role + '\\n' }}{%- if m.role == 'assistant' and mode =="
    " '/no_think' %}{{- '<think>\\n\\n</think>\\n' }}{%- endif %}{{- m.content.lstrip('\\n') +"
    " '<|im_end|>\\n' }}{%- endfor %}" + _GEN + "{{- '<|im_start|>assistant\\n' }}"
    "{%- if mode == '/no_think' %}{{- '<think>\\n\\n</think>\\n' }}{%- endif %}{%- endif %}"
)
LLAMA3 = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}{%- set"
    " date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%-"
    " endif %}{%- endif %}{%- if messages[0].role == 'system' %}{%- set system ="
    " messages[0].content | trim %}{%- set rest = messages[1:] %}{%- else %}{%- set system = ''"
    " %}{%- set rest = messages %}{%- endif %}{{-"
    " '<|start_header_id|>system<|end_header_id|>\\n\\n' }}{%- if tools is not none %}{{-"
    " 'Environment: ipython\\n' }}{%- endif %}{{- 'Cutting Knowledge Date: December 2023\\nToday"
    " Date: ' + date_string + '\\n\\n' }}{%- if tools is not none %}{%- for t in tools %}{{- t |"
    " tojson(indent=4) + '\\n\\n' }}{%- endfor %}{%- endif %}{{- system + '<|eot_id|>' }}{%- for m"
    " in rest %}{%- if m.tool_calls %}{%- set call = m.tool_calls[0].function %}{{-"
    ' \'<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "\' + call.name + \'",'
    " \"parameters\": ' }}{{- call.arguments | tojson }}{{- '}<|eot_id|>' }}{%- elif m.role =="
    " 'tool' %}{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}{%- if m.content is"
    " mapping or m.content is iterable %}{{- m.content | tojson }}{%- else %}{{- m.content }}{%-"
    " endif %}{{- '<|eot_id|>' }}{%- else %}{{- '<|start_header_id|>' + m.role +"
    " '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}{%- endif %}{%- endfor %}"
    + _GEN
    + "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
GEMMA = (
    "{{ bos_token }}{%- if messages[0].role == 'system' %}{{ raise_exception('System role not"
    " supported') }}{%- endif %}{%- for m in messages %}{%- if (m.role == 'user') != (loop.index0 %"
    " 2 == 0) %}{{ raise_exception('Roles must alternate') }}{%- endif %}{{ '<start_of_turn>' +"
    " ('model' if m.role == 'assistant' else m.role) + '\\n' + m.content | trim +"
    " '<end_of_turn>\\n' }}{%- endfor %}" + _GEN + "{{ '<start_of_turn>model\\n' }}{%- endif %}"
)
GEMMA3 = (
    "{{ bos_token }}{%- if messages[0].role == 'system' %}{%- set prefix = messages[0].content +"
    " '\\n\\n' %}{%- set rest = messages[1:] %}{%- else %}{%- set prefix = '' %}{%- set rest ="
    " messages %}{%- endif %}{%- for m in rest %}{{ '<start_of_turn>' + ('model' if m.role =="
    " 'assistant' else m.role) + '\\n' }}{{ prefix if loop.first else '' }}{{ m.content | trim }}{{"
    " '<end_of_turn>\\n' }}{%- endfor %}" + _GEN + "{{ '<start_of_turn>model\\n' }}{%- endif %}"
)
MISTRAL = (
    "{{ bos_token }}{%- if messages[0].role == 'system' %}{%- set system = messages[0].content"
    " %}{%- set rest = messages[1:] %}{%- else %}{%- set rest = messages %}{%- endif %}{%- for m in"
    " rest %}{%- if m.role == 'user' %}{%- if loop.last and system is defined %}{{ '[INST] ' +"
    " system + '\\n\\n' + m.content + '[/INST]' }}{%- else %}{{ '[INST] ' + m.content + '[/INST]'"
    " }}{%- endif %}{%- else %}{{ ' ' + m.content | trim + eos_token }}{%- endif %}{%- endfor %}"
)
MISTRAL7 = (
    "{{ bos_token }}{%- for m in messages %}{%- if m.role == 'system' %}{{ '[SYSTEM_PROMPT]' +"
    " m.content + '[/SYSTEM_PROMPT]' }}{%- elif m.role == 'user' %}{{ '[INST]' + m.content +"
    " '[/INST]' }}{%- else %}{{ m.content + eos_token }}{%- endif %}{%- endfor %}"
)
LLAMA2 = (
    "{%- if messages[0].role == 'system' %}{%- set system = '<<SYS>>\\n' + messages[0].content +"
    " '\\n<</SYS>>\\n\\n' %}{%- set rest = messages[1:] %}{%- else %}{%- set system = '' %}{%- set"
    " rest = messages %}{%- endif %}{%- for m in rest %}{%- if m.role == 'user' %}{{ bos_token +"
    " '[INST] ' + (system if loop.first else '') + m.content | trim + ' [/INST]' }}{%- else %}{{ '"
    " ' + m.content | trim + ' ' + eos_token }}{%- endif %}{%- endfor %}"
)
PHI3 = (
    "{%- for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{%- endfor %}"
    + _GEN
    + "{{ '<|assistant|>\\n' }}{%- else %}{{ eos_token }}{%- endif %}"
)
PHI4 = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>'"
    " }}{%- endfor %}" + _GEN + "{{ '<|im_start|>assistant<|im_sep|>' }}{%- endif %}"
)
PHI4_REASONING = (
    "{%- for m in messages %}{%- if m.role == 'assistant' and not loop.last %}"
    + _STRIP
    + "{%- else %}"
    "{%- set said = m.content %}{%- endif %}"
    "{{- '<|im_start|>' + m.role + '<|im_sep|>' + said + '<|im_end|>' }}{%- endfor %}"
    + _GEN
    + "{{- '<|im_start|>assistant<|im_sep|>' }}{%- endif %}"
)
GPT_OSS = (
    "{{- '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}{%-"
    " for m in messages %}{%- if m.role == 'assistant' %}{%- if '<|channel|>' in m.content %}{{-"
    " raise_exception('no channels in content') }}{%- endif %}{%- if loop.last and m.thinking %}{{-"
    " '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{%- endif %}{{-"
    " '<|start|>assistant<|channel|>final<|message|>' + m.content }}{{- '<|return|>' if loop.last"
    " and not add_generation_prompt else '<|end|>' }}{%- else %}{{- '<|start|>' + ('developer' if"
    " m.role == 'system' else m.role) + '<|message|>' + m.content + '<|end|>' }}{%- endif %}{%-"
    " endfor %}" + _GEN + "{{- '<|start|>assistant' }}{%- endif %}"
)
_R1_TURNS = (
    "{{- bos_token }}{%- for m in messages %}{%- if m.role == 'system' %}{{- m.content }}{%- elif"
    " m.role == 'user' %}{{- '<｜User｜>' + m.content }}{%- else %}{{- '<｜Assistant｜>' +"
    " m.content.split('</think>')[-1] + eos_token }}{%- endif %}{%- endfor %}"
)
DEEPSEEK_V3 = _R1_TURNS + _GEN + "{{- '<｜Assistant｜>' }}{%- endif %}"
DEEPSEEK_R1 = _R1_TURNS + _GEN + "{{- '<｜Assistant｜><think>\\n' }}{%- endif %}"
NEMOTRON3 = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}{%- if m.role == 'assistant'"
    " %}{{- '<think></think>' + m.content.split('</think>')[-1] }}{%- else %}{{- m.content }}{%-"
    " endif %}{{- '<|im_end|>\\n' }}{%- endfor %}"
    + _GEN
    + "{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
)
GLM4 = (
    "[gMASK]<sop>{%- for m in messages %}{{- '<|' + m.role + '|>\\n' }}{%- if m.role =="
    " 'assistant' %}"
    + _STRIP
    + "{{- said }}{%- else %}{{- m.content }}{%- endif %}{%- endfor %}"
    + _GEN
    + "{{- '<|assistant|>\\n' }}{%- endif %}"
)
OLMO2 = (
    "{{- bos_token }}{%- for m in messages %}{%- if m.role == 'assistant' %}{{- '<|assistant|>\\n'"
    " + m.content }}{{- eos_token + ('' if loop.last else '\\n') }}{%- else %}{{- '<|' + m.role +"
    " '|>\\n' + m.content + '\\n' }}{%- endif %}{%- endfor %}"
    + _GEN
    + "{{- '<|assistant|>\\n' }}{%- endif %}"
)
TULU = OLMO2.replace("{{- bos_token }}", "")
GRANITE3 = (
    "{%- if messages[0].role != 'system' %}{{- '<|start_of_role|>system<|end_of_role|>Today is ' +"
    " strftime_now('%B %d, %Y') + '.<|end_of_text|>\\n' }}{%- endif %}{%- for m in messages %}{{-"
    " '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\\n' }}{%-"
    " endfor %}" + _GEN + "{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"
)
ZEPHYR = (
    "{%- for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}{%-"
    " endfor %}" + _GEN + "{{ '<|assistant|>\\n' }}{%- endif %}"
)
COMMAND = (
    "{{ bos_token }}{%- for m in messages %}{{ '<|START_OF_TURN_TOKEN|><|' + ('CHATBOT' if m.role"
    " == 'assistant' else m.role | upper) }}{{ '_TOKEN|>' + m.content | trim +"
    " '<|END_OF_TURN_TOKEN|>' }}{%- endfor %}"
    + _GEN
    + "{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{%- endif %}"
)

_THINK = ("<think>", "</think>")
FAMILIES = {
    "chatml": Family(CHATML, "<|im_end|>", _IM, header=_IM_HEADER),
    "qwen 2.5": Family(QWEN25, "<|im_end|>", _IM, header=_IM_HEADER),
    "qwen 3": Family(
        QWEN3, "<|im_end|>", _IM, _THINK, wraps=("<think>\n\n</think>\n\n", ""), header=_IM_HEADER,
        apart=True
    ),
    "qwen 3.5": Family(
        QWEN35, "<|im_end|>", _IM, _THINK, wraps=("\n</think>\n\n", ""),
        header=_IM_HEADER + "<think>\n", apart=True
    ),
    "smollm 3": Family(SMOLLM3, "<|im_end|>", _IM, _THINK, header=_IM_HEADER),
    "llama 3": Family(
        LLAMA3, "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>"), bos="<|begin_of_text|>",
        header="<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "gemma": Family(
        GEMMA, "<end_of_turn>", ("<start_of_turn>",), bos="<bos>", header="<start_of_turn>model\n",
        system=False
    ),
    "gemma 3": Family(GEMMA3, "<end_of_turn>", ("<start_of_turn>",), bos="<bos>",
        header="<start_of_turn>model\n"),
    "mistral v3": Family(MISTRAL, "</s>", ("[INST]", "[/INST]"), bos="<s>", wraps=(" ", ""),
        header="[/INST]"),
    "mistral v7": Family(
        MISTRAL7, "</s>", ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"), bos="<s>",
        header="[/INST]"
    ),
    "llama 2": Family(LLAMA2, "</s>", bos="<s>", wraps=(" ", " "), header=" [/INST]"),
    "phi 3": Family(
        PHI3, "<|end|>", ("<|user|>", "<|assistant|>", "<|system|>"), eos="<|endoftext|>",
        header="<|assistant|>\n"
    ),
    "phi 4": Family(PHI4, "<|im_end|>", (*_IM, "<|im_sep|>"),
        header="<|im_start|>assistant<|im_sep|>"),
    "phi 4 reasoning": Family(
        PHI4_REASONING, "<|im_end|>", (*_IM, "<|im_sep|>"), _THINK,
        header="<|im_start|>assistant<|im_sep|>"
    ),
    "gpt-oss": Family(
        GPT_OSS, "<|return|>", ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|call|>"),
        wraps=("<|channel|>final<|message|>", ""), header="<|start|>assistant", apart=True,
    ),
    "deepseek v3": Family(
        DEEPSEEK_V3, "<｜end▁of▁sentence｜>", added=("<｜User｜>", "<｜Assistant｜>"),
        bos="<｜begin▁of▁sentence｜>",
        header="<｜Assistant｜>",
    ),
    "deepseek r1": Family(
        DEEPSEEK_R1, "<｜end▁of▁sentence｜>", added=("<｜User｜>", "<｜Assistant｜>", *_THINK),
        bos="<｜begin▁of▁sentence｜>",
        wraps=("\n</think>\n\n", ""), header="<｜Assistant｜><think>\n", apart=True,
    ),
    "nemotron 3": Family(
        NEMOTRON3, "<|im_end|>", _IM, _THINK, wraps=("\n</think>\n\n", ""),
        header=_IM_HEADER + "<think>\n", apart=True
    ),
    "glm 4": Family(
        GLM4, "<|user|>", ("[gMASK]", "<sop>", "<|assistant|>", "<|system|>"), _THINK,
        eos="<|endoftext|>",
        header="<|assistant|>\n",
    ),
    "olmo 2": Family(OLMO2, "<|endoftext|>", bos="<|endoftext|>", header="<|assistant|>\n"),
    "tulu 3": Family(TULU, "<|end_of_text|>", header="<|assistant|>\n"),
    "granite 3": Family(
        GRANITE3, "<|end_of_text|>", ("<|start_of_role|>", "<|end_of_role|>"),
        header="<|start_of_role|>assistant<|end_of_role|>"
    ),
    "zephyr": Family(ZEPHYR, "</s>", bos="<s>", header="<|assistant|>\n"),
    "command": Family(
        COMMAND, "<|END_OF_TURN_TOKEN|>",
        ("<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|USER_TOKEN|>", "<|SYSTEM_TOKEN|>"),
        bos="<BOS_TOKEN>", header="<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    ),
}  # fmt: skip


def tokenizer_of(family: Family) -> PreTrainedTokenizerFast:
    """Bytes, and the family's tokens."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"eos_token": family.eos or family.end})
    if family.bos is not None:
        tokenizer.add_special_tokens({"bos_token": family.bos})
    tokenizer.add_special_tokens({"extra_special_tokens": [*family.special, family.end]})
    tokenizer.add_tokens(list(family.added))
    tokenizer.chat_template = family.template
    return tokenizer
