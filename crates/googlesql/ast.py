#!/usr/bin/env python3
"""Prints the shape of Google's parse tree, one message a line, for src/ast.txt.

It is read from the descriptors in the PyPI package zetasql, the one whose module `hansard analyzer install` takes:
    python3 -m venv v && v/bin/pip install zetasql==0.1.5 && v/bin/python ast.py > src/ast.txt

Line:  NAME FIELD=NUMBER:TYPE ...   TYPE is another NAME, or s (text), b (bool), i (number).
A name that begins with ? only stands for one of its fields.
"""
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service

def name(descriptor):
    short = descriptor.name.removesuffix("Proto")
    return "?" + short if "node" in descriptor.oneofs_by_name else short

def kind(field):
    if field.message_type is not None:
        return name(field.message_type)
    return {8: "b", 9: "s", 12: "s"}.get(field.type, "i")

seen = {}
def walk(descriptor):
    if descriptor.full_name in seen:
        return
    seen[descriptor.full_name] = descriptor
    for field in descriptor.fields:
        if field.message_type is not None:
            walk(field.message_type)

walk(service.ParseResponse.DESCRIPTOR)
for descriptor in sorted(seen.values(), key=lambda descriptor: descriptor.name):
    fields = (f"{field.name}={field.number}:{kind(field)}" for field in descriptor.fields)
    print(" ".join([name(descriptor), *fields]))
