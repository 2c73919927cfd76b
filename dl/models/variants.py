"""Named sizes of a family of networks, such as ViT-S/16 of the vision transformers."""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import flax.linen as nn


def size_of(family: type[nn.Module], **defaults: Any) -> Callable[[Callable], Callable[..., nn.Module]]:
  """Makes a function of no body into one which builds a module of a family, with other defaults.

  It has all of the family's typed arguments, so that a config may set any of them and mistakes are found as usual:

      @size_of(ViT, patch=16, width=384, depth=12, heads=6)
      def ViT_S16() -> ViT:
        '''ViT-S/16.'''

  Args:
    family: the class.
    **defaults: values of its attributes where the caller gives none.
  """
  signature = inspect.signature(family)
  parameters = [p.replace(default=defaults.get(n, p.default)) for n, p in signature.parameters.items()]
  signature = signature.replace(parameters=parameters, return_annotation=family)
  unknown = defaults.keys() - signature.parameters.keys()
  if unknown:
    raise TypeError(f'{family.__name__} has no {", ".join(sorted(unknown))}')

  def decorate(function: Callable) -> Callable[..., nn.Module]:
    @functools.wraps(function)
    def build(*args: Any, **options: Any) -> nn.Module:
      return family(**(defaults | signature.bind(*args, **options).arguments))

    build.__signature__ = signature
    build.__annotations__ = typing.get_type_hints(family, include_extras=True) | {'return': family}
    build.__doc__ = f'{inspect.getdoc(function)}\n\n{inspect.getdoc(family)}'
    return build

  return decorate
