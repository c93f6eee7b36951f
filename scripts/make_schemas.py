"""Write the JSON Schemas of this package's files from the models that read them.

python scripts/make_schemas.py            # into lens_emotion/files/schemas
python scripts/make_schemas.py --check    # write nothing; exit code 1, and the names, if one is stale
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lens_emotion.extraction.activations import SCHEMA_VERSION, Header, TextRecord
from lens_emotion.files.artifacts import FORMAT
from lens_emotion.files.user import form_of, schema_of
from lens_emotion.run.config import StudyForm
from lens_emotion.steering.judge_files import JudgeForm
from lens_emotion.stimuli.prompts import PromptForm, ScenarioForm
from lens_emotion.stimuli.sets import StimulusForm

DRAFT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path(__file__).parents[1] / "lens_emotion" / "files" / "schemas"

PerLayer = Annotated[list[float], Field(description="one per layer")]


class Sealed(BaseModel):
    """What every file of ours has around its content; the reader is `files.artifacts`, which checks the seal."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[FORMAT] = Field(description="version of the file; 1 had no checksum")  # type: ignore[valid-type]
    sha256: str = Field(
        pattern="^[0-9a-f]{64}$", description="of all other keys and of every tensor (docs/file-formats.md)"
    )
    header: form_of(Header)  # type: ignore[valid-type]


class PooledActivations(Sealed):
    """JSON under the metadata key 'lens_emotion' of a safetensors file. Tensors, float32: values [texts, layers,
    d_model], residual_norm [layers]."""

    kind: Literal["PooledActivations"]
    records: list[form_of(TextRecord)] = Field(  # type: ignore[misc]
        description="one per text, in the order of 'values'"
    )


class EmotionVectors(Sealed):
    """JSON under the metadata key 'lens_emotion' of a safetensors file. Tensors, float32: directions [emotions, layers,
    d_model] of length 1, norms and natural [emotions, layers], residual_norm [layers]."""

    kind: Literal["EmotionVectors"]
    emotions: list[str] = Field(
        min_length=1, description="in the order of 'directions'", json_schema_extra={"uniqueItems": True}
    )


class EmotionVector(Sealed):
    """JSON under the key 'lens_emotion.vector' of a GGUF control vector. Tensors, 1-D float32: direction.K, what is
    added to the output of block K (from 0), K >= 1."""

    kind: Literal["EmotionVector"]
    name: str
    dose: float = Field(description="natural units that scale 1 is", json_schema_extra={"not": {"const": 0}})
    n_layers: int = Field(ge=1)
    norm: PerLayer
    natural: PerLayer
    residual_norm: PerLayer
    layer_0: list[float] = Field([], description="what is added to the output of block 0, which GGUF cannot hold")


# file -> its model, and the version of its form
FORMS: dict[str, tuple[Any, int]] = {
    "study": (StudyForm, 1),
    "stimuli": (StimulusForm, 1),
    "prompts": (PromptForm, 1),
    "scenarios": (ScenarioForm, 1),
    "judge": (JudgeForm, 1),
    "pooled_activations": (PooledActivations, FORMAT),
    "emotion_vectors": (EmotionVectors, FORMAT),
    "control_vector": (EmotionVector, FORMAT),
}


def schema(name: str) -> dict[str, Any]:
    """The schema of a file, with its name; a header's and a record's fields are described as their classes say."""
    form, version = FORMS[name]
    made: dict[str, Any] = json.loads(json.dumps(schema_of(form)))
    for cls in (Header, TextRecord):
        own = made.get("$defs", {}).get(cls.__name__, {}).get("properties", {})
        for key, words in described(cls):
            if key in own:
                own[key]["description"] = words
    if "Header" in made.get("$defs", {}):
        made["$defs"]["Header"]["properties"]["schema"]["const"] = SCHEMA_VERSION
        made["$defs"]["Header"]["required"].append("schema")
    made["description"] = " ".join(made["description"].split())
    named = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:lens-emotion:schema:{name}:{version}",
    }
    return named | made


def described(cls: type) -> Iterator[tuple[str, str]]:
    """The fields that a class's docstring explains under "Attributes:"."""
    said = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    for found in re.finditer(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", said, re.MULTILINE):
        yield found[1], " ".join(found[2].split()).removesuffix(".")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a schema is stale")
    check, stale = parser.parse_args(arguments).check, []
    for name in FORMS:
        path, text = FOLDER / f"{name}.json", json.dumps(schema(name), ensure_ascii=False, indent=1) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path)
            if not check:
                path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path} is stale; run python scripts/make_schemas.py" if check else path)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
