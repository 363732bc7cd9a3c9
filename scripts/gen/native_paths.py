"""Write native/core/generated_paths.h: which arguments are paths and buffers, for the C side."""

from __future__ import annotations

from pathlib import Path

import syscalls
from tables import ROOT, heading

DECLARATIONS = """
#pragma once

#include <stdint.h>

// Argument indexes are 0 to 5; -1: none.
struct tl_path_param {
  int8_t path;          // the argument that points to the path
  int8_t dirfd;         // what it is relative to; -1: the working directory
  int8_t flags;         // the argument that holds the two flags below
  uint8_t follow;       // a symbolic link in the last component is followed ...
  uint8_t nullable;     // a null pointer is legal
  uint8_t empty;        // "" means dirfd itself, with no flag
  uint32_t follow_flag; // ... unless this bit is set (or only if, where follow is 0); 0: no such flag
  uint32_t empty_flag;  // the bit under which "" means dirfd itself; 0: no such flag
};

struct tl_path_call {
  int16_t nr;
  uint8_t count; // of paths: 1 or 2
  struct tl_path_param paths[2];
};

// A plain buffer whose size in bytes another argument holds.
struct tl_buffer_param {
  int16_t nr;
  int8_t buffer;
  int8_t size;
  uint8_t written; // 1: the kernel writes it, 0: the kernel reads it
};
"""


def path_row(call: syscalls.Call) -> str:
    """One initialiser of tl_path_call, or nothing when the call takes no path."""
    params = call.params or []
    index = {param.name: position for position, param in enumerate(params)}
    items = []
    for param in params:
        if param.kind != "path":
            continue
        follow_arg, _, follow_flag = param.words.get("follow_flag", "").partition(":")
        empty_arg, _, empty_flag = param.words.get("empty_flag", "").partition(":")
        values = (
            index[param.name],
            index.get(param.words.get("dirfd", ""), -1),
            index.get(follow_arg or empty_arg, -1),
            param.words["follow"],
            param.words.get("nullable", 0),
            param.words.get("empty", 0),
            follow_flag or 0,
            empty_flag or 0,
        )
        items.append("{" + ", ".join(map(str, values)) + "}")
    if not items:
        return ""
    return f"  {{{call.number}, {len(items)}, {{{', '.join(items)}}}}}, // {call.name}\n"


def buffer_rows(call: syscalls.Call) -> str:
    """The initialisers of tl_buffer_param for a call."""
    params = call.params or []
    index = {param.name: position for position, param in enumerate(params)}
    text = ""
    for param in params:
        size = param.words.get("size_of")
        if param.kind == "buf" and size and "pointer" not in params[index[size]].words:
            written = int(param.words["pointer"] != "in")
            text += f"  {{{call.number}, {index[param.name]}, {index[size]}, {written}}}, // {call.name}\n"
    return text


def generate(data: Path = ROOT / "data") -> dict[str, str]:
    """Return the header, by its path below the root."""
    text = heading("native_paths.py").replace("#", "//", 1) + "// clang-format off\n" + DECLARATIONS
    for arch, calls in syscalls.load(data).items():
        ordered = sorted((call for call in calls.values() if call.number >= 0), key=lambda call: call.number)
        text += f"\n// {arch}, by number.\nstatic const struct tl_path_call tl_path_calls_{arch}[] = {{\n"
        text += "".join(path_row(call) for call in ordered) + "};\n"
        text += f"\nstatic const struct tl_buffer_param tl_buffer_params_{arch}[] = {{\n"
        text += "".join(buffer_rows(call) for call in ordered) + "};\n"
    return {"native/core/generated_paths.h": text}
