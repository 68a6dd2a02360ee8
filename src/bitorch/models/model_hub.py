"""Trained weights for the zoo, and nets taken apart: BITorch's address of these functions."""

from __future__ import annotations

from .end_layers import append_layers_to_model as append_layers_to_model
from .end_layers import apply_input_size as apply_input_size
from .end_layers import apply_output_size as apply_output_size
from .end_layers import get_children as get_children
from .end_layers import get_input_size as get_input_size
from .end_layers import get_output_size as get_output_size
from .end_layers import pop_first_layers as pop_first_layers
from .end_layers import pop_last_layers as pop_last_layers
from .end_layers import prepend_layers_to_model as prepend_layers_to_model
from .end_layers import set_layer_in_model as set_layer_in_model
from .pretrained import lightning_checkpoint_to_state_dict as lightning_checkpoint_to_state_dict
from .pretrained import set_pad_value as set_pad_value
from .version_table import convert_dtypes as convert_dtypes
from .version_table import download_version_table as download_version_table
from .version_table import get_matching_row as get_matching_row
from .version_table import get_model_path as get_model_path
from .version_table import load_from_hub as load_from_hub
