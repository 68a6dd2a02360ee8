"""Each pass alone, on small graphs: what it writes, that the numbers stay, and where it must not go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitorch.deployment.capture.capture import capture
from bitorch.deployment.graph.graph import Graph, Node
from bitorch.layers import QActivation, QConv2d
from bitorch.quantizations import InputDoReFa, InputLSQ, Quantization, RSign, Sign, WeightDoReFa
from deployment_passes import (
    drop_identities,
    drop_lookups,
    fold_tables,
    fuse_thresholds,
    group,
    lower,
    move_codes,
    read_pixels,
    share_codes,
    split_quantized,
    swap_pools,
)

SHAPE = (4, 4, 4)
POSITIVE = torch.tensor([0.5, 1.0, 2.0, 0.25])
SIGNED = torch.tensor([0.5, -1.0, 2.0, 0.25])


class Draft:
    """A graph in the making: every method adds a node and returns its name."""

    def __init__(self, *shape: int) -> None:
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.input("x", *(shape if shape else SHAPE))

    def add(
        self,
        name: str,
        kind: str,
        inputs: Sequence[str],
        function: Callable[..., Tensor],
        shape: tuple[int, ...] | None = None,
        **settings: Any,
    ) -> str:
        self.shapes[name] = self.shapes[inputs[0]] if shape is None else shape
        self.nodes.append(Node(name, kind, tuple(inputs), self.shapes[name], function, settings))
        return name

    def input(self, name: str, *shape: int) -> str:
        self.shapes[name] = shape
        self.nodes.append(Node(name, "input", (), shape, lambda x: x, {"pixels": False, "dtype": "float32"}))
        return name

    def relu(self, name: str, of: str) -> str:
        return self.add(name, "relu", [of], torch.relu)

    def batch_norm(self, name: str, of: str, slopes: Tensor) -> str:
        factor = slopes.view(-1, *[1] * (len(self.shapes[of]) - 1))
        return self.add(name, "batch_norm", [of], lambda x: x * factor, multiply=slopes, offset=torch.zeros(4))

    def max_pool(self, name: str, of: str) -> str:
        channels, height, width = self.shapes[of]
        settings: dict[str, Any] = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0)}
        settings["dilation"] = (1, 1)
        return self.add(
            name, "max_pool", [of], lambda x: F.max_pool2d(x, 2), (channels, height // 2, width // 2), **settings
        )

    def flatten(self, name: str, of: str) -> str:
        return self.add(name, "flatten", [of], lambda x: x.flatten(1), (int(torch.Size(self.shapes[of]).numel()),))

    def select(self, name: str, of: str, *channels: int) -> str:
        chosen = list(channels)
        shape = (len(chosen), *self.shapes[of][1:])
        return self.add(name, "select", [of], lambda x: x[:, chosen], shape, channels=chosen)

    def codes(self, name: str, of: str, quantizer: Quantization) -> str:
        found = quantizer.arithmetic()
        assert found is not None
        assert (found.divide, found.plus) == (None, None)  # nothing comes before the form
        return self.add(
            name,
            "codes",
            [of],
            quantizer.codes,
            form=found.form,
            bits=found.bits,
            zero_point=found.zero_point,
            keeps_nan=found.keeps_nan,
            sign=found.is_sign,
        )

    def values(self, name: str, of: str, bits: int, *, sign: bool = False) -> str:
        n = 1 if sign else 2**bits - 1
        return self.add(name, "values", [of], lambda q: q / n, bits=bits, sign=sign, table=None)

    def graph(self, *outputs: str) -> Graph:
        return Graph(tuple(self.nodes), outputs)


def kinds(graph: Graph) -> list[str]:
    return [node.kind for node in graph if node.kind != "input"]


def trial(shape: tuple[int, ...]) -> Tensor:
    """Numbers on both sides of every tie, infinities, both zeros and NaN."""
    torch.manual_seed(0)
    x = torch.randn(64, *shape)
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 0.5, 1 / 6, 5 / 6, 1e-45, 3e38])
    flat = x.view(-1)
    chosen = torch.randperm(len(flat))[: len(flat) // 2]
    flat[chosen] = special[torch.arange(len(chosen)) % len(special)]
    return x


def same_numbers(before: Graph, after: Graph, x: Tensor | None = None) -> None:
    """Hold a rewritten graph to the one before, in every bit but that of NaN's payload and of zero's sign."""
    inputs = [trial(node.shape) if x is None else x for node in before.inputs]
    expected, found = before.replay(inputs), after.replay(inputs)
    assert len(before.outputs) == len(after.outputs)
    for old, new in zip(before.outputs, after.outputs, strict=True):
        assert torch.equal(expected[old].isnan(), found[new].isnan()), new
        assert torch.equal(expected[old].nan_to_num(), found[new].nan_to_num()), new


def unchanged(graph: Graph, step: Callable[[Graph], Graph]) -> None:
    assert str(step(graph)) == str(graph)


class TestDropIdentities:
    def test_readers_and_outputs_take_what_was_before(self) -> None:
        draft = Draft()
        draft.add("one", "identity", ["x"], lambda x: x)
        draft.add("two", "identity", ["one"], lambda x: x)
        draft.relu("relu", "two")
        before = draft.graph("relu", "two")
        after = drop_identities(before)
        assert str(after) == "x [4×4×4] = input(pixels=False, dtype=float32)\nrelu [4×4×4] = relu(x)\nreturn relu, x"
        same_numbers(before, after)

    def test_one_that_adds_a_dimension_stays(self) -> None:
        draft = Draft(4)
        draft.add("image", "identity", ["x"], lambda x: x[..., None, None], (4, 1, 1))
        unchanged(draft.graph("image"), drop_identities)


class TestReadPixels:
    def test_every_reader_takes_the_floats_of_pixels(self) -> None:
        draft = Draft()
        draft.relu("relu", "x")
        after = read_pixels(draft.graph("relu", "x"))
        assert [(node.name, node.kind, node.inputs) for node in after] == [
            ("x", "input", ()),
            ("x/float", "values", ("x",)),
            ("relu", "relu", ("x/float",)),
        ]
        assert after["x"].settings["pixels"]
        assert (after["x/float"].settings["bits"], after["x/float"].settings["sign"]) == (8, False)
        assert after.outputs == ("relu", "x/float")
        pixels = torch.arange(256, dtype=torch.uint8).view(4, *SHAPE)
        same = after.replay([pixels])["relu"]
        assert torch.equal(same, pixels.float() / 255)


class TestShareCodes:
    def test_equal_quantizers_of_one_tensor_are_one(self) -> None:
        draft = Draft()
        for name in ("one", "two"):
            draft.codes(name, "x", InputDoReFa(2, variant="paper"))
        before = draft.graph("one", "two")
        after = share_codes(before)
        assert after.outputs == ("one", "one")
        assert kinds(after) == ["codes"]
        same_numbers(before, after)

    @pytest.mark.parametrize(
        "other", [InputDoReFa(3, variant="paper"), Sign(), InputDoReFa(1, variant="paper")], ids=str
    )
    def test_other_quantizers_stay(self, other: Quantization) -> None:
        draft = Draft()
        draft.codes("one", "x", InputDoReFa(2, variant="paper"))
        draft.codes("two", "x", other)
        unchanged(draft.graph("one", "two"), share_codes)

    def test_quantizers_of_two_tensors_stay(self) -> None:
        draft = Draft()
        draft.codes("one", "x", InputDoReFa(2))
        draft.codes("two", draft.relu("relu", "x"), InputDoReFa(2))
        unchanged(draft.graph("one", "two"), share_codes)


class TestSwapPools:
    @pytest.mark.parametrize("slopes", [POSITIVE, None], ids=["batch_norm", "relu"])
    def test_what_rises_comes_before_a_maximum(self, slopes: Tensor | None) -> None:
        draft = Draft()
        pool = draft.max_pool("pool", "x")
        draft.relu("last", pool) if slopes is None else draft.batch_norm("last", pool, slopes)
        before = draft.graph("last")
        after = swap_pools(before)
        kind = "relu" if slopes is None else "batch_norm"
        assert kinds(after) == [kind, "max_pool"]
        assert [node.name for node in after] == ["x", "last/early", "last"]
        assert after["last/early"].shape == SHAPE
        same_numbers(before, after)

    def test_a_chain_comes_in_order(self) -> None:
        draft = Draft()
        draft.relu("relu", draft.batch_norm("norm", draft.max_pool("pool", "x"), POSITIVE))
        before = draft.graph("relu")
        after = swap_pools(before)
        assert kinds(after) == ["batch_norm", "relu", "max_pool"]
        same_numbers(before, after)

    @pytest.mark.parametrize(
        "slopes", [SIGNED, torch.tensor([1.0, 0.0, 1.0, 1.0])], ids=["a channel falls", "a channel is constant"]
    )
    def test_what_falls_or_makes_nan_stays(self, slopes: Tensor) -> None:
        draft = Draft()
        draft.batch_norm("norm", draft.max_pool("pool", "x"), slopes)
        unchanged(draft.graph("norm"), swap_pools)

    @pytest.mark.parametrize("outputs", [("relu", "pool"), ("relu", "other")], ids=["an output", "two readers"])
    def test_a_maximum_that_is_needed_stays(self, outputs: tuple[str, ...]) -> None:
        draft = Draft()
        draft.max_pool("pool", "x")
        draft.relu("relu", "pool")
        if "other" in outputs:
            draft.add("other", "tanh", ["pool"], torch.tanh)
        unchanged(draft.graph(*outputs), swap_pools)

    def test_only_what_is_the_same_everywhere_comes_before_a_flatten_or_a_choice(self) -> None:
        for behind in ("flatten", "select"):
            draft = Draft()
            flat = draft.flatten("moved", "x") if behind == "flatten" else draft.select("moved", "x", 2, 0, 1, 3)
            draft.relu("relu", flat)
            before = draft.graph("relu")
            after = swap_pools(before)
            assert kinds(after) == ["relu", behind]
            same_numbers(before, after)
        draft = Draft(4, 1, 1)
        draft.batch_norm("norm", draft.flatten("flat", "x"), POSITIVE)
        unchanged(draft.graph("norm"), swap_pools)
        draft = Draft()
        draft.batch_norm("norm", draft.select("some", "x", 2, 0, 1, 3), POSITIVE)
        unchanged(draft.graph("norm"), swap_pools)


class TestMoveCodes:
    @pytest.mark.parametrize("kind", ["max_pool", "flatten", "select"])
    @pytest.mark.parametrize("quantizer", [InputDoReFa(2, variant="paper"), Sign()], ids=str)
    def test_codes_come_before_what_moves_numbers(self, kind: str, quantizer: Quantization) -> None:
        draft = Draft()
        match kind:
            case "max_pool":
                moved = draft.max_pool("moved", "x")
            case "flatten":
                moved = draft.flatten("moved", "x")
            case _:
                moved = draft.select("moved", "x", 3, 3, 0)
        draft.codes("codes", moved, quantizer)
        before = draft.graph("codes")
        after = move_codes(before)
        assert [(node.name, node.kind) for node in after] == [("x", "input"), ("codes/0", "codes"), ("codes", kind)]
        assert after["codes"].shape == before["codes"].shape
        # NaN has no code: the program gives the lowest one, and a maximum of codes is not one of NaN.
        same_numbers(before, after, trial(SHAPE).nan_to_num(nan=0.3, posinf=torch.inf, neginf=-torch.inf))

    def test_each_part_of_a_concatenation_is_quantized(self) -> None:
        draft = Draft()
        draft.relu("relu", "x")
        draft.add("both", "concat", ["x", "relu"], lambda a, b: torch.cat([a, b], 1), (8, 4, 4))
        draft.codes("codes", "both", InputDoReFa(2, variant="paper"))
        before = draft.graph("codes")
        after = move_codes(before)
        assert kinds(after) == ["relu", "codes", "codes", "concat"]
        assert after["codes"].inputs == ("codes/0", "codes/1")
        same_numbers(before, after)

    def test_through_several(self) -> None:
        draft = Draft()
        draft.codes("codes", draft.flatten("flat", draft.max_pool("pool", "x")), InputDoReFa(2, variant="paper"))
        assert kinds(move_codes(draft.graph("codes"))) == ["codes", "max_pool", "flatten"]

    @pytest.mark.parametrize("outputs", [("codes", "pool"), ("codes", "other")], ids=["an output", "two readers"])
    def test_a_maximum_that_is_needed_stays(self, outputs: tuple[str, ...]) -> None:
        draft = Draft()
        draft.codes("codes", draft.max_pool("pool", "x"), InputDoReFa(2))
        if "other" in outputs:
            draft.relu("other", "pool")
        unchanged(draft.graph(*outputs), move_codes)


class TestFoldTables:
    def test_from_codes_to_codes_is_a_lookup(self) -> None:
        draft = Draft()
        draft.values("values", draft.codes("codes", "x", InputDoReFa(2, variant="paper")), 2)
        draft.batch_norm("norm", "values", SIGNED)
        draft.codes("last", "norm", InputDoReFa(3, variant="paper"))
        before = draft.graph("last")
        after = fold_tables(before)
        assert kinds(after) == ["codes", "lookup"]
        table = after["last"].settings["table"]
        # round(7·clip(slope·q/3, 0, 1)), a row for each channel
        assert table.tolist() == [[0, 1, 2, 4], [0, 0, 0, 0], [0, 5, 7, 7], [0, 1, 1, 2]]
        assert table.dtype == torch.uint8
        same_numbers(before, after, trial(SHAPE).nan_to_num(0.3))

    def test_one_row_where_all_channels_agree(self) -> None:
        draft = Draft()
        draft.values("values", draft.codes("codes", "x", Sign()), 1, sign=True)
        draft.codes("last", draft.relu("relu", "values"), InputDoReFa(2, variant="paper"))
        assert fold_tables(draft.graph("last"))["last"].settings["table"].tolist() == [0, 3]

    def test_from_codes_to_floats_is_a_table(self) -> None:
        draft = Draft()
        draft.values("values", draft.codes("codes", "x", InputDoReFa(1, variant="paper")), 1)
        draft.relu("relu", draft.batch_norm("norm", "values", SIGNED))
        before = draft.graph("relu")
        after = fold_tables(before)
        assert kinds(after) == ["codes", "values"]
        assert after["relu"].settings["table"].tolist() == [[0, 0.5], [0, 0], [0, 2], [0, 0.25]]
        same_numbers(before, after, trial(SHAPE).nan_to_num(0.3))

    @pytest.mark.parametrize("outputs", [("relu", "values"), ("relu", "other")], ids=["an output", "two readers"])
    def test_floats_that_are_needed_stay(self, outputs: tuple[str, ...]) -> None:
        draft = Draft()
        draft.values("values", draft.codes("codes", "x", InputDoReFa(2)), 2)
        draft.relu("relu", "values")
        if "other" in outputs:
            draft.max_pool("other", "values")
        unchanged(draft.graph(*outputs), fold_tables)

    def test_a_librarys_exp_stays(self) -> None:
        draft = Draft()
        draft.values("values", draft.codes("codes", "x", InputDoReFa(2)), 2)
        draft.codes("last", draft.add("sigmoid", "sigmoid", ["values"], torch.sigmoid), InputDoReFa(2))
        unchanged(draft.graph("last"), fold_tables)


class TestDropLookups:
    def lookup(self, table: list[int], *, sign: bool = False) -> Graph:
        draft = Draft()
        bits = (len(table) - 1).bit_length()
        draft.codes("codes", "x", InputDoReFa(2, variant="paper"))
        entries = torch.tensor(table, dtype=torch.uint8)
        function = lambda q: entries[q.long()].float()  # noqa: E731
        draft.add("same", "lookup", ["codes"], function, bits=bits, sign=sign, table=entries)
        draft.add("sum", "max_pool", ["same"], lambda q: q)
        return draft.graph("sum", "same")

    def test_one_that_gives_what_it_gets_goes(self) -> None:
        before = self.lookup([0, 1, 2, 3])
        after = drop_lookups(before)
        assert kinds(after) == ["codes", "max_pool"]
        assert after.outputs == ("sum", "codes")
        same_numbers(before, after, trial(SHAPE).nan_to_num(0.3))

    def test_another_order_or_meaning_stays(self) -> None:
        unchanged(self.lookup([0, 1, 3, 2]), drop_lookups)
        unchanged(self.lookup([0, 1, 2, 3], sign=True), drop_lookups)


class TestFuseThresholds:
    """Of floats; those of D are held to every integer in test_thresholds.py."""

    def test_a_monotone_chain_is_compared_with(self) -> None:
        draft = Draft()
        draft.relu("relu", draft.batch_norm("norm", "x", SIGNED))
        draft.codes("codes", "relu", InputDoReFa(2, variant="paper"))
        before = draft.graph("codes")
        after = fuse_thresholds(before)
        assert kinds(after) == ["thresholds"]
        assert after["codes"].inputs == ("x",)
        settings = after["codes"].settings
        assert settings["descending"].tolist() == [False, True, False, False]
        assert settings["thresholds"].shape == (4, 3)
        x = trial(SHAPE).nan_to_num(nan=-torch.inf)
        at, falls = settings["thresholds"], settings["descending"].view(1, 4, 1, 1)
        compared = torch.where(
            falls.unsqueeze(-1), x[..., None] <= at.view(1, 4, 1, 1, 3), x[..., None] >= at.view(1, 4, 1, 1, 3)
        )
        # −inf in place of NaN is code 0 in rising channels only
        rising = [0, 2, 3]
        assert torch.equal(compared.sum(-1).float()[:, rising], before.replay([x])["codes"][:, rising])
        y = trial(SHAPE).nan_to_num(nan=0.25)
        same_numbers(before, after, y)

    def test_relu_before_a_unit_quantizer_goes(self) -> None:
        draft = Draft()
        draft.codes("codes", draft.relu("relu", "x"), InputDoReFa(2, variant="paper"))
        before = draft.graph("codes")
        after = fuse_thresholds(before)
        assert kinds(after) == ["codes"]
        same_numbers(before, after)

    def test_a_clip_within_the_levels_stays_in_the_thresholds(self) -> None:
        draft = Draft()
        draft.add("clip", "clamp", ["x"], lambda x: x.clamp(0.0, 0.6), low=0.0, high=0.6)
        draft.codes("codes", "clip", InputDoReFa(2, variant="paper"))
        after = fuse_thresholds(draft.graph("codes"))
        assert kinds(after) == ["thresholds"]
        assert after["codes"].settings["thresholds"][:, 2].isnan().all()  # a code that no number gets

    def test_many_levels_stay_with_the_unit_quantizer(self) -> None:
        draft = Draft()
        draft.codes("codes", draft.batch_norm("norm", "x", POSITIVE), InputDoReFa(5, variant="paper"))
        unchanged(draft.graph("codes"), fuse_thresholds)

    def test_what_falls_and_rises_stays_unless_it_rises_where_codes_change(self) -> None:
        draft = Draft()
        draft.add("square", "mul", ["x", "x"], lambda x, y: x * y)
        draft.codes("codes", draft.add("swish", "hardswish", ["square"], F.hardswish), InputDoReFa(2, variant="paper"))
        before = draft.graph("codes")
        after = fuse_thresholds(before)
        assert kinds(after) == ["mul", "thresholds"]
        same_numbers(before, after, trial(SHAPE).nan_to_num(0.3))
        draft = Draft()
        draft.add("swish", "hardswish", ["x"], F.hardswish)
        draft.add("back", "times", ["swish"], lambda x: x * -4.0, constant=torch.full((4,), -4.0))
        draft.codes("codes", "back", InputDoReFa(2, variant="paper"))
        after = fuse_thresholds(draft.graph("codes"))
        assert kinds(after) == ["hardswish", "thresholds"]  # the dip of −0.375 has codes of its own
        assert after["codes"].inputs == ("swish",)


class TestGroups:
    """Which nodes become one operation."""

    @staticmethod
    def groups(graph: Graph) -> list[list[str]]:
        return [[node.name for node in one.nodes] for one in group(graph)]

    def draft(self) -> Draft:
        draft = Draft()
        draft.add("conv", "conv", ["x"], lambda x: x)
        draft.batch_norm("norm", "conv", SIGNED)
        draft.add("add", "add", ["norm", "x"], torch.add)
        draft.relu("relu", "add")
        draft.codes("codes", "relu", InputDoReFa(2))
        return draft

    def test_a_sum_takes_its_stages_and_codes(self) -> None:
        (one,) = group(self.draft().graph("codes"))
        assert [node.name for node in one.nodes] == ["conv", "norm", "add", "relu", "codes"]
        assert not one.keeps_value

    def test_floats_leave_beside_codes_where_they_are_needed(self) -> None:
        (one,) = group(self.draft().graph("codes", "relu"))
        assert one.keeps_value

    def test_an_output_in_between_ends_it(self) -> None:
        assert self.groups(self.draft().graph("codes", "norm")) == [["conv", "norm"], ["add", "relu", "codes"]]

    def test_a_second_reader_in_between_ends_it(self) -> None:
        draft = self.draft()
        draft.add("tanh", "tanh", ["conv"], torch.tanh)
        groups = self.groups(draft.graph("codes", "tanh"))
        assert ["conv"] in groups
        assert ["norm", "add", "relu", "codes"] in groups

    def test_stages_out_of_order_are_an_operation_of_their_own(self) -> None:
        draft = Draft()
        draft.add("conv", "conv", ["x"], lambda x: x)
        draft.batch_norm("norm", draft.relu("relu", "conv"), SIGNED)
        assert self.groups(draft.graph("norm")) == [["conv", "relu"], ["norm"]]

    def test_a_tensor_added_to_itself_is_no_residual(self) -> None:
        draft = Draft()
        draft.add("conv", "conv", ["x"], lambda x: x)
        draft.add("twice", "add", ["conv", "conv"], torch.add)
        assert self.groups(draft.graph("twice")) == [["conv"], ["twice"]]


class TestSplitQuantized:
    """On the graph of a layer as capture writes it."""

    @staticmethod
    def steps(layer: nn.Module, *shape: int) -> list[tuple[str, str]]:
        before = capture(nn.Sequential(layer).eval(), torch.rand(1, *shape)).graph
        after = split_quantized(before)
        x = trial(shape).nan_to_num(nan=0.3)
        same_numbers(before, after, x)
        return [(node.name, node.kind) for node in after if node.kind != "input"]

    def layer(self, quantizer: Quantization, kernel: int = 1, **settings: Any) -> QConv2d:
        torch.manual_seed(0)
        return QConv2d(4, 3, kernel, input_quantization=quantizer, weight_quantization=WeightDoReFa(2), **settings)

    def test_a_layer_is_codes_product_scale_plus(self) -> None:
        found = self.steps(self.layer(InputDoReFa(2), 3, padding=1, bias=True), *SHAPE)
        assert found == [("0/codes", "codes"), ("0/sum", "product"), ("0/scale", "scale"), ("0", "plus")]

    def test_without_a_bias_the_scale_is_the_last(self) -> None:
        found = self.steps(self.layer(InputDoReFa(2), bias=False), *SHAPE)
        assert found == [("0/codes", "codes"), ("0/sum", "product"), ("0", "scale")]

    def test_borders_that_are_no_zeros_are_padded_before(self) -> None:
        replicated = self.layer(InputDoReFa(2), 3, padding=1, padding_mode="replicate")
        assert ("0/pad", "pad") in self.steps(replicated, *SHAPE)
        minus_one = self.layer(Sign(), 3, padding=1, pad_value=-1.0)
        assert ("0/pad", "pad") in self.steps(minus_one, *SHAPE)
        no_code = self.layer(Sign(), 3, padding=1, pad_value=0.0)
        assert ("0/pad", "pad") not in self.steps(no_code, *SHAPE)

    @pytest.mark.parametrize(("low", "steps"), [(0.0, ["divide"]), (-1.0, ["divide", "plus"])])
    def test_a_range_is_divided_by_and_shifted(self, low: float, steps: list[str]) -> None:
        quantizer = InputLSQ(4, offset=low < 0)
        quantizer.fit_(torch.linspace(low, 2, 500))
        found = self.steps(self.layer(quantizer, bias=False), *SHAPE)
        assert [kind for _, kind in found] == [*steps, "codes", "product", "scale"]

    def test_a_learned_shift_is_added(self) -> None:
        quantizer = RSign(4, 2)
        quantizer.shift.data.copy_(SIGNED.view(4, 1, 1))
        found = self.steps(self.layer(quantizer, bias=False), *SHAPE)
        assert [kind for _, kind in found] == ["plus", "codes", "product", "scale"]

    def test_a_quantizer_alone_is_codes_and_values(self) -> None:
        draft = nn.Sequential(QActivation(InputDoReFa(2)), self.layer(InputDoReFa(2), bias=False)).eval()
        after = split_quantized(capture(draft, torch.rand(1, *SHAPE)).graph)
        assert kinds(after) == ["codes", "values", "codes", "product", "scale"]


class TestLower:
    def test_a_clip_behind_a_batch_norm_is_one_operation(self) -> None:
        draft = Draft()
        draft.batch_norm("norm", "x", SIGNED)
        draft.add("clip", "clamp", ["norm"], lambda x: x.clamp(max=0.5), low=None, high=0.5)
        _, operation, output = lower(draft.graph("clip")).operations
        assert {key: operation[key] for key in ("op", "input", "float32", "high")} == {
            "op": "affine",
            "input": "x",
            "float32": "clip",
            "high": 0.5,
        }
        assert "low" not in operation
        assert output["input"] == "clip"

    def test_what_moves_nothing_is_no_operation(self) -> None:
        draft = Draft(4, 1, 1)
        draft.add("tanh", "tanh", [draft.flatten("flat", "x")], torch.tanh)
        operations = lower(draft.graph("tanh")).operations
        assert [(one["op"], one.get("input")) for one in operations] == [
            ("input", None),
            ("activation", "x"),
            ("output", "tanh"),
        ]

    def test_a_tensor_that_leaves_twice_is_copied(self) -> None:
        draft = Draft()
        draft.relu("relu", "x")
        operations = lower(draft.graph("relu", "relu"), ["a", "b"]).operations
        assert [one["op"] for one in operations] == ["input", "affine", "concat", "output", "output"]
        assert [one["input"] for one in operations[-2:]] == ["a", "b"]
        assert (operations[2]["inputs"], operations[2]["output"]) == (["a"], "b")

    def test_a_signal_has_windows_along_one_axis(self) -> None:
        draft = Draft(4, 9)
        settings: dict[str, Any] = {"kernel_size": (3,), "stride": (2,), "padding": (1, 0), "dilation": (1,)}
        draft.add("pool", "max_pool", ["x"], lambda x: F.max_pool1d(F.pad(x, (1, 0)), 3, 2), (4, 4), **settings)
        given, pool, _ = lower(draft.graph("pool")).operations
        assert given["shape"] == [4, 9]
        assert [pool[key] for key in ("kernel_size", "stride", "padding", "dilation")] == [
            [3],
            [2],
            [1, 0],
            [1],
        ]

    def test_a_kind_without_an_operation_is_an_error(self) -> None:
        draft = Draft()
        draft.add("strange", "unsupported", ["x"], lambda x: x)
        with pytest.raises(ValueError, match="unsupported has no operation"):
            lower(draft.graph("strange"))
