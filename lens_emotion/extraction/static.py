"""Mean static embeddings: the words of a text as the model is given them, before any layer has seen their order.

What can be read off these is in the words themselves; a state that says no more than they do is no representation.
"""

from __future__ import annotations

import torch

from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import PooledActivations, TextRecord
from lens_emotion.extraction.reader import Reading, account, make_header
from lens_emotion.models.access import Model
from lens_emotion.models.prompting import tokenise_text
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.stimuli.tables import Data


def static_embeddings(model: Model, texts: PooledActivations | Data) -> PooledActivations:
    """Rows of the token embedding matrix, averaged over each text's content tokens: one layer, no forward pass.

    Args:
        model: TransformerBridge or HookedTransformer.
        texts: what was read, or a stimulus set in any shape that `load_stimuli` takes.

    Returns:
        PooledActivations [n_texts, 1, d_model] (the embedding's width), in the order of the texts; the pooling is
        called "static".

    Raises:
        StimulusError: no texts, or an empty or too short one.

    Example:
        >>> le.static_embeddings(model, acts).values.shape
        torch.Size([252, 1, 64])
    """
    if isinstance(texts, PooledActivations):
        records, name, sha256 = texts.records, texts.header.stimuli, texts.header.stimuli_sha256
    else:
        given = load_stimuli(texts)
        records = tuple(TextRecord(s.text_id, s.emotion, s.topic, s.text, s.person, s.language) for s in given.items)
        name, sha256 = given.name, given.sha256
    if not records:
        raise StimulusError("no texts to embed; give a stimulus set, or what a model read")
    table = model.W_E.detach()
    rows, norms, kept = [], 0.0, []
    for record in records:
        tokens = tokenise_text(model, record.text)
        ids = [i for i, content in zip(tokens.ids, tokens.content, strict=True) if content]
        found = table[torch.tensor(ids, device=table.device)].float().cpu()
        rows.append(found.mean(0))
        norms += float(found.norm(dim=-1).sum())
        kept.append(account(Reading(tokens, record), len(ids)))
    mean = torch.tensor([norms / sum(r.n_pooled for r in kept)], dtype=torch.float32)
    header = make_header(model, "comprehension", "static", name, sha256, allow_processed=True)
    return PooledActivations(torch.stack(rows)[:, None], tuple(kept), mean, header)
