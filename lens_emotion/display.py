"""How an object looks in a notebook: what it says first, its table folded below, everything escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = 60  # rows of a table; a page with ten thousand is of no use to anyone


def panel(
    lead: str, table: DataFrame | None = None, *, index: bool = False, code: bool = False, what: str = "table"
) -> str:
    """HTML of an object: one paragraph, and its table collapsed.

    Args:
        lead: the summary, or the repr (`code`).
        table: shown to `SHOWN` rows.
        index: show the table's row names.
        what: what the table is called.
    """
    words = escape(lead)
    head = f"<p><code>{words}</code></p>" if code else f"<p>{words}</p>"
    if table is None or table.empty:
        return head
    size = f"{escape(what)}: {len(table):,} rows × {table.shape[1]} columns"
    rest = f"<p>the first {SHOWN} of {len(table):,} rows</p>" if len(table) > SHOWN else ""
    body = table.head(SHOWN).round(4).to_html(index=index, escape=True, border=0)
    fold = f'<div style="overflow-x:auto">{body}</div>{rest}'
    return f'{head}<details><summary style="cursor:pointer">{size}</summary>{fold}</details>'
