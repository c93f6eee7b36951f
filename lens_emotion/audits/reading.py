"""From what people hold to a `Subject`: objects, arrays, files and folders, of this package and of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.audits.names import PLAIN, emotions_at_layers, layer_of, named_rows
from lens_emotion.audits.runs import experiment_tables, run_subject, set_of
from lens_emotion.audits.subject import Arm, Subject, VectorSet
from lens_emotion.audits.table import CALLED, SUFFIXES, check_columns, read_frame, table_of
from lens_emotion.errors import ArtifactError
from lens_emotion.extraction.activations import KIND as ACTIVATIONS
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.files.read import check_regular, kind_of, read_bytes, strict_json
from lens_emotion.files.user import shown
from lens_emotion.run.look import MANIFEST
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.vectors.emotion_vectors import KIND as VECTORS
from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors
from lens_emotion.vectors.interchange import as_set, read_control_file

LARGEST = 2**31  # bytes of arrays: those of a 70B model's vectors are far fewer
FILES = (".safetensors", ".gguf", ".npy", ".npz", *SUFFIXES)
TAKES = (
    "give a run folder, vectors (EmotionVectors, arrays, a steering-vectors or repeng object), PooledActivations, a "
    f"DataFrame, a file ({', '.join(FILES)}) or a folder of files"
)


def subject_of(
    given: Any, columns: Mapping[str, str] | None = None, n_emotions: int | None = None, emotions: Sequence[str] = (),
    name: str = "",
) -> Subject:  # fmt: skip
    """Whatever is to be audited.

    Args:
        columns, n_emotions: of tables. emotions: names of the rows of arrays.

    Raises:
        ArtifactError: nothing that can be audited, or a file that cannot be read.
    """

    check_columns(columns or {})

    def read(thing: Any, called: str) -> Subject:
        return subject_of(thing, columns, n_emotions, emotions, called)

    if isinstance(given, str | Path) and str(given):  # no words are no path, which would be the folder one stands in
        return _of_path(Path(given), read)
    if isinstance(given, pd.DataFrame | pd.Series):
        frame = given.to_frame().reset_index() if isinstance(given, pd.Series) else _with_index(given)
        return Subject(name or "table", tables=(table_of(frame, columns, n_emotions, name or "table"),))
    if (found := _of_object(given, name)) is not None:
        return found
    if isinstance(given, Mapping):
        return _of_mapping(given, read, name)
    if _is_numeric(given) and not _is_list_of_sets(given):
        return Subject(name or "array", vectors=(_of_array(given, emotions, name or "array"),))
    if isinstance(given, Sequence) and not isinstance(given, str) and given:
        if all(isinstance(x, str | Path) and Path(x).suffix.lower() == ".npy" for x in given):
            held = {Path(x): _load(Path(x)) for x in given}
            if {a.ndim for a in held.values()} == {1}:
                return _of_arrays(held, read, name)
        parts = [read(x, f"{name or 'set'} {i}" if _unnamed(x) else name) for i, x in enumerate(given, 1)]
        return replace(_together(parts, name), name=name or f"{len(parts)} parts")
    raise ArtifactError(f"{shown(given)[:80]} cannot be audited; {TAKES}")


def _of_object(given: Any, name: str) -> Subject | None:
    """Objects of this package, of steering-vectors and of repeng; None of others."""
    if isinstance(given, PooledActivations):
        return Subject(name or repr(given), arms=(Arm(name or _called(given), given, given.header.fingerprint),))
    if isinstance(given, EmotionVector | EmotionVectors):
        return Subject(name or repr(given), vectors=(_ours(given, name),))
    if isinstance(given, DoseResponse):
        return Subject(name or "steering", tables=experiment_tables(given, name or "steering"))
    if isinstance(folder := getattr(given, "folder", None), str | Path):  # a StudyRun
        return run_subject(Path(folder))
    if isinstance(directions := _of_other_tool(given), Mapping):
        return Subject(name or type(given).__name__, vectors=(_by_layer(directions, name or "vector"),))
    return None


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Names in the index are columns too."""
    named = [n for n in frame.index.names if n is not None and n not in frame.columns]
    return frame.reset_index() if named else frame


def _called(acts: PooledActivations) -> str:
    h = acts.header
    return ", ".join(x for x in (h.model, h.method, h.variant, h.pooling, h.dtype) if x)


def _unnamed(thing: Any) -> bool:
    return not isinstance(thing, PooledActivations | str | Path)


def _is_numeric(given: Any) -> bool:
    try:
        return _array(given).dtype.kind in "fiu"
    except (ValueError, TypeError, RuntimeError):
        return False


def _is_list_of_sets(given: Any) -> bool:
    """Whether these are tables, or sets [emotions, layers, d_model], in a list: NumPy would stack what is alike."""
    if not isinstance(given, list | tuple) or not given:
        return False
    return isinstance(given[0], pd.DataFrame) or (hasattr(given[0], "shape") and len(given[0].shape) == 3)


def _array(given: Any) -> Float[np.ndarray, "..."]:
    """Numbers of any kind, of any precision, on any device; NaN allowed."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
        given = (given if given.dtype.is_floating_point else given.float()).float().numpy()
    return np.asarray(given)


def _of_other_tool(given: Any) -> Any:
    return getattr(given, "layer_activations", None) or getattr(given, "directions", None)


def _ours(given: EmotionVector | EmotionVectors, name: str) -> VectorSet:
    """Displacements of one natural unit."""
    called = name or f"{given.header.model}, {given.header.recipe or given.header.method}"
    return set_of(given if isinstance(given, EmotionVectors) else as_set([given]), called)


def _of_array(given: Any, emotions: Sequence[str], name: str) -> VectorSet:
    values = _array(given).astype(np.float32)
    if values.ndim not in (1, 2, 3) or not values.size:
        raise ArtifactError(f"{name} is {list(values.shape)}; give [emotions, layers, d_model], or [emotions, d_model]")
    values = values.reshape(1, 1, -1) if values.ndim == 1 else values[:, None] if values.ndim == 2 else values
    if emotions and len(emotions) != len(values):
        raise ArtifactError(f"{name} holds {len(values)} vectors, but {len(emotions)} emotions are named; name each")
    names = tuple(emotions) or tuple(f"{i}" for i in range(len(values)))
    return VectorSet(name, names, values, tuple(range(values.shape[1])))


def _by_layer(parts: Mapping[Any, Any], name: str) -> VectorSet:
    rows = {layer_of(k): _array(v).squeeze() for k, v in parts.items()}
    if None in rows or len({r.shape for r in rows.values()}) != 1 or next(iter(rows.values())).ndim != 1:
        raise ArtifactError(
            f"{name} holds {', '.join(map(str, parts))[:80]}; give a vector of one width for each layer"
        )
    layers = tuple(sorted(k for k in rows if k is not None))
    return VectorSet(name, (name,), np.stack([rows[k] for k in layers])[None].astype(np.float32), layers)


def _of_mapping(given: Mapping[Any, Any], read: Any, name: str) -> Subject:
    """{layer: vector}; {emotion: vector, or vectors by layer}; {column: values}; {name: anything else}."""
    if not given:
        raise ArtifactError(f"an empty {type(given).__name__} cannot be audited; {TAKES}")
    if all(layer_of(k) is not None for k in given) and all(_is_numeric(v) for v in given.values()):
        return Subject(name or "vector", vectors=(_by_layer(given, name or "vector"),))
    if len(given) == 1 and str(next(iter(given))).lower() in PLAIN and _is_numeric(only := next(iter(given.values()))):
        if not name or _array(only).squeeze().ndim != 1:
            return read(only, name)
        return Subject(name, vectors=(_of_emotions({name: _array(only).squeeze()}, name),))
    if (found := named_rows(given)) is not None:
        return Subject(name or "vectors", vectors=(_of_array(given[found[0]], found[1], name or "vectors"),))
    if all(_is_numeric(v) and _array(v).squeeze().ndim == 1 for v in given.values()) and (
        grid := emotions_at_layers(tuple(given))
    ):
        sets = tuple(_by_layer({k: given[key] for k, key in at.items()}, emotion) for emotion, at in grid.items())
        return Subject(name or "vectors", vectors=_joined(sets, name))
    if all(_is_numeric(v) or (isinstance(v, list | tuple) and v and isinstance(v[0], str)) for v in given.values()):
        widths = {np.shape(_array(v)) if _is_numeric(v) else () for v in given.values()}
        if any(not _is_numeric(v) for v in given.values()) or (all(len(w) == 1 for w in widths) and _is_columns(given)):
            return read(pd.DataFrame(dict(given)), name)
        if len(widths) == 1 and len(next(iter(widths))) < 3:
            return Subject(name or "vectors", vectors=(_of_emotions(given, name or "vectors"),))
    single = {k: v for k, v in given.items() if isinstance(v, Mapping | EmotionVector) or _of_other_tool(v) is not None}
    parts = [replace(read(v, str(k)), name=name) for k, v in given.items()]
    together = _together(parts, name or f"{len(parts)} parts")
    return replace(together, vectors=_joined(together.vectors, name)) if len(single) == len(given) else together


def _is_columns(given: Mapping[Any, Any]) -> bool:
    return sum(str(k).lower() in CALLED for k in given) > 1


def _of_emotions(given: Mapping[Any, Any], name: str) -> VectorSet:
    rows = np.stack([_array(v) for v in given.values()]).astype(np.float32)
    rows = rows[:, None] if rows.ndim == 2 else rows
    return VectorSet(name, tuple(map(str, given)), rows, tuple(range(rows.shape[1])))


def _joined(sets: Sequence[VectorSet], name: str) -> tuple[VectorSet, ...]:
    """Single vectors of the same layers, width and model as one set; whatever is a set already stays one."""
    groups: dict[tuple[Any, ...], list[VectorSet]] = {}
    for i, s in enumerate(sets):
        alone = (s.layers, s.values.shape[2], s.model) if len(s.emotions) == 1 else (i,)
        groups.setdefault(alone, []).append(s)
    made = []
    for held in groups.values():
        first, names = held[0], [e for s in held for e in s.emotions]
        if len(held) == 1 or len(set(names)) < len(names):
            made += held
            continue
        made.append(
            replace(
                first, name=name or "vectors", emotions=tuple(names), values=np.concatenate([s.values for s in held])
            )
        )
    return tuple(made)


def _together(parts: Iterable[Subject], name: str) -> Subject:
    found = Subject(name)
    for part in parts:
        found = found + part
    return replace(found, name=name or found.name)


def _of_path(path: Path, read: Any) -> Subject:
    kind = kind_of(path)
    if kind == "a folder":
        return run_subject(path) if (path / MANIFEST).exists() else _of_folder(path, read)
    check_regular(path, remedy=TAKES)
    return replace(_of_file(path, read), name=path.name)


def _of_folder(path: Path, read: Any) -> Subject:
    """The files of a folder; those of tables that are none are listed, as people keep settings and logs there too."""
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in FILES and not p.name.startswith("."))
    if not files:
        raise ArtifactError(f"{path} is no run and holds no file that can be audited; {TAKES}")
    found = Subject("")
    for folder in sorted({p.parent for p in files}):
        here = [p for p in files if p.parent == folder]
        arrays = {p: _load(p) for p in here if p.suffix.lower() in (".npy", ".npz")}
        found = found + _of_arrays(arrays, read, folder.name)
        for file in (p for p in here if p not in arrays):
            found = found + _or_unread(file, read, path)
    if found.empty:
        raise ArtifactError(f"{path} holds nothing that can be audited: {'; '.join(found.unread)[:200]}; {TAKES}")
    return replace(found, name=path.name, vectors=_joined(found.vectors, path.name))


def _or_unread(file: Path, read: Any, root: Path) -> Subject:
    if file.suffix.lower() not in SUFFIXES:
        return replace(_of_file(file, read), name="")
    try:
        return replace(_of_file(file, read), name="")
    except ArtifactError as error:
        why = str(error).removeprefix(f"{file} ").removeprefix(f"{file.stem}: ").partition(";")[0]
        return Subject("", unread=(f"{file.relative_to(root)} ({why})",))


def _of_arrays(held: Mapping[Path, Any], read: Any, name: str) -> Subject:
    """Files of one array each: an emotion or a layer a file where several are alike, else sets of vectors."""
    by_stem = {f.stem: a for f, a in held.items()}
    shapes = {a.shape if isinstance(a, np.ndarray) else None for a in held.values()}
    shape = shapes.pop() if len(shapes) == 1 else None
    if shape is not None and len(by_stem) == len(held) > 1:
        layers = all(layer_of(stem) is not None for stem in by_stem)
        if layers and len(shape) == 2:  # [emotions, d_model] of each layer
            ordered = sorted(by_stem, key=lambda stem: layer_of(stem) or 0)
            return read(np.stack([by_stem[stem] for stem in ordered], axis=1), name)
        if len(shape) in (1, 2):
            return read(by_stem, name or next(iter(held)).parent.name)
    return _together([replace(read(a, f.stem), name="") for f, a in held.items()], name)


def _of_file(path: Path, read: Any) -> Subject:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return read(read_frame(path), path.stem)
    if suffix == ".gguf":
        return Subject(path.stem, vectors=(_by_layer(read_control_file(path, finite=False).directions, path.stem),))
    if suffix == ".safetensors":
        return _of_safetensors(path, read)
    if suffix not in FILES:
        raise ArtifactError(f"{path}: a file of this kind cannot be audited; {TAKES}")
    return read(_load(path), path.stem)


def _load(path: Path) -> Any:
    """The array of a .npy file, the arrays of an .npz file by name; of an only one that has none, the array."""
    data = read_bytes(path, most=LARGEST)
    try:
        held = np.load(BytesIO(data), allow_pickle=False)
        if isinstance(held, np.ndarray):
            return held
        arrays = dict(held)
        return next(iter(arrays.values())) if len(arrays) == 1 and set(arrays) <= PLAIN else arrays
    except Exception as error:  # whatever a damaged archive or a pickle makes a library say
        said = " ".join(str(error).split())[:120]
        raise ArtifactError(f"cannot read {path} ({said}); give plain arrays, without pickled objects") from None


def _of_safetensors(path: Path, read: Any) -> Subject:
    """Our vectors or activations; tensors by layer or by emotion. Of ours that hold NaN, the bare numbers."""
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            kind = strict_json((file.metadata() or {}).get("lens_emotion", "{}")).get("kind")
            tensors = {name: file.get_tensor(name).to(torch.float32) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, AttributeError) as error:
        raise ArtifactError(f"cannot read {path}: {error}; give a safetensors file") from None
    ours: dict[Any, tuple[str, Any]] = {
        VECTORS: ("directions", EmotionVectors),
        ACTIVATIONS: ("values", PooledActivations),
    }
    main, cls = ours.get(kind, ("", None))
    if cls is None:
        return read(tensors, path.stem)
    if main in tensors and not bool(tensors[main].isfinite().all()):
        return Subject(path.stem, arrays={path.stem: _array(tensors[main])})
    return read(cls.load(path), path.stem)
