"""What a model's files say of it before its weights are read: what kind it is, whether they are whole, whose they are.

Every fault is one line. The libraries below would load most of these: an encoder as a decoder with another mask,
experts or layers that the files lack as random numbers, and results would be about those.
"""

from __future__ import annotations

import filecmp
import re
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from lens_emotion.errors import ModelUnavailableError, UnknownModelError, UnsupportedModelError
from lens_emotion.files.read import MOST, check_regular, kind_of, read_json, read_start
from lens_emotion.models.catalog import TINY, ModelSpec, find_spec

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
_LARGEST_CONFIG = 10 * 2**20  # bytes; those of the hub have some thousand
_MOST_OF = {  # bytes of a file that is opened by its name: the largest tokenizers have some 40 MB
    ".json": MOST, ".jinja": 2**20, ".model": MOST, ".txt": MOST, ".safetensors": 2**50,
}  # fmt: skip
_ANEW = "copy it anew from the original model"
_DECODER = re.compile(r"ForCausalLM\Z|^GPT2LMHeadModel\Z|^OpenAIGPTLMHeadModel\Z")
_EXPERTS = re.compile(r"^(moe_)?(n|num)_(\w+_)?experts$")
_EXPERT_NAMES = re.compile(r"moe(?=For)|Moe|MoE|Mixtral|GptOss|Dbrx|DeepseekV[2-4]|Jamba|Arctic|Grok|SwitchTr|MiniMax")
_OTHER_SENSES = ("image_size", "vision_config", "num_mel_bins", "sampling_rate")
_OTHER_TOWER = re.compile(r"vision|visual|image|audio|multi_modal")  # beside the text model
_MASK = re.compile(r"\.(attn|attention)\.bias$")  # a buffer of older files, not a parameter
_SIZES = {
    "num_hidden_layers": 1000, "n_layer": 1000, "hidden_size": 10**6, "n_embd": 10**6, "num_attention_heads": 10**4,
    "n_head": 10**4, "num_key_value_heads": 10**4, "head_dim": 10**5, "intermediate_size": 10**7, "n_inner": 10**7,
    "vocab_size": 10**8, "max_position_embeddings": 10**9, "n_positions": 10**9,
}  # fmt: skip
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


# What kind of model a config describes.


def check_kind(config: Mapping[str, Any], label: str, place: str = "FOLDER") -> None:
    """Refuse what is no dense decoder.

    Args:
        config: a config.json.
        label: how the model is called. place: where it lies, as `--judge` takes it.

    Raises:
        UnsupportedModelError: a mixture of experts, an encoder, an encoder with a decoder, no architecture at all.
    """
    names = config.get("architectures")
    named = names[0] if isinstance(names, list) and names else None  # a bare name is taken letter by letter below
    if not (isinstance(named, str) and named):
        raise UnsupportedModelError(
            f"{label}: its {CONFIG} names no architecture; add that of its weights, such as "
            '"architectures": ["LlamaForCausalLM"]'
        )
    if _has_experts(config, named):
        raise UnsupportedModelError(
            f"{label} is a mixture of experts ({named}): each token passes through weights of its own, which this "
            "package does not follow; give a dense model"
        )
    inner = _parts(config)
    writes = _DECODER.search(named) or (named.endswith("ForConditionalGeneration") and "text_config" in config)
    both = any(part.get("is_encoder_decoder") for part in inner)
    if writes and not both:
        return
    kind = "an encoder with a decoder" if both else "no language model that continues a text"
    judge = "" if both or any(key in config for key in _OTHER_SENSES) else (
        f"; a sentence encoder may judge steered texts: --judge {place}"
    )  # fmt: skip
    raise UnsupportedModelError(
        f"{label} is {kind} ({named}); give a decoder, whose architecture ends in ForCausalLM{judge}"
    )


def check_sizes(config: Mapping[str, Any], label: str) -> None:
    """Raises ModelUnavailableError for a size in a config.json that no model has: no whole number, none, or absurd."""
    text = config.get("text_config")
    part = text if isinstance(text, Mapping) else config
    for name, most in _SIZES.items():
        size = part.get(name)
        if size is not None and not (type(size) is int and 1 <= size <= most):
            raise ModelUnavailableError(
                f"{label}: {CONFIG} says {name} = {str(size)[:40]}, where a whole number from 1 to {most:,} belongs; "
                "copy the config of the original model"
            )


def check_encoder(config: Mapping[str, Any], label: str, sentences: bool) -> None:
    """Refuse as a judge what embeds no texts.

    Args:
        config: a config.json.
        label: what was given as the judge.
        sentences: sentence-transformers' modules.json lies beside it, which makes an encoder of a decoder too.

    Raises:
        UnsupportedModelError: a decoder, an encoder with a decoder, a model of pictures or sound.
    """
    names = config.get("architectures")
    named = str(names[0] if isinstance(names, list) and names else names or config.get("model_type"))
    writes = re.search(r"For(CausalLM|ConditionalGeneration)$|LMHead", named)
    both = any(part.get("is_encoder_decoder") for part in _parts(config))
    others = any(key in config for key in _OTHER_SENSES)
    if not others and (sentences or not (writes or both)):
        return
    kind = "no model of texts" if others else "an encoder with a decoder" if both else "a decoder, which writes texts"
    remedy = "" if both or others else f"; a decoder may be studied: lens-emotion study {label}"
    raise UnsupportedModelError(
        f"{label} is {kind} ({named}), and cannot judge them; give --judge a sentence encoder, such as "
        f"sentence-transformers/all-MiniLM-L6-v2, or a judge file{remedy}"
    )


def _parts(config: Mapping[Any, Any]) -> list[Mapping[Any, Any]]:
    """The config and the tables in it, such as `text_config`."""
    return [config, *(v for v in config.values() if isinstance(v, Mapping))]


def _has_experts(config: Mapping[str, Any], named: str) -> bool:
    counts = [v for part in _parts(config) for k, v in part.items() if _EXPERTS.match(str(k)) and isinstance(v, int)]
    return max(counts) > 1 if counts else bool(_EXPERT_NAMES.search(named))


# A folder: config, tokenizer, weights.


def read_config(path: Path) -> dict[str, Any]:
    """A config.json.

    Raises:
        ModelUnavailableError: it cannot be read, or holds no JSON table, or one that says a thing twice.
    """
    found = read_json(path, ModelUnavailableError, _ANEW, _LARGEST_CONFIG)
    if not isinstance(found, dict):
        raise ModelUnavailableError(f"cannot read {path}: it holds a {type(found).__name__}, not a table; {_ANEW}")
    return found


def check_folder(path: Path, label: str) -> dict[str, Any]:
    """The config of a Hugging Face model folder that is whole.

    Raises:
        ModelUnavailableError: config, tokenizer or weights are missing, damaged or cut off.
        UnsupportedModelError: as `check_kind`.
    """
    if not (path / CONFIG).is_file():
        adapter = (path / "adapter_config.json").is_file()
        what = (
            "only an adapter; load it upon its model with peft and give that to le.wrap, or merge it (merge_and_unload "
            "and save_pretrained)"
            if adapter
            else "so it is not a Hugging Face model folder; for a GGUF file give the file itself"
        )
        raise ModelUnavailableError(f"{path} has no {CONFIG}, {what}")
    _check_files(path)
    config = read_config(path / CONFIG)
    check_kind(config, label, str(path))
    check_sizes(config, label)
    if not any((path / file).is_file() for file in _TOKENIZER_FILES):
        raise ModelUnavailableError(
            f"{path} has no tokenizer (none of {', '.join(_TOKENIZER_FILES[:3])}); copy the tokenizer files of the "
            "original model into it"
        )
    for file in weight_files(path):
        _check_whole(file)
    return config


def _check_files(path: Path) -> None:
    """Refuse what transformers would wait for, or never end to read: it opens these itself, by their names.

    Raises:
        ModelUnavailableError: a FIFO, a device, a folder, a link to nothing; settings of a size that none have.
    """
    for file in (*path.iterdir(), *path.glob("additional_chat_templates/*")):
        most = _MOST_OF.get(file.suffix)
        if most and check_regular(file, ModelUnavailableError, _ANEW).stat().st_size > most:
            raise ModelUnavailableError(f"{file} has more than {most >> 20} MiB, which is too large for it; {_ANEW}")


def weight_files(path: Path) -> list[Path]:
    """The safetensors files that the weights lie in."""
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    if not (path / INDEX).is_file():
        others = sorted(p.name for p in path.glob("*.safetensors"))
        found = f"none is called {WEIGHTS}, nor is there {INDEX}: {', '.join(others[:3])}" if others else ""
        raise ModelUnavailableError(
            f"{path} has no .safetensors weights ({found or 'pickled .bin files are not loaded'}); "
            f"{'rename them' if others else 'convert them with model.save_pretrained(folder)'}"
        )
    shards = read_config(path / INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(s, str) for s in shards.values()):
        raise ModelUnavailableError(f"{path / INDEX} has no weight_map of file names; copy it anew")
    names = sorted(set(shards.values()))
    if outside := [name for name in names if Path(name).name != name]:
        raise ModelUnavailableError(f"{path / INDEX} names {outside[0][:80]!r}, no file beside it; copy it anew")
    if missing := [name for name in names if kind_of(path / name) != "a file"]:
        raise ModelUnavailableError(
            f"{path} lacks {len(missing)} of {len(names)} files of weights ({_some(missing)}); copy them too"
        )
    return [path / name for name in names]


def _check_whole(file: Path) -> None:
    """Raises ModelUnavailableError for a file of weights that is cut off, or a pointer of Git LFS instead of it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(check_regular(file, ModelUnavailableError, _ANEW)), framework="pt"):
            return
    except (SafetensorError, OSError, ValueError) as error:
        why = str(error).split("\n")[0]
    pointer = read_start(file, 12) == b"version http"
    remedy = "it is a pointer of Git LFS: run `git lfs pull`" if pointer else "it is cut off or damaged: copy it anew"
    raise ModelUnavailableError(f"cannot read the weights {file} ({why}); {remedy}")


# Whose weights a folder holds: a name is not enough.


def row_of_folder(path: Path, config: Mapping[str, Any]) -> ModelSpec | None:
    """The catalog row of the model in a folder: one of the tiny five if its weights are theirs to the byte, another if
    folder and sizes are called so; else None."""
    for spec in TINY:
        own = Path(str(resources.files("lens_emotion.models").joinpath("tiny", spec.name, WEIGHTS)))
        if own.is_file() and (path / WEIGHTS).is_file() and filecmp.cmp(own, path / WEIGHTS, shallow=False):
            return spec
    named = find_spec(path.resolve().name)
    if named is None or not named.hub_id:
        return None
    part = config.get("text_config") or config
    sizes = (part.get("num_hidden_layers", part.get("n_layer")), part.get("hidden_size", part.get("n_embd")))
    same = sizes == (named.n_layers, named.d_model) and str(config.get("model_type", "")).startswith(named.family)
    return named if same else None


def check_one_meaning(name: str, path: Path) -> None:
    """Raises UnknownModelError if a name of the catalog is also a folder with another model."""
    spec = find_spec(name)
    if spec is None or not (path / CONFIG).is_file():
        return
    if not spec.hub_id and row_of_folder(path, {}) is spec:
        return
    other = f"{spec.hub_id if name.lower() == spec.name else spec.name} for that of the hub"
    elsewhere = "work in another folder for that of the package"
    raise UnknownModelError(
        f"'{name}' is a model of the catalog and a folder beside you; give ./{name} for the folder, "
        f"{other if spec.hub_id else elsewhere}"
    )


# What came of loading.


def check_loaded(info: Mapping[str, Collection[Any]], label: str, n_layers: int, ignored: Collection[str] = ()) -> None:
    """Refuse weights that do not fit their config: what the files lack is filled with random numbers, and what the
    model does not use was part of another.

    Args:
        info: as `output_loading_info` of transformers: names of weights that are missing, or not used.
        n_layers: of the config.
        ignored: patterns of names that the model's own code passes over.

    Raises:
        ModelUnavailableError: weights are missing, or of layers that the config does not know, or of a layer's parts
            that the model does not have.
    """
    if missing := sorted(map(str, info.get("missing_keys", ()))):
        raise ModelUnavailableError(
            f"{label}: the files lack {len(missing)} weights that {CONFIG} asks for ({_some(missing)}); copy weights "
            "and config of one model"
        )
    unused = sorted(k for k in map(str, info.get("unexpected_keys", ())) if not any(re.search(p, k) for p in ignored))
    if beyond := [k for k in unused if _layer_of(k) >= n_layers]:
        raise ModelUnavailableError(
            f"{label}: {CONFIG} says {n_layers} layers, but the files hold more ({_some(beyond)}); copy weights and "
            "config of one model"
        )
    if parts := [k for k in unused if _layer_of(k) >= 0 and k.endswith((".weight", ".bias")) and not _MASK.search(k)]:
        raise ModelUnavailableError(
            f"{label}: the files hold {len(parts)} weights of its layers that the model of {CONFIG} does not use "
            f"({_some(parts)}); copy weights and config of one model"
        )


def _layer_of(key: str) -> int:
    found = None if _OTHER_TOWER.search(key) else _LAYER.search(key)
    return int(found[1]) if found else -1


def _some(names: list[str]) -> str:
    return ", ".join(names[:2]) + " ..." * (len(names) > 2)


def check_vocabulary(tokenizer: Any, config: Any, label: str) -> None:
    """Raises ModelUnavailableError for a tokenizer whose own vocabulary the model's embedding does not hold.

    Tokens added to it do not count: Gemma 3's has one for pictures that the text model lacks.
    """
    size, held = int(getattr(tokenizer, "vocab_size", 0)), config.get_text_config().vocab_size
    if size > held:
        raise ModelUnavailableError(
            f"{label}: the tokenizer has {size:,} tokens, the model {held:,}; copy the tokenizer files of this model"
        )
