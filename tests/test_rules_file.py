"""Rules files: what they say is what quantize_ gets, and every mistake is named with file, entry and key."""

from __future__ import annotations

import json
import string
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from bitorch import Bits, LowBitConfig, Rule, load_rules, save_rules
from bitorch.conversion.convertible import LOW_BIT

RULES = [
    Rule("*", LowBitConfig(1, 2)),
    Rule("layer3.*", LowBitConfig(4, 4, 6, first=8, last_layers=("fc",), gradient_noise=False)),
    Rule(r"re:.*\.conv\d", LowBitConfig(2, 2, range="calibrated", calibration="percentile", percentile=99)),
    Rule(nn.Linear, LowBitConfig(8, 8)),
    Rule((nn.Conv1d, nn.Conv3d), None),
    Rule("head", None),
]

YAML = r"""
- {weight_bits: 1, activation_bits: 2}
- match: layer3.*
  weight_bits: 4
  activation_bits: 4
  gradient_bits: 6
  first: 8
  last_layers: [fc]
  gradient_noise: false
- match: re:.*\.conv\d
  weight_bits: 2
  activation_bits: 2
  range: calibrated
  calibration: percentile
  percentile: 99
- {type: Linear, weight_bits: 8, activation_bits: 8}
- {type: [Conv1d, Conv3d], float: true}
- {match: head, float: true}
"""

JSON = r"""[
  {"weight_bits": 1, "activation_bits": 2},
  {"match": "layer3.*", "weight_bits": 4, "activation_bits": 4, "gradient_bits": 6, "first": 8, "last_layers": ["fc"],
   "gradient_noise": false},
  {"match": "re:.*\\.conv\\d", "weight_bits": 2, "activation_bits": 2, "range": "calibrated",
   "calibration": "percentile", "percentile": 99},
  {"type": "Linear", "weight_bits": 8, "activation_bits": 8},
  {"type": ["Conv1d", "Conv3d"], "float": true},
  {"match": "head", "float": true}
]"""


def write(folder: Path, text: str, name: str = "rules.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "text"), [("r.yaml", YAML), ("r.yml", YAML), ("r.JSON", JSON), ("r.yaml", JSON)])
def test_what_a_file_says(tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path, text, name)
    assert load_rules(path) == load_rules(str(path)) == RULES


def test_anchors_and_merges(tmp_path: Path) -> None:
    text = """
- &base {match: a, weight_bits: 1, activation_bits: 2}
- {<<: *base, match: b}
- {<<: *base, match: c, weight_bits: 4, last_layers: &names [x, y]}
- {<<: *base, match: d, first_layers: *names}
"""
    bits = [(rule.match, getattr(rule.config, "weight_bits", None)) for rule in load_rules(write(tmp_path, text))]
    assert bits == [("a", 1), ("b", 1), ("c", 4), ("d", 1)]
    last = load_rules(write(tmp_path, text))[-1].config
    assert last == LowBitConfig(1, 2, first_layers=("x", "y"))


# There and back


def configs() -> st.SearchStrategy[LowBitConfig | None]:
    bits = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 32])
    ends = st.sampled_from(["float", 8, "same"])
    names = st.lists(texts(), max_size=2).map(tuple)
    return st.none() | st.builds(
        LowBitConfig,
        weight_bits=bits,
        activation_bits=bits,
        gradient_bits=bits,
        first=ends,
        last=ends,
        first_layers=names,
        last_layers=names,
        gradient_noise=st.booleans(),
        exact=st.booleans(),
        absorb_relu=st.booleans(),
        range=st.sampled_from(["unit", "calibrated", "learned"]),
        weight_scale=st.sampled_from(["layer", "channel"]),
        weights=st.sampled_from([None, "dorefa", "lsq"]),
        calibration=st.sampled_from(["mse", "percentile"]),
        percentile=st.floats(50, 100, exclude_min=True),
    )


def texts() -> st.SearchStrategy[str]:
    """Return module names, and anything else that UTF-8 can hold, what YAML reads as another type among it."""
    odd = st.sampled_from(
        ["*", "?", "1", "1.0", "on", "null", "~", "<<", "=", "- a", "a: b", "#", " a", "2001-01-01", "\x85", "\n"]
    )
    any_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
    return (odd | any_text | st.text(string.ascii_letters + "._*0", min_size=1)).filter(lambda s: s[:3] != "re:")


def matches() -> st.SearchStrategy[Any]:
    types = st.sampled_from(list(LOW_BIT))
    return texts() | types | st.lists(types, min_size=1, max_size=3, unique=True).map(tuple)


def key_of(match: Any) -> object:
    return match if isinstance(match, str) else frozenset(match if isinstance(match, tuple) else (match,))


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rules=st.lists(st.builds(Rule, matches(), configs()), min_size=1, max_size=4, unique_by=lambda r: key_of(r.match)),
    ending=st.sampled_from([".yaml", ".json"]),
)
def test_rules_survive_a_file(tmp_path: Path, rules: list[Rule], ending: str) -> None:
    path = tmp_path / f"rules{ending}"
    save_rules(path, rules)
    assert load_rules(path) == rules
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text() | st.text("[]{}:,-*&!?<>#|'\"\n 0127xbf_.ematchtypefloat"), ending=st.sampled_from(["yaml", "json"])
)
def test_any_text_is_rules_or_a_value_error(tmp_path: Path, text: str, ending: str) -> None:
    path = tmp_path / f"rules.{ending}"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        rules = load_rules(path)
    except ValueError as error:
        found = str(error)
    else:
        found = f"{path}: {rules}"
    assert found.startswith(f"{path}: ")


def test_what_is_written_is_short(tmp_path: Path) -> None:
    save_rules(tmp_path / "rules.yaml", [("*", LowBitConfig(1, 2)), (nn.Linear, None)])
    assert (tmp_path / "rules.yaml").read_text() == (
        "- match: '*'\n  weight_bits: 1\n  activation_bits: 2\n- type: Linear\n  float: true\n"
    )


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path, "old")
    for rules in ([], [("*", Bits(1))], [("a", None), ("a", None)], [(nn.Bilinear, None)], ["a"], [("\ud800", None)]):
        with pytest.raises((TypeError, ValueError)):
            save_rules(path if rules != [("\ud800", None)] else path.with_suffix(".json"), rules)  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["rules.yaml"]
    assert path.read_text() == "old"
    with pytest.raises(ValueError, match="the type Bilinear cannot be written to a file, only Linear, Conv1d"):
        save_rules(path, [(nn.Bilinear, None)])


# Mistakes

ENTRY_ERRORS = {
    "- {weigth_bits: 1, activation_bits: 2}": "entry 1: unknown key 'weigth_bits'; did you mean 'weight_bits'",
    "- {match: a, float: true}\n- {1: 2}": "entry 2: unknown key 1; there are match, type",
    "- {match: a, float: true}\n- {float: true}": "entry 2: has neither match nor type; only the first entry",
    "- {match: a, type: Linear, float: true}": "entry 1: has both match and type",
    "- a": "entry 1: must be a mapping with match or type, got 'a'",
    "- [a]": "entry 1: must be a mapping with match or type, got a list",
    "-": "entry 1: must be a mapping with match or type, got None",
    "- {match: 3, float: true}": "entry 1: match must be a text, got 3; put it in quotes",
    "- {match: on, float: true}": "entry 1: match must be a text, got True; put it in quotes",
    "- {match: 1.0, float: true}": "entry 1: match must be a text, got 1.0; put it in quotes",
    "- {match: [a], float: true}": "entry 1: match must be a text, got a list$",
    "- {match: '', float: true}": "entry 1: match must be a name, a glob",
    "- {match: 're:(', float: true}": r"entry 1: match 're:\(' is no regular expression",
    "- {type: Conv2D, float: true}": "entry 1: type 'Conv2D' cannot be converted; did you mean 'Conv2d'",
    "- {type: Bilinear, float: true}": "entry 1: type 'Bilinear' cannot be converted; did you mean 'Linear'",
    "- {type: [], float: true}": "entry 1: type is an empty list; name a layer type",
    "- {type: 2, float: true}": "entry 1: type must be a text, got 2",
    "- {match: a, float: false}": "entry 1: float must be true, got False; leave it out",
    "- {match: a, float: 1}": "entry 1: float must be true, got 1",
    "- {match: a, float: true, exact: true}": "entry 1: has float: true and exact; leave one of them out",
    "- {match: a}": "entry 1: has no weight_bits; give it, or float: true",
    "- {match: a, weight_bits: 1}": "entry 1: has no activation_bits; give it",
    "- {weight_bits: true, activation_bits: 2}": "entry 1: weight_bits must be a whole number, got True",
    "- {weight_bits: '1', activation_bits: 2}": "entry 1: weight_bits must be a whole number, got '1'",
    "- {weight_bits: 1.0, activation_bits: 2}": "entry 1: weight_bits must be a whole number, got 1.0",
    "- {weight_bits: 9, activation_bits: 2}": "entry 1: weight_bits must be one of 1…8, or 32 for none, got 9",
    "- {weight_bits: 1, activation_bits: 2, exact: 1}": "entry 1: exact must be true or false, got 1",
    "- {weight_bits: 1, activation_bits: 2, first: 4}": "entry 1: first must be .*got 4",
    "- {weight_bits: 1, activation_bits: 2, first: [8]}": "entry 1: first must be a text or a number, got a list",
    "- {weight_bits: 1, activation_bits: 2, range: all}": "entry 1: range must be one of",
    "- {weight_bits: 1, activation_bits: 2, percentile: '9'}": "entry 1: percentile must be a number, got '9'",
    "- {weight_bits: 1, activation_bits: 2, last_layers: fc}": "entry 1: last_layers must be a list of names, got 'fc'",
    "- {weight_bits: 1, activation_bits: 2, last_layers: [1]}": "entry 1: last_layers must be a text, got 1; put it in",
}


@pytest.mark.parametrize(("text", "message"), ENTRY_ERRORS.items(), ids=list(ENTRY_ERRORS))
def test_mistakes_in_an_entry(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"rules.yaml: {message}"):
        load_rules(write(tmp_path, text))


FILE_ERRORS = {
    "": "holds no rules",
    "# nothing": "holds no rules",
    "[]": "holds no rules",
    "{}": "holds no rules",
    "match: a": "must hold a list of rules such as .*, got a mapping",
    "a": "must hold a list of rules such as .*, got 'a'",
    "- {match: a, float: true}\n- {match: a, float: true}": "rules 1 and 2 have the same match, a",
    "- {float: true}\n- {match: '*', float: true}": r"rules 1 and 2 have the same match, \*",
    "- {type: Linear, float: true}\n- {type: [Linear], float: true}": "rules 1 and 2 have the same match, Linear",
    "- {match: a, match: b, float: true}": "the key 'match' stands twice in one mapping",
    "- {match: *a, float: true}": "undefined alias 'a'.*; names that begin with",
    "- match: *\n  float: true": "names that begin with .* need quotes",
    "- match: a\n b": "names that begin with",
    "--- []\n--- []": "expected a single document",
    "- !!python/object/apply:os.system ['true']": "the tag '!!python/object|tag:yaml.org,2002:python/object",
    "- !!int a": "the tag 'tag:yaml.org,2002:int' is not allowed",
    "- {match: 2001-99-99}": "month must be in 1",
    "[" * 10_000: "nested too deeply",
}


@pytest.mark.parametrize(("text", "message"), FILE_ERRORS.items(), ids=[text[:20] for text in FILE_ERRORS])
def test_mistakes_in_a_yaml_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"rules.yaml: .*{message}"):
        load_rules(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value: line 1"),
        ("null", "holds no rules"),
        ('{"match": "a"}', "must hold a list of rules"),
        ('[{"match": "a", "match": "b", "float": true}]', "the key 'match' stands twice"),
        ('[{"weight_bits": 1, "activation_bits": 2, "percentile": NaN}]', "NaN is not JSON"),
        ('[{"match": "a", "float": true},]', "line 1"),
        ("[" * 100_000, "nested too deeply"),
    ],
    ids=range(7),
)
def test_mistakes_in_a_json_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"rules.json: .*{message}"):
        load_rules(write(tmp_path, text, "rules.json"))


def test_a_message_about_a_huge_value_is_short(tmp_path: Path) -> None:
    lines = ["- &a0 [x, x, x, x, x, x, x, x, x]", *(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))]
    with pytest.raises(ValueError, match="more than 25,000 values, those counted that aliases stand for") as caught:
        load_rules(write(tmp_path, "\n".join(lines)))
    assert len(str(caught.value)) < 500


def test_files_that_are_none(tmp_path: Path) -> None:
    for call in (load_rules, lambda path: save_rules(path, RULES)):
        with pytest.raises(ValueError, match=r"rules.txt: the name of a rules file ends in .json, .yaml, .yml, got"):
            call(tmp_path / "rules.txt")
    with pytest.raises(FileNotFoundError):
        load_rules(tmp_path / "rules.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(IsADirectoryError):
        load_rules(tmp_path / "folder.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"- {match: \xe4, float: true}")
    with pytest.raises(ValueError, match=r"latin.yaml: is not UTF-8 text: 'utf-8' codec can't decode"):
        load_rules(tmp_path / "latin.yaml")
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["latin.yaml"]


def test_yaml_without_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    for call in (load_rules, lambda path: save_rules(path, RULES)):
        with pytest.raises(ImportError, match=r'PyYAML, of the extra "train": pip install .* rules in JSON'):
            call(write(tmp_path, YAML))
    save_rules(tmp_path / "rules.json", RULES)
    assert load_rules(tmp_path / "rules.json") == RULES
    assert json.loads((tmp_path / "rules.json").read_text())[3] == {
        "type": "Linear", "weight_bits": 8, "activation_bits": 8,
    }  # fmt: skip
