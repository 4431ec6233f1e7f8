"""Appends rows, a message each, by one stream: appends_client.py HOST:PORT TOKEN HOW ROW...

HOW is `end` (the stream is ended), `leave` (it is cancelled once everything was answered), `waiting` (it is cancelled while the last message
waits for its answer), `hold` (it stays open for some seconds once everything was answered), `tables` (each row goes to a table of its own, with a
long name) or `commit` (a stream is made and committed, without rows). Prints what was answered.
"""

import sys
import threading

import grpc
from google.cloud.bigquery_storage_v1 import types
from google.protobuf import descriptor_pb2

SERVICE = "/google.cloud.bigquery.storage.v1.BigQueryWrite/"
TABLE = "projects/proj/datasets/shop/tables/orders"
target, token, how, rows = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
metadata = (("authorization", f"Bearer {token}"),)
channel = grpc.insecure_channel(target)


def message(row, first):
    request = types.AppendRowsRequest()
    append = types.AppendRowsRequest.pb(request)
    table = TABLE if how != "tables" else f"projects/proj/datasets/{'d' * 300}/tables/{row}{'t' * 600}"
    append.write_stream = f"{table}/streams/_default"
    if first or how == "tables":
        schema = append.proto_rows.writer_schema.proto_descriptor
        schema.CopyFrom(descriptor_pb2.DescriptorProto(name="R"))
        schema.field.add(name="a", number=1, label=1, type=9)
    append.proto_rows.rows.serialized_rows.append(bytes([10, len(row)]) + row.encode())
    return types.AppendRowsRequest.serialize(request)


if how == "commit":
    request = types.CreateWriteStreamRequest(parent=TABLE)
    request.write_stream.type_ = types.WriteStream.Type.PENDING
    create = channel.unary_unary(SERVICE + "CreateWriteStream")
    made = create(types.CreateWriteStreamRequest.serialize(request), metadata=metadata, timeout=20)
    names = [types.WriteStream.deserialize(made).name]
    request = types.BatchCommitWriteStreamsRequest(parent=TABLE, write_streams=names)
    commit = channel.unary_unary(SERVICE + "BatchCommitWriteStreams")
    commit(types.BatchCommitWriteStreamsRequest.serialize(request), metadata=metadata, timeout=20)
    print("answered")
    sys.exit()

over = threading.Event()


def messages():
    for number, row in enumerate(rows):
        yield message(row, number == 0)
    if how not in ("end", "tables"):
        over.wait(6 if how == "hold" else 20)


call = channel.stream_stream(SERVICE + "AppendRows")(messages(), metadata=metadata, timeout=30)
expected = len(rows) - (how == "waiting")
for number, answer in enumerate(call, 1):
    print("answered", flush=True)
    if how in ("leave", "waiting") and number == expected:
        if how == "waiting":
            threading.Event().wait(0.5)
        call.cancel()
        over.set()
        break
