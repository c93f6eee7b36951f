"""An audit as a part of a report, or as a page of its own: findings first, then what passed and what was not asked."""

from __future__ import annotations

from html import escape

from lens_emotion.audits.finding import PASSED, UNASKED, Audit
from lens_emotion.display import visible
from lens_emotion.report.page import number
from lens_emotion.report.parts import Section, Table

TITLE = "What an audit finds"
LEAD = (
    "Thirteen checks, put to what this run stored. A check that could not have found its fault has not passed: it "
    "stands under what could not be asked."
)
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:54rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
.audit dt{font-weight:600;margin-top:1rem}.audit dd{margin:0 0 0 1rem}.audit .critical{color:#b3261e}
.audit .major{color:#8a5a00}
@media(prefers-color-scheme:dark){.audit .critical{color:#ff8a80}.audit .major{color:#ffc46b}}
"""


def audit_section(found: Audit) -> Section:
    """The same as a section of the report, in its own tables."""
    findings = found.findings.assign(moves=[f"{number(x)} {u}" for x, u in zip(*_moves(found), strict=True)])
    checks = found.table[["check", "fault", "status"]].assign(words=[o.brief for o in found.outcomes])
    tables: tuple[Table, ...] = (("Every check", checks),)
    if len(findings):
        tables = (("Findings, the worst first", findings.drop(columns="unit")), *tables)
    return Section(TITLE, f"{LEAD}\n\n{found.summary()}", (), tables)


def _moves(found: Audit) -> tuple[list[float], list[str]]:
    return found.findings["moves"].tolist(), found.findings["unit"].tolist()


def _title(found: Audit) -> str:
    return escape(f"Audit of {found.subject}")


def audit_html(found: Audit) -> str:
    """An HTML fragment that needs nothing around it; every word in it is escaped."""
    parts = [f'<section class="audit"><h2>{_title(found)}</h2><p>{escape(found.summary())}</p><dl>']
    for row in found.findings.to_dict("records"):
        grade = escape(row["severity"])
        parts.append(f'<dt class="{grade}">{grade}: {escape(row["what"])}</dt>')
        told = (("where", row["where"]), ("moves", f"{number(row['moves'])} {row['unit']}"), ("mend", row["mend"]))
        parts += [f"<dd><b>{name}</b> {escape(words)}</dd>" for name, words in told]
    parts.append("</dl>")
    for status, heading in ((PASSED, "Passed"), (UNASKED, "Not asked")):
        rows = [o for o in found.outcomes if o.status == status]
        if rows:
            listed = "".join(f"<li><b>{escape(o.check.name)}</b> {escape(o.brief)}</li>" for o in rows)
            parts.append(f"<details><summary>{heading}: {len(rows)}</summary><ul>{listed}</ul></details>")
    return visible("".join(parts) + "</section>")


def audit_page(found: Audit) -> str:
    """That fragment as a page of its own, which asks the network for nothing."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{visible(_title(found))}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{audit_html(found)}</body></html>\n"
    )
