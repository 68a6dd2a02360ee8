"""What capture says of models that cannot be deployed, and that it leaves every model as it was."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitorch.deployment.can_deploy import can_deploy
from bitorch.deployment.capture.capture import capture
from bitorch.layers import QActivation, QConv2d, QLinear
from bitorch.quantizations import Identity, InputCalibrated, InputDoReFa, Quantization, WeightDoReFa
from capture_nets import LOW_BIT, NO_LOW_BIT, Net, TwoInputs, captured, image, kinds, problem, problems


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# Problems


def test_types() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got str"):
        capture("net", image())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an example is missing"):
        capture(nn.ReLU())
    with pytest.raises(TypeError, match="example 1 must be a tensor, got list"):
        capture(nn.ReLU(), image(), [1])  # type: ignore[arg-type]


class Sine(nn.Module):
    """A function that has no operation."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sin()


PROBLEMS: dict[str, tuple[Callable[[Any, Tensor], Any], str, str]] = {
    "sin": (lambda m, x: x.sin(), "sin cannot be deployed", "docs/deploying.md"),
    "layer_norm": (
        lambda m, x: F.layer_norm(x, x.shape),
        "normalises all 4 axes of .*, the batch among them",
        r"normalise \[4, 6, 6\] at most",
    ),
    "local_response_norm": (lambda m, x: F.local_response_norm(x, 3), "local_response_norm cannot", "Use BatchNorm"),
    "normalize with p=1": (lambda m, x: F.normalize(x, p=1), "a norm of p=1", "Use p=2"),
    "normalize images": (lambda m, x: F.normalize(x, dim=0), "along dim=0", "not the batch"),
    "norm with p=1": (lambda m, x: x.norm(p=1, dim=1), "a norm of order 1", "Use p=2"),
    "a place that is computed with": (lambda m, x: x.argmax(1).float(), "can only leave", "Return them as argmax"),
    "a place that is moved": (lambda m, x: x.argmax(1).flatten(1), "can only leave", "Return them as argmax"),
    "addcmul of two": (lambda m, x: torch.addcmul(x, x, x), "this addcmul is not", "x \\+ a"),
    "matmul": (lambda m, x: x[:, :1] @ x[:, 0], "mixes the images of a batch", "Give both tensors as many dimensions"),
    "antialias": (
        lambda m, x: F.interpolate(x, size=3, mode="bilinear", antialias=True),
        "antialias=True makes images smaller with windows of its own",
        "adaptive_avg_pool2d",
    ),
    "where": (lambda m, x: torch.where(x > 0, x, -x), "gt cannot be deployed", "relu"),
    "sort": (lambda m, x: x.sort(1)[0], "sort cannot be deployed", "docs/deploying.md"),
    "floor": (lambda m, x: torch.div(x, 2, rounding_mode="floor"), "rounds", "rounding_mode"),
    "x ** 5": (lambda m, x: x**5, "powers other than", "x \\* x"),
    "alpha": (lambda m, x: torch.add(x, x, alpha=2), "alpha=2", "Multiply first"),
    "broadcast features": (
        lambda m, x: F.max_pool2d(x, (6, 1)) + x[:, 0, 0],
        "it broadcasts \\['batch', 6\\] to \\['batch', 4, 2, 6\\]",
        "as many dimensions",
    ),
    "mean of the batch": (lambda m, x: x.mean((0, 1)), "takes the images of a batch together|mean gives", "dim=1|Keep"),
    "adaptive average": (
        lambda m, x: F.adaptive_avg_pool2d(x.to(memory_format=torch.channels_last), 2),
        "of an image that is not contiguous",
        "x.contiguous()",
    ),
    "second result": (lambda m, x: F.max_pool2d(x, 2, return_indices=True)[1], "second result", "first result"),
    "cat of images": (lambda m, x: torch.cat([x, x], 0), "for a batch of 2: it mixes", "first dimension"),
    "stack of images": (lambda m, x: torch.stack([x, x])[0], "stacks along the batch", "numbers, 1"),
    "constants of images": (
        lambda m, x: x + torch.arange(1.0 + len(x))[1:].view(-1, 1, 1, 1),
        "differs from image to image",
        "one constant for all",
    ),
    "cat with constants of images": (
        lambda m, x: torch.cat([x, torch.arange(1.0 * len(x)).view(-1, 1, 1, 1).expand(-1, 4, 6, 6)], 1),
        "differs from image to image",
        "one constant for all",
    ),
    "softmax over windows of a batch": (
        lambda m, x: x.flatten(0, 1).softmax(0).view_as(x),
        "along the axis that the batch is part of",
        "dimension of its own",
    ),
    "batch at different places": (
        lambda m, x: (x.flatten(0, 1) + x.transpose(0, 1).flatten(0, 1)).view_as(x),
        "the batch at different places",
        "same dimension",
    ),
    "x[0]": (lambda m, x: x[0], "images of a batch are taken apart", "Keep the batch"),
    "flip of the batch": (lambda m, x: x.flip(0), "taken apart or mixed, by flip in the model", "Keep the batch"),
    "batch mean": (lambda m, x: x - x.mean(), "mean gives \\[\\] for a batch of 2", "Keep the batch"),
    "view(1, -1)": (lambda m, x: x.reshape(1, -1), "images of a batch are taken apart", "x.flatten\\(1\\)"),
    "view(2, -1)": (lambda m, x: x.view(2, -1), "for a batch of another size the images", "x.flatten\\(1\\)"),
    "squeeze()": (
        lambda m, x: F.adaptive_avg_pool2d(x, 1).squeeze(),
        "for a batch of 1 the model gives \\[4\\]",
        "flatten",
    ),
    "batch size as a number": (lambda m, x: x / x.shape[0], "not the same for every batch", "no batch size"),
    "batch size as a choice": (lambda m, x: -x if x.shape[0] > 2 else x.relu(), "not the same for every batch", "same"),
    "batch of one as a choice": (
        lambda m, x: -x if len(x) == 1 else x.relu(),
        "for a batch of 1 .* other numbers",
        "same",
    ),
    "around PyTorch": (
        lambda m, x: (m.conv(x), x.data.relu_())[0] + x,
        "for a batch of 2 .* other numbers",
        "no .data",
    ),
    "squeeze_": (lambda m, x: x.mean((2, 3), True).squeeze_(-1), "squeeze_ cannot", "without the underscore"),
    "other outputs for one": (lambda m, x: (x, -x) if len(x) > 1 else (x,), "a batch of 1 .* other outputs", "same"),
    "random": (lambda m, x: x + torch.rand(()), "random numbers", "Compute the same"),
    "rand_like": (lambda m, x: x + torch.rand_like(x), "rand_like cannot", "Leave out what is random"),
    "dropout": (lambda m, x: F.dropout(x), "dropout at work", "training=self.training"),
    "bool": (lambda m, x: x if bool(m.slopes[0] * x[0, 0, 0, 0] < 9e9) else -x, "bool reads the values", "Decide by"),
    "if": (lambda m, x: x if x.sum() < 9e9 else -x, "bool reads the values", "Decide by shapes"),
    "item": (lambda m, x: x * x.max().item(), "item reads the values", "Decide by shapes"),
    "float": (lambda m, x: x * float(x[0, 0, 0, 0]), "float reads the values", "Decide by shapes"),
    "tolist": (lambda m, x: x * x[0, 0, 0].tolist()[0], "tolist reads the values", "Decide by shapes"),
    "mask": (lambda m, x: x.flatten(1)[x.flatten(1) > 9e9], "gt cannot", "relu"),
    "index of the image": (lambda m, x: x[:, x.argmax(1)[0, 0, 0].reshape(1)], "can only leave", "Return them"),
    "float64": (lambda m, x: x.double() * 2, "double cannot be deployed|gives torch.float64", ""),
    "autocast": (lambda m, x: Halves()(m, x), "conv2d gives torch.bfloat16", "autocast"),
    "dynamic weight": (lambda m, x: F.conv2d(x, x[:4, :4, :3, :3]), "its weight depends on the image", "fixed"),
    "unbatched conv": (
        lambda m, x: m.conv(x[0])[None].expand(len(x), -1, -1, -1),
        "for a batch of 2: it mixes",
        "Keep the batch",
    ),
    "constant output": (lambda m, x: m.slopes, "does not depend on the input", "computed from the images"),
    "no output": (lambda m, x: None, "returns no tensor, but NoneType", "Return tensors"),
    "other outputs": (lambda m, x: {"n": 3}, "returns no tensor, but dict", "Return tensors"),
    "failing": (
        lambda m, x: m.nothing(x),
        "fails on the example, of shape \\[2, 4, 6, 6\\]: AttributeError: ",
        "example",
    ),
    "out=": (lambda m, x: torch.add(x, x, out=torch.empty_like(x)), "add cannot be deployed", "partial"),
    "out of sight": (
        lambda m, x: x * torch.from_numpy(hidden(x).mean((0, 2, 3))).view(1, -1, 1, 1),
        "computed out of sight",
        "functions of PyTorch",
    ),
    "inference mode": (lambda m, x: Inference()(x), "inference mode", "torch.no_grad"),
    "aten": (lambda m, x: torch.ops.aten.relu(x), "relu cannot be deployed", "partial"),
}


class Halves:
    def __call__(self, m: Any, x: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return m.conv(x)


def hidden(x: Tensor) -> Any:
    """Values of a tensor, taken where no function of PyTorch is called."""
    with torch._C.DisableTorchFunction():
        return x.detach().numpy().copy()


class Inference:
    def __call__(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return (x * 2).relu_()


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems(name: str) -> None:
    function, what, remedy = PROBLEMS[name]
    model = Net(function).eval()
    found = problems(model, image())
    assert found
    assert re.search(what, found[0].what), found[0]
    assert re.search(remedy, found[0].remedy), found[0]
    assert all(str(p).endswith(".") and p.what in str(p) and p.remedy in str(p) for p in found)


# What is wrong with the model


def low_bit_net(**layer: Any) -> nn.Sequential:
    options = {**LOW_BIT, **layer}
    return nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), QConv2d(4, 4, 3, **options)).eval()


def test_a_good_net_has_no_problem() -> None:
    found = can_deploy(low_bit_net(), image())
    assert found
    assert found.problems == ()
    assert str(found) == "the model can be deployed"


def test_training_mode() -> None:
    model = low_bit_net().train()
    found = problem(model, image())
    assert found.what == "the model is in training mode (the model, 0, 1, 2, 2.activation and 2 more)"
    assert found.remedy == "Call model.eval() first"
    assert all(module.training for module in model.modules())
    assert "relu" in kinds(capture(model, image()))  # other problems are looked for too
    model.eval()
    model[1].train()
    assert "(1)" in problem(model, image()).what


def test_no_low_bit_layer() -> None:
    (found,) = capture(nn.Sequential(nn.ReLU()).eval(), image()).problems
    assert str(found) == f"{NO_LOW_BIT}. Convert it with bitorch.quantize_ and train."


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite(value: float) -> None:
    model = low_bit_net()
    with torch.no_grad():
        next(model[2].parameters())[0, 0, 0, 0] = value
    found = problem(model, image())
    assert found.name == "2.weight"
    assert "NaN or infinite" in found.what


def test_buffers_that_are_not_finite() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4)).eval()
    model[0].running_var.fill_(torch.inf)  # type: ignore[operator]
    assert problem(model, image()).name == "0.running_var"


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        ({"exact": False}, "exact=False"),
        ({"input_quantization": InputDoReFa(32)}, "its input quantizer InputDoReFa"),
        ({"weight_quantization": WeightDoReFa(32)}, "its weight quantizer WeightDoReFa"),
        ({"input_quantization": Identity()}, "its input quantizer Identity"),
        ({"input_quantization": WeightDoReFa(2)}, "WeightDoReFa scales by statistics"),
    ],
)
def test_low_bit_layers_without_exact_codes(layer: dict[str, Any], what: str) -> None:
    found = problem(low_bit_net(**layer), image())
    assert found.name == "2"
    assert found.place == "2 (QConv2d)"
    assert what in found.what


def test_a_quantizer_of_the_users_without_a_grid() -> None:
    class Halves(Quantization):
        def quantize(self, x: Tensor) -> Tensor:
            return (x * 2).round() / 2

    assert "has no fixed grid" in problem(low_bit_net(input_quantization=Halves()), image()).what
    assert "round cannot be deployed" in problem(nn.Sequential(Halves()).eval(), image()).what


def test_weight_quantizers_for_activations() -> None:
    assert "statistics of a whole tensor" in problem(nn.Sequential(QActivation(WeightDoReFa(2))).eval(), image()).what


def test_subclasses_of_low_bit_layers() -> None:
    class Mine(QConv2d):
        pass

    model = nn.Sequential(Mine(4, 4, 1, **LOW_BIT)).eval()
    assert problem(model, image()).what == "Mine is a subclass of a low-bit layer, and may compute something else"


def test_batch_norm_without_statistics() -> None:
    found = problem(nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)).eval(), image())
    assert found.place == "0 (BatchNorm2d)"
    assert "statistics from the batch" in found.what
    assert "track_running_stats=True" in found.remedy


def test_other_types_and_devices() -> None:
    assert "are torch.float64" in problem(low_bit_net().double(), image()).what
    found = problem(low_bit_net().bfloat16(), image())
    assert found.what == "0.weight, 0.bias, 2.weight are torch.bfloat16"
    assert found.remedy == "Convert the model to float32: model.float()"
    found = problem(low_bit_net().to("meta"), image())
    assert found.what == "0.weight, 0.bias, 2.weight are on meta"
    assert found.remedy == "Load its weights first"  # there is nothing to move


def test_layers_without_a_shape_yet() -> None:
    assert "no shape yet" in problem(nn.Sequential(nn.LazyConv2d(3, 1)).eval(), image()).what


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_modules() -> None:
    model = nn.Sequential(torch.jit.trace(nn.ReLU(), image()), nn.Sigmoid()).eval()
    assert "scripted modules cannot be looked into (0)" in problem(model, image()).what


@pytest.mark.parametrize(
    ("example", "what"),
    [
        (torch.zeros(2, 4, 6, 6, dtype=torch.uint8), "the example is torch.uint8"),
        (torch.zeros(2, 4, 6, 6, dtype=torch.float64), "the example is torch.float64"),
        (torch.zeros(0, 4, 6, 6), "the example is an empty batch, of shape [0, 4, 6, 6]"),
        (torch.zeros(4), "the example has shape [4]"),
        (torch.zeros(()), "the example has shape []"),
        (torch.zeros(1, 4, 0, 6), "the example cannot be deployed: an image of [4, 0, 6] is empty"),
        (torch.zeros([1] * 10), "the example cannot be deployed: images of [1, 1, 1, 1, 1, 1, 1, 1, 1] have more"),
        (
            torch.zeros(1, 1, 1).expand(1, 1, 2**20 + 1),
            "the example cannot be deployed: an image of [1, 1048577] is",
        ),
        (
            torch.zeros(2, 3, 6, 6),
            "the model's forward fails on the example, of shape [2, 3, 6, 6]: RuntimeError:",
        ),
        (torch.zeros(4, 6, 6), "the model's forward fails on a batch of 2, of shape [2, 6, 6]: RuntimeError"),
        (torch.zeros(2, 4, 6, 6, device="meta"), "the example is on meta"),
    ],
)
def test_wrong_examples(example: Tensor, what: str) -> None:
    assert problem(low_bit_net(), example).what.startswith(what)


def test_pixels_have_a_remedy_of_their_own() -> None:
    pixels = torch.zeros(2, 4, 6, 6, dtype=torch.uint8)
    assert problem(low_bit_net(), pixels).remedy.startswith("Pass pixels/255")
    with pytest.raises(TypeError, match=r"got torch\.uint8; pass pixels/255"):
        InputDoReFa(8)(pixels)


def test_a_range_that_is_not_set_is_one_problem() -> None:
    """It holds NaN, and not because something diverged."""
    model = nn.Sequential(QLinear(4, 3, input_quantization=InputCalibrated(2), weight_quantization=WeightDoReFa(1)))
    found = problem(model.eval(), torch.rand(2, 4))
    assert "the range of InputCalibrated is not set; call bitorch.calibrate(model, batches)" in found.what


def test_examples_of_different_batches() -> None:
    assert problem(TwoInputs().eval(), image(2), image(3)).what == "the inputs have batches of [2, 3]"


def test_the_models_own_error_is_chained() -> None:
    found = capture(low_bit_net(), torch.zeros(2, 3, 6, 6))
    assert isinstance(found.problems[0].cause, RuntimeError)
    with pytest.raises(ValueError, match="the model cannot be deployed:\n- the model's forward fails") as caught:
        found.check()
    assert caught.value.__cause__ is found.problems[0].cause


def test_all_problems_at_once() -> None:
    model = nn.Sequential(Sine(), QConv2d(4, 4, 1, exact=False, **LOW_BIT), Sine(), nn.Flatten())
    found = can_deploy(model, image())
    assert not found
    assert [problem.name for problem in found.problems] == ["", "0.sin", "1", "2.sin"]
    assert str(found).splitlines()[0] == "4 things stand in the way:"
    assert "- 0 (Sine), called from test_capture_problems.py" in str(found)
    assert "sin cannot be deployed. Use functions that can be deployed (see docs/deploying.md), or pass" in str(found)
    assert kinds(capture(model, image())) == ["unsupported", "unsupported", "unsupported", "flatten"]
    with pytest.raises(ValueError, match="4 things"):
        capture(model, image()).check()


def test_a_problem_is_told_once() -> None:
    act = Sine()
    found = problems(nn.Sequential(act, nn.ReLU(), act).eval(), image())
    assert [p.name for p in found] == ["0.sin", "0.sin@2"]
    found = problems(Net(lambda m, x: torch.where(x > 0, x, x.sum()) * 2).eval(), image())
    assert [p.name for p in found] == ["gt", "sum"]


# The model stays as it was


class Stateful(nn.Module):
    """Changes its buffers whenever it runs."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x.detach().clone()
        return x.relu()


def state(model: nn.Module) -> list[Any]:
    hooks = [
        (dict(m._forward_hooks), dict(m._forward_pre_hooks), dict(m._forward_hooks_always_called), m.training)
        for m in model.modules()
    ]
    parameters = [(name, id(p), p.requires_grad, p.grad) for name, p in model.named_parameters()]
    return [hooks, parameters, [(name, id(b)) for name, b in model.named_buffers()], [*model.__dict__]]


def failing(m: Any, x: Tensor) -> Tensor:
    raise OSError("disk full")


@pytest.mark.parametrize(
    "model",
    [
        low_bit_net(),
        low_bit_net().train(),
        nn.Sequential(nn.BatchNorm2d(4), nn.Dropout()).train(),
        nn.Sequential(Stateful(), Sine()),
        Net(failing),
        nn.Sequential(Net(lambda m, x: m.conv(x)), Net(failing)).eval(),
        Net(lambda m, x: x.view(2, -1)).eval(),
    ],
)
def test_the_model_stays_as_it_was(model: nn.Module) -> None:
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad = index % 2 == 0
    before, values = state(model), copy.deepcopy(model.state_dict())
    x = image()
    was = x.clone()
    capture(model, x)
    assert state(model) == before
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert torch.equal(x, was)
    assert torch.is_grad_enabled()


def test_interruptions_leave_the_model_as_it_was() -> None:
    def interrupted(m: Any, x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    model = nn.Sequential(nn.BatchNorm2d(4), Net(interrupted))
    before = state(model)
    with pytest.raises(KeyboardInterrupt):
        capture(model, image())
    assert state(model) == before


def test_errors_that_the_model_catches() -> None:
    class Patient(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.Sequential(Net(failing))

        def forward(self, x: Tensor) -> Tensor:
            try:
                y: Tensor = self.act(x)
            except OSError:
                y = x
            return y.relu()

    assert [node.name for node in captured(Patient().eval(), image()).graph] == ["x", "relu"]
