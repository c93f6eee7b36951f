"""The run-time type checker of the tests: every annotation of the package, shapes included, is checked on every call.

An int fits where a float is asked for, as PEP 484 has it (`dose=4`).
"""

from __future__ import annotations

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
