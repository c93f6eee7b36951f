"""The claims of a run as rows of the report."""

from __future__ import annotations

import math

from lens_emotion.report_parts import Cell, ClaimRow, Tone
from lens_emotion.study.results import StudyRun
from lens_emotion.study.verdict import NOT_SUPPORTED, NOT_TESTABLE, STATEMENTS, SUPPORTED, Claim

_TONES: dict[str, Tone] = {SUPPORTED: "good", NOT_SUPPORTED: "noise"}


def claim_rows(run: StudyRun) -> tuple[ClaimRow, ...]:
    """One row per claim: the verdict over all models, that of each, and the sentences."""
    overall = {c.code: c for c in run.claims.overall}
    rows = []
    for code in overall:
        per_model = {c.scope: c for c in run.claims.claims if c.code == code}
        cells = tuple(_cell(per_model[m.info.name]) if m.info.name in per_model else Cell("–") for m in run.models)
        sentences = tuple(dict.fromkeys([overall[code].sentence, *(c.sentence for c in per_model.values())]))
        reason = overall[code].reason
        whole = Cell(overall[code].verdict, _TONES.get(overall[code].verdict, "plain"), reason)
        known = overall[code].effect
        effect = str(known) if known is not None and math.isfinite(known.value) else ""
        row = (code, STATEMENTS[code], whole, cells, sentences, effect, overall[code].null, overall[code].n)
        rows.append(ClaimRow(*row))
    return tuple(rows)


def _cell(claim: Claim) -> Cell:
    """Verdict, and under it the effect beside what it is read against; the reason where there is no effect."""
    shown = claim.effect is not None and math.isfinite(claim.effect.value)
    note = (
        f"{claim.effect}; against {claim.null}"
        if shown and claim.null
        else str(claim.effect)
        if shown
        else claim.reason
    )
    return Cell(claim.verdict, _TONES.get(claim.verdict, "plain"), "" if claim.verdict == NOT_TESTABLE else note)
