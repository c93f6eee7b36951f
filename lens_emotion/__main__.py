"""`python -m lens_emotion` is `lens-emotion`, where the command itself is not on the path."""

from __future__ import annotations

from lens_emotion.cli.app import main

if __name__ == "__main__":
    main()
