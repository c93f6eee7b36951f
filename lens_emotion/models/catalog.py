"""The models this package knows by name: the tiny five, the paper's nine, and other small ones of the five families.

Any other hub id or local folder works too; the catalog adds what a study wants to know beforehand: family, base or
instruct, shape, and which stimulus set the model reads.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lens_emotion.errors import UnknownModelError

# What users of a family put in front of a text although its tokenizer adds nothing, and what that is called: GPT-2 was
# trained on documents set apart by this token, and its literature reads every text behind one.
FIRST_TOKENS: Mapping[str, tuple[str, str]] = {"gpt2": ("<|endoftext|>", "GPT-2's convention")}
# Switches of chat templates; a template ignores those it does not know. Models answer without thinking aloud first, and
# templates that write today's date (Llama 3.2) write one fixed day, so that a prompt is the same tomorrow.
TEMPLATE: Mapping[str, Any] = {"enable_thinking": False, "thinking": False, "date_string": "26 Jul 2024"}


@dataclass(frozen=True)
class ModelSpec:
    """One row of the catalog.

    Attributes:
        name: short name for `load_model`.
        hub_id: Hugging Face repository; empty for the models that ship with the package.
        family: "gpt2", "gemma", "qwen", "llama" or "mistral".
        kind: "base" or "instruct".
        millions: parameters in millions.
        n_layers, d_model: shape of the residual stream.
        paper: "named" or "inferred" if arXiv 2604.04064 used it (inferred: not named in its public material), else "".
        stimuli: name of the stimulus set it reads.
        gated: True if the hub asks for a licence to be accepted first.
        template: switches of its chat template; `load_model(..., template={...})` goes before them.
        first_token: put in front of a text whose tokenizer adds nothing itself; empty for most models.
    """

    name: str
    hub_id: str
    family: str
    kind: str
    millions: float
    n_layers: int
    d_model: int
    paper: str = ""
    stimuli: str = "passages"
    gated: bool = False
    template: Mapping[str, Any] = field(default_factory=lambda: dict(TEMPLATE), hash=False)

    @property
    def first_token(self) -> str:
        return FIRST_TOKENS.get(self.family, ("", ""))[0]


def _tiny(family: str, millions: float, stimuli: str = "world-en") -> ModelSpec:
    return ModelSpec(f"tiny-{family}", "", family, "instruct", millions, 6, 64, stimuli=stimuli)


TINY: tuple[ModelSpec, ...] = (
    _tiny("gpt2", 0.4),
    _tiny("gemma", 0.4),
    _tiny("qwen", 0.46, "world-en-zh"),
    _tiny("llama", 0.4),
    _tiny("mistral", 0.4),
)

_S = ModelSpec
CATALOG: tuple[ModelSpec, ...] = (
    *TINY,
    _S("gpt2", "openai-community/gpt2", "gpt2", "base", 124, 12, 768, "named"),
    _S("gpt2-medium", "openai-community/gpt2-medium", "gpt2", "base", 355, 24, 1024),
    _S("gpt2-large", "openai-community/gpt2-large", "gpt2", "base", 774, 36, 1280),
    _S("gpt2-xl", "openai-community/gpt2-xl", "gpt2", "base", 1558, 48, 1600),
    _S("gemma-3-270m", "google/gemma-3-270m", "gemma", "base", 268, 18, 640, gated=True),
    _S("gemma-3-270m-it", "google/gemma-3-270m-it", "gemma", "instruct", 268, 18, 640, gated=True),
    _S("gemma-3-1b-pt", "google/gemma-3-1b-pt", "gemma", "base", 1000, 26, 1152, "inferred", gated=True),
    _S("gemma-3-1b-it", "google/gemma-3-1b-it", "gemma", "instruct", 1000, 26, 1152, "inferred", gated=True),
    _S("gemma-2-2b", "google/gemma-2-2b", "gemma", "base", 2614, 26, 2304, "inferred", gated=True),
    _S("gemma-2-2b-it", "google/gemma-2-2b-it", "gemma", "instruct", 2614, 26, 2304, "inferred", gated=True),
    _S("gemma-2-9b", "google/gemma-2-9b", "gemma", "base", 9242, 42, 3584, gated=True),
    _S("gemma-2-9b-it", "google/gemma-2-9b-it", "gemma", "instruct", 9242, 42, 3584, gated=True),
    _S("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", "qwen", "base", 494, 24, 896),
    _S("qwen2.5-0.5b-instruct", "Qwen/Qwen2.5-0.5B-Instruct", "qwen", "instruct", 494, 24, 896),
    _S("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B", "qwen", "base", 1544, 28, 1536, "inferred"),
    _S("qwen2.5-1.5b-instruct", "Qwen/Qwen2.5-1.5B-Instruct", "qwen", "instruct", 1544, 28, 1536, "inferred"),
    _S("qwen2.5-3b-instruct", "Qwen/Qwen2.5-3B-Instruct", "qwen", "instruct", 3086, 36, 2048),
    _S("qwen2.5-7b-instruct", "Qwen/Qwen2.5-7B-Instruct", "qwen", "instruct", 7616, 28, 3584),
    _S("qwen3-0.6b", "Qwen/Qwen3-0.6B", "qwen", "instruct", 596, 28, 1024),
    _S("qwen3-1.7b", "Qwen/Qwen3-1.7B", "qwen", "instruct", 1721, 28, 2048),
    _S("smollm2-135m", "HuggingFaceTB/SmolLM2-135M", "llama", "base", 135, 30, 576),
    _S("smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct", "llama", "instruct", 135, 30, 576),
    _S("smollm2-360m-instruct", "HuggingFaceTB/SmolLM2-360M-Instruct", "llama", "instruct", 362, 32, 960),
    _S("smollm2-1.7b-instruct", "HuggingFaceTB/SmolLM2-1.7B-Instruct", "llama", "instruct", 1711, 24, 2048),
    _S("tinyllama-1.1b-chat", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "llama", "instruct", 1100, 22, 2048),
    _S("llama-3.2-1b", "meta-llama/Llama-3.2-1B", "llama", "base", 1236, 16, 2048, gated=True),
    _S("llama-3.2-1b-instruct", "meta-llama/Llama-3.2-1B-Instruct", "llama", "instruct", 1236, 16, 2048, gated=True),
    _S("llama-3.2-3b", "meta-llama/Llama-3.2-3B", "llama", "base", 3213, 28, 3072, "named", gated=True),
    _S(
        "llama-3.2-3b-instruct", "meta-llama/Llama-3.2-3B-Instruct", "llama", "instruct", 3213, 28, 3072, "named",
        gated=True,
    ),
    _S("llama-3.1-8b", "meta-llama/Llama-3.1-8B", "llama", "base", 8030, 32, 4096, "named", gated=True),
    _S(
        "llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct", "llama", "instruct", 8030, 32, 4096, "named",
        gated=True,
    ),
    _S("mistral-7b-v0.3", "mistralai/Mistral-7B-v0.3", "mistral", "base", 7248, 32, 4096),
    _S(
        "mistral-7b-instruct-v0.3", "mistralai/Mistral-7B-Instruct-v0.3", "mistral", "instruct", 7248, 32, 4096,
        "named", gated=True,
    ),
)  # fmt: skip


def find_spec(name: object) -> ModelSpec | None:
    """The catalog row of a short name or hub id (case does not matter), or None; no name is nobody's."""
    wanted = name.lower() if isinstance(name, str) else ""
    return next((spec for spec in CATALOG if wanted and wanted in (spec.name, spec.hub_id.lower())), None)


def unknown_model(name: str) -> UnknownModelError:
    """The error for a name that is in no catalog and no folder."""
    names = {spec.name: spec.name for spec in CATALOG} | {s.hub_id.lower(): s.name for s in CATALOG if s.hub_id}
    wanted = name.lower()
    close = difflib.get_close_matches(wanted, names, n=4, cutoff=0.5)
    if len(wanted) > 2:  # shorter, it is in every name
        close += [known for known in names if wanted in known or known in wanted][:4]
    near = list(dict.fromkeys(names[match] for match in close))[:4]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return UnknownModelError(
        f"no model '{name}': {hint}Give a name from `lens-emotion models`, a hub id such as org/model, "
        "a folder with config.json, or a .gguf file"
    )
