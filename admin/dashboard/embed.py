#!/usr/bin/python3
"""Writes the dashboard's files, compressed, as one C++ source.

    embed.py OUT.cpp --node-modules DIR    the source for admin/assets.hpp
    embed.py --list                        the files beside this one that it reads, one a line

The file `assets` says which files, under which path and type. The same input gives the same output.
"""
import argparse
import gzip
import hashlib
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent


def entries():
    """(path, source, content type) of each asset."""
    for number, line in enumerate((HERE / "assets").read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            fields = [field.strip() for field in line.split("|")]
            if len(fields) != 3 or not fields[0].startswith("/"):
                sys.exit(f"{HERE / 'assets'}:{number}: not 'path | source | content type': {line}")
            yield tuple(fields)


def content(source, node_modules):
    """The bytes to serve. The one bare import, of preact by its hooks, gets a path a browser can load."""
    if not source.startswith("node:"):
        return (HERE / source).read_bytes()
    data = (node_modules / source[len("node:"):]).read_bytes()
    if source.endswith(".js"):
        data = re.sub(rb'from\s*"preact"', b'from"./preact.js"', data)
        data = re.sub(rb"\n?//# sourceMappingURL=\S*\s*$", b"\n", data)
        bare = re.search(rb'\bfrom\s*["\'][\w@][\w@/.-]*["\']', data)
        if bare:
            sys.exit(f"embed.py: {source} imports by a bare name: {bare.group().decode()}")
    return data


def literal(data):
    lines = (data[start:start + 32] for start in range(0, len(data), 32))
    return "\n".join(",".join(map(str, line)) + "," for line in lines)


def write(out, node_modules):
    arrays, table = [], []
    for number, (path, source, content_type) in enumerate(entries()):
        data = content(source, node_modules)
        packed = gzip.compress(data, 9, mtime=0)
        etag = hashlib.sha256(data).hexdigest()[:16]
        arrays.append(f"constexpr unsigned char asset_{number}[] = {{  // {source}\n{literal(packed)}\n}};")
        table.append(f'        {{"{path}", "{content_type}", "\\"{etag}\\"", bytes(asset_{number})}},')
    text = "\n".join([
        "// Written by admin/dashboard/embed.py.",
        '#include "admin/assets.hpp"', "", "#include <cstddef>", "", "namespace banyan::admin {", "namespace {", "",
        *arrays, "",
        "template <std::size_t size>",
        "std::string_view bytes(const unsigned char (&data)[size]) {",
        "    return {reinterpret_cast<const char*>(data), size};", "}", "",
        "}  // namespace", "",
        "const std::vector<Asset>& assets() {",
        "    static const std::vector<Asset> all = {", *table, "    };", "    return all;", "}", "",
        "}  // namespace banyan::admin", ""])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="ascii")


def main():
    parser = argparse.ArgumentParser(description="Writes the dashboard's files as one C++ source.")
    parser.add_argument("out", nargs="?", type=pathlib.Path)
    parser.add_argument("--node-modules", type=pathlib.Path)
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(source for _, source, _ in entries() if not source.startswith("node:")))
    elif arguments.out and arguments.node_modules:
        write(arguments.out, arguments.node_modules)
    else:
        parser.error("needs OUT.cpp and --node-modules, or --list")


if __name__ == "__main__":
    main()
