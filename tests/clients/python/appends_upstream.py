"""A BigQueryWrite service that does what its rows say: appends_upstream.py PORT

Rows beginning with "bad" are refused, with "again" are there already; a stream that is committed was committed before.
"""

import sys
from concurrent import futures

import grpc
from google.cloud.bigquery_storage_v1 import types
from google.rpc import status_pb2

SERVICE = "/google.cloud.bigquery.storage.v1.BigQueryWrite/"


def append(requests, _):
    taken = 0
    for raw in requests:
        request = types.AppendRowsRequest.pb(types.AppendRowsRequest.deserialize(raw))
        rows = list(request.proto_rows.rows.serialized_rows)
        response = types.AppendRowsResponse()
        answer = types.AppendRowsResponse.pb(response)
        if any(b"bad" in row for row in rows):
            answer.error.CopyFrom(status_pb2.Status(code=3, message="Errors found while processing rows."))
            refused = answer.row_errors.add()
            refused.index, refused.code, refused.message = 0, 1, "Field a: wrong"
        elif any(b"again" in row for row in rows):
            answer.error.CopyFrom(status_pb2.Status(code=6, message="The offset is within the stream."))
        elif any(b"silent" in row for row in rows):
            continue
        else:
            answer.append_result.offset.value = taken
            taken += len(rows)
        yield types.AppendRowsResponse.serialize(response)


def create(raw, _):
    request = types.CreateWriteStreamRequest.pb(types.CreateWriteStreamRequest.deserialize(raw))
    return types.WriteStream.serialize(types.WriteStream(name=f"{request.parent}/streams/one"))


def commit(*_):
    response = types.BatchCommitWriteStreamsResponse()
    refused = types.BatchCommitWriteStreamsResponse.pb(response).stream_errors.add()
    refused.code, refused.error_message = 2, "stream already committed"
    return types.BatchCommitWriteStreamsResponse.serialize(response)


class Service(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == SERVICE + "AppendRows":
            return grpc.stream_stream_rpc_method_handler(append)
        if details.method == SERVICE + "CreateWriteStream":
            return grpc.unary_unary_rpc_method_handler(create)
        if details.method == SERVICE + "BatchCommitWriteStreams":
            return grpc.unary_unary_rpc_method_handler(commit)
        return None


server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((Service(),))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
print("ready", flush=True)
server.wait_for_termination(300)
