"""dl: one functional JAX/Flax codebase for all of deep learning."""

__version__ = '0.1.0'
