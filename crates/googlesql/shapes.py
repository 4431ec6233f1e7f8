#!/usr/bin/env python3
"""Prints the shapes of what Google's module answers, one message a line: of its parse tree for src/ast.txt, of its
resolved tree for src/resolved.txt.

They are read from the descriptors in the PyPI package zetasql, the one whose module `hansard analyzer install` takes:
    python3 -m venv v && v/bin/pip install zetasql==0.1.5
    v/bin/python shapes.py ParseResponse > src/ast.txt
    v/bin/python shapes.py AnalyzeResponse > src/resolved.txt

Line:  NAME FIELD=NUMBER:TYPE ...   TYPE is another NAME, s (text), b (bool), i (number), or x (not read).
A name that begins with ? only stands for one of its fields.
"""
import sys
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service

# Values of literals, types of other languages, notes: nothing that is asked about, and nothing that holds a query.
NOT_READ = {
    "AnnotationMapProto", "EnumTypeProto", "FileDescriptorSet", "FunctionSignatureProto", "GraphElementTypeProto",
    "GraphPathTypeProto", "ProtoTypeProto", "ResolvedCollationProto", "TVFSignatureProto", "ValueProto",
}

def name(descriptor):
    short = descriptor.name.removesuffix("Proto")
    return "?" + short if "node" in descriptor.oneofs_by_name else short

def kind(field):
    if field.message_type is not None:
        return "x" if field.message_type.name in NOT_READ else name(field.message_type)
    return {1: "x", 2: "x", 6: "x", 7: "x", 15: "x", 16: "x", 8: "b", 9: "s", 12: "s"}.get(field.type, "i")

seen = {}
def walk(descriptor):
    if descriptor.full_name in seen or descriptor.name in NOT_READ:
        return
    seen[descriptor.full_name] = descriptor
    for field in descriptor.fields:
        if field.message_type is not None:
            walk(field.message_type)

walk(getattr(service, sys.argv[1]).DESCRIPTOR)
for descriptor in sorted(seen.values(), key=lambda descriptor: descriptor.name):
    fields = (f"{field.name}={field.number}:{kind(field)}" for field in descriptor.fields)
    print(" ".join([name(descriptor), *fields]))
