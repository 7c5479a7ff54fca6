#!/usr/bin/python3
"""Packs the files that `assets` lists into a C++ source: embed.py OUT.cpp [--node-modules DIR].

A line of `assets`: path on the server, content type, file. A file beneath node_modules/ is looked for in DIR. Files are
compressed here, once, the same bytes for the same file; the etag is a hash of what is in it.
"""
import argparse
import gzip
import hashlib
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
WIDTH = 100


def literal(data):
    """Adjacent string literals; octal escapes have three digits, so that what follows is not taken for a part."""
    lines, line = [], ""
    for byte in data:
        plain = 32 <= byte < 127 and byte not in b'"\\?'
        line += chr(byte) if plain else f"\\{byte:03o}"
        if len(line) > WIDTH:
            lines.append(line)
            line = ""
    return "\n    ".join(f'"{each}"' for each in [*lines, line])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--node-modules", type=pathlib.Path)
    arguments = parser.parse_args()
    entries = []
    for line in (HERE / "assets").read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        path, content_type, file = line.split()
        base, rest = (arguments.node_modules, file[len("node_modules/"):]) if file.startswith("node_modules/") else (HERE, file)
        content = (base / rest).read_bytes()
        etag = hashlib.sha256(content).hexdigest()[:32]
        packed = gzip.compress(content, 9, mtime=0)
        entries.append(f'    {{"{path}", "{content_type}", "\\"{etag}\\"",\n    std::string_view({literal(packed)}, {len(packed)})}}')
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text('// Made by admin/dashboard/embed.py.\n#include "admin/assets.hpp"\n\nnamespace banyan::admin {\n\n'
                             "const std::vector<Asset>& assets() {\n    static const std::vector<Asset> all = {\n"
                             + ",\n".join(entries) + "};\n    return all;\n}\n\n}  // namespace banyan::admin\n", encoding="utf-8")


if __name__ == "__main__":
    main()
