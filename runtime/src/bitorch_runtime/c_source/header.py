"""The text of a header: what a reader of it, and a caller, needs to know; then, where it is asked for, the code."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from .body import Body
from .constants import Constants
from .fragment_text import renamed, text_of
from .names import Names
from .ports import Port

#: What the comment says until a compiler has been asked.
NOT_MEASURED = "code: not measured"
#: Within words of the user's that begin like our names, which they keep.
_KEPT = "\0"


@dataclass(frozen=True)
class Sizes:
    """Bytes of constants and of the arena, and of the weights of layers that keep floats."""

    constants: int
    arena: int
    float_weights: dict[str, int]


def write_header(
    name: str,
    ports: Sequence[Port],
    bodies: Sequence[Body],
    constants: Constants,
    where: Callable[[str], str],
    sizes: Sizes,
    info: dict[str, Any],
) -> str:
    """Return the text of a header.

    Args:
        name: that all names begin with.
        where: what a buffer is called in `net_run`.
        info: of the packed file.
    """
    used = [body for body in bodies if not body.is_empty]
    names = Names("run", "at", "arena")
    titles = [names.new(f"{body.index} {body.operation['op']}".replace(" ", "_")) for body in used]
    implementation = "\n".join(
        [
            _frame("begin"),
            text_of(fragment for body in used for fragment in body.fragments),
            constants.text,
            _arena(sizes.arena),
            *(_function(title, body) for title, body in zip(titles, used, strict=True)),
            _run(ports, used, titles, where),
            _frame("end"),
        ]
    )
    parts = [_comment(ports, sizes, info), _declarations(ports, sizes, info), _implementation(implementation)]
    return renamed("\n".join(parts), name).replace(_KEPT, "")


def _frame(name: str) -> str:
    return (files("bitorch_runtime.c_source") / "frame" / f"{name}.c").read_text(encoding="utf-8")


def plain(text: str) -> str:
    """A text of the user's that may stand in a comment."""
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\n", " ")


def _kept(text: str) -> str:
    return text.replace("net_", f"net{_KEPT}_").replace("NET_", f"NET{_KEPT}_")


def _said(text: str) -> str:
    """`plain`, of a text that is yet to get the header's own name."""
    return _kept(plain(text))


def _comment(ports: Sequence[Port], sizes: Sizes, info: dict[str, Any]) -> str:
    lines = ["net_run computes a network of bitorch. This file was written by `bitorch export`; do not edit it.", ""]
    for port in ports:
        shape = ", ".join(map(str, port.shape))
        lines.append(f"{port.name}: {port.c_type} [{shape}], {port.says}: {_said(port.tensor.name)}")
    lines += ["", NOT_MEASURED, f"constants: {sizes.constants} bytes", f"arena: {sizes.arena} bytes of memory"]
    for title, nbytes in sizes.float_weights.items():
        lines.append(f"of the constants {nbytes} bytes are float weights of {_said(title)}")
    for key in ("preprocessing", "class_names"):
        if key in info:
            lines.append(f"{key.replace('_', ' ')}: {_said(json.dumps(info[key], ensure_ascii=True))}")
    lines += [
        "",
        "In one file of C, and in one only, NET_IMPLEMENTATION must be defined before this file is included:",
        "    #define NET_IMPLEMENTATION",
        "In all others it is included alone. The arena is static: one call at a time. C99, no heap, no threads.",
    ]
    return "/*\n" + "\n".join(f" * {line}".rstrip() for line in lines) + "\n */"


def _declarations(ports: Sequence[Port], sizes: Sizes, info: dict[str, Any]) -> str:
    sizes_of = [f"#define {port.macro}_SIZE {math.prod(port.shape)}" for port in ports]
    lines = [*sizes_of, f"#define NET_CONSTANT_BYTES {sizes.constants}", f"#define NET_ARENA_BYTES {sizes.arena}"]
    if "class_names" in info:
        texts = ", ".join(_c_string(text) for text in info["class_names"])
        lines += [f"#define NET_CLASSES {len(info['class_names'])}", f"#define NET_CLASS_NAMES {{{texts}}}"]
    fails = any(port.side == "in" and port.c_type != "float" for port in ports)
    returns = "0, or n where a number of input n, counted from 1, is out of its range." if fails else "0."
    parameters = ", ".join(port.declaration for port in ports)
    return "\n".join(
        [
            "#ifndef NET_H",
            "#define NET_H",
            "",
            "#include <stdint.h>",
            "",
            *lines,
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            f"/* Compute the network for one image. Return {returns} */",
            f"int net_run({parameters});",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "#endif",
            "",
        ]
    )


def _c_string(text: str) -> str:
    """A text as C writes it: its bytes in UTF-8, octal where they are no plain letters."""
    letters = set(range(32, 127)) - set(b'"\\?')
    return '"' + _kept("".join(chr(byte) if byte in letters else f"\\{byte:03o}" for byte in text.encode())) + '"'


def _arena(nbytes: int) -> str:
    if nbytes == 0:
        return ""
    return f"""static union {{
    double alignment;
    unsigned char bytes[{nbytes}];
}} net_arena;

static void *net_at(uint32_t offset)
{{
    return net_arena.bytes + offset;
}}
"""


def _function(title: str, body: Body) -> str:
    parameters = ", ".join(argument.declaration for argument in body.arguments)
    says = f"/* {body.operation['op']} {_said(body.title)} */"
    kind = "int" if body.may_fail else "void"
    return f"{says}\nstatic {kind} net_{title}({parameters})\n{{\n{body.text}\n}}\n"


def _run(ports: Sequence[Port], bodies: Sequence[Body], titles: Sequence[str], where: Callable[[str], str]) -> str:
    inputs = [port.tensor.name for port in ports if port.side == "in"]
    homes = {where(argument.buffer) for body in bodies for argument in body.arguments}
    lines = [f"    (void){port.name};" for port in ports if port.name not in homes]
    for title, body in zip(titles, bodies, strict=True):
        arguments = ", ".join(where(argument.buffer) for argument in body.arguments)
        call = f"net_{title}({arguments})"
        if body.may_fail:
            number = 1 + inputs.index(body.operation["output"])
            lines += [f"    if ({call} != 0) {{", f"        return {number};", "    }"]
        else:
            lines.append(f"    {call};")
    parameters = ", ".join(port.declaration for port in ports)
    body_text = "\n".join([*lines, "    return 0;"])
    return f"int net_run({parameters})\n{{\n{body_text}\n}}\n"


def _implementation(code: str) -> str:
    needs_math = re.search(r"\b(INFINITY|NAN|sqrtf?)\b", code) is not None
    includes = ["#include <math.h>"] if needs_math else []
    if "mem" in code:
        includes.append("#include <string.h>")
    return "\n".join(["#ifdef NET_IMPLEMENTATION", "", *includes, "", code.strip(), "", "#endif", ""])
