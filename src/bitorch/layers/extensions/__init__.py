"""How an engine puts layers of its own in the places of quantized ones, with BITorch's names and contracts."""

from .layer_container import LayerContainer as LayerContainer
from .layer_implementation import BaseImplementation as BaseImplementation
from .layer_implementation import CustomImplementationMixin as CustomImplementationMixin
from .layer_implementation import DefaultImplementationMixin as DefaultImplementationMixin
from .layer_recipe import LayerRecipe as LayerRecipe
from .layer_registration import LayerImplementation as LayerImplementation
from .layer_registry import LayerRegistry as LayerRegistry
