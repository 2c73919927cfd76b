"""Pages of the site that are made from the code and the records; `docs/hooks.py` hands them to mkdocs."""
