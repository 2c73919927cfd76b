"""A trained network as files of other libraries."""

from dl.export.huggingface import save

__all__ = ['save']
