"""How many bits a model gets, and which quantizers that means; and the base of BITorch's configs."""

from ..config_base import Config as Config
