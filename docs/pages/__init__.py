"""Pages of the site that are made from the code and the records; `docs/hooks.py` hands them to mkdocs.

Imported, it puts the root of the repository first on Python's path: the `mkdocs` command does not.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
