"""bitorch: low-bit neural networks in PyTorch, computed exactly on integers.

Quantize a float model in place, train it as ever, deploy it into one packed file:

    config = bitorch.LowBitConfig(weight_bits=1, activation_bits=2, gradient_bits=6)
    bitorch.quantize_(model, config)
    ...
    packed = bitorch.deploy(model.eval(), example_input)
    packed.save("net.bit.safetensors")
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

if TYPE_CHECKING:
    from .allocation.allocate import Allocation as Allocation
    from .allocation.allocate import allocate as allocate
    from .allocation.budget import Budget as Budget
    from .allocation.sensitivity import LayerSensitivity as LayerSensitivity
    from .allocation.sensitivity import Sensitivity as Sensitivity
    from .allocation.sensitivity import sensitivity as sensitivity
    from .calibration.calibrate import CalibratedRange as CalibratedRange
    from .calibration.calibrate import Calibration as Calibration
    from .calibration.calibrate import calibrate as calibrate
    from .checking.check import check as check
    from .checking.findings import Check as Check
    from .checking.findings import Finding as Finding
    from .config.by_name import add_config_args as add_config_args
    from .config.by_name import apply_args_to_configuration as apply_args_to_configuration
    from .config.by_name import config_from_name as config_from_name
    from .config.by_name import config_names as config_names
    from .config.by_name import configs_by_name as configs_by_name
    from .config.by_name import register_custom_config as register_custom_config
    from .config.low_bit_config import DoReFaConfig as DoReFaConfig
    from .config.low_bit_config import LowBitConfig as LowBitConfig
    from .config_base import Config as Config
    from .conversion.bits import Bits as Bits
    from .conversion.fuse_training import Fusions as Fusions
    from .conversion.fuse_training import LayerFusion as LayerFusion
    from .conversion.fuse_training import fuse_training_ as fuse_training_
    from .conversion.fuse_training import unfuse_training_ as unfuse_training_
    from .conversion.quantize import quantize_ as quantize_
    from .conversion.restore import float_ as float_
    from .conversion.rules import Rule as Rule
    from .conversion.rules_file import load_rules as load_rules
    from .conversion.rules_file import save_rules as save_rules
    from .conversion.set_bits import set_bits as set_bits
    from .conversion.table import Conversion as Conversion
    from .conversion.table import LayerConversion as LayerConversion
    from .deployment.can_deploy import Deployability as Deployability
    from .deployment.can_deploy import can_deploy as can_deploy
    from .deployment.deploy import DeploymentError as DeploymentError
    from .deployment.deploy import deploy as deploy
    from .deployment.export_c import export_c as export_c
    from .deployment.onnx.export import OnnxExport as OnnxExport
    from .deployment.onnx.export import can_export as can_export
    from .deployment.onnx.export import export_onnx as export_onnx
    from .deployment.onnx.verification import OnnxVerification as OnnxVerification
    from .deployment.onnx.verification import verify_onnx as verify_onnx
    from .deployment.partial.pack_layers import PartialDeployment as PartialDeployment
    from .deployment.runtime.packed_model import PackedModel as PackedModel
    from .deployment.runtime.verification import Verification as Verification
    from .deployment.runtime.verification import verify as verify
    from .layers.mode_conversion import convert as convert
    from .reporting.report import Report as Report
    from .reporting.report import report as report
    from .runtime_mode import RuntimeMode as RuntimeMode
    from .runtime_mode import change_mode as change_mode
    from .runtime_mode import pause_wrapping as pause_wrapping
    from .runtime_mode import runtime_mode_type as runtime_mode_type

    #: What layers that are built from now on run on; it can be set.
    mode: int


# Only when they are asked for: PyTorch takes seconds, for which a mistyped name on the command line need not wait, and
# deploying needs bitorch_runtime, which quantizing and training do not.
_HOMES = {
    "Allocation": "allocation.allocate",
    "Bits": "conversion.bits",
    "Budget": "allocation.budget",
    "CalibratedRange": "calibration.calibrate",
    "Calibration": "calibration.calibrate",
    "Check": "checking.findings",
    "Config": "config_base",
    "Conversion": "conversion.table",
    "Deployability": "deployment.can_deploy",
    "DeploymentError": "deployment.deploy",
    "DoReFaConfig": "config.low_bit_config",
    "Finding": "checking.findings",
    "Fusions": "conversion.fuse_training",
    "LayerConversion": "conversion.table",
    "LayerFusion": "conversion.fuse_training",
    "LayerSensitivity": "allocation.sensitivity",
    "LowBitConfig": "config.low_bit_config",
    "OnnxExport": "deployment.onnx.export",
    "OnnxVerification": "deployment.onnx.verification",
    "PackedModel": "deployment.runtime.packed_model",
    "PartialDeployment": "deployment.partial.pack_layers",
    "Report": "reporting.report",
    "Rule": "conversion.rules",
    "RuntimeMode": "runtime_mode",
    "Sensitivity": "allocation.sensitivity",
    "Verification": "deployment.runtime.verification",
    "add_config_args": "config.by_name",
    "allocate": "allocation.allocate",
    "apply_args_to_configuration": "config.by_name",
    "calibrate": "calibration.calibrate",
    "can_deploy": "deployment.can_deploy",
    "can_export": "deployment.onnx.export",
    "change_mode": "runtime_mode",
    "check": "checking.check",
    "convert": "layers.mode_conversion",
    "config_from_name": "config.by_name",
    "config_names": "config.by_name",
    "configs_by_name": "config.by_name",
    "deploy": "deployment.deploy",
    "export_c": "deployment.export_c",
    "export_onnx": "deployment.onnx.export",
    "float_": "conversion.restore",
    "fuse_training_": "conversion.fuse_training",
    "load_rules": "conversion.rules_file",
    "pause_wrapping": "runtime_mode",
    "quantize_": "conversion.quantize",
    "register_custom_config": "config.by_name",
    "report": "reporting.report",
    "runtime_mode_type": "runtime_mode",
    "save_rules": "conversion.rules_file",
    "sensitivity": "allocation.sensitivity",
    "set_bits": "conversion.set_bits",
    "unfuse_training_": "conversion.fuse_training",
    "verify": "deployment.runtime.verification",
    "verify_onnx": "deployment.onnx.verification",
}
#: Whose names are public too.
_PACKAGES = ("data", "hub", "layers", "models", "quantizations", "train")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = value
        return value
    if name == "mode":
        return globals().setdefault("mode", __getattr__("RuntimeMode").DEFAULT)
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f".{name}", __name__)  # a submodule, such as bitorch.models
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, and not what this file imports; `bitorch.reporting` and the like are there when asked for."""
    special = [name for name in globals() if name.startswith("__")]
    return sorted({*special, *_HOMES, *_PACKAGES, "mode"})
