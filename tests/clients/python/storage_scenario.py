"""google-cloud-bigquery-storage beside google-cloud-bigquery, doing what its users do; see ../README.md."""

import queue

from google.cloud.bigquery_storage_v1 import types
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from common import DATASET, PROJECT, client, step
from storage_clients import read_client, write_client

bq = client()
TABLE = f"projects/{PROJECT}/datasets/{DATASET}/tables/people"
ROWS = 20_000


def main():
    step("create_dataset", lambda: bq.create_dataset(DATASET).dataset_id)
    step("create_table", create_table)
    for name, data_format in (("arrow", types.DataFormat.ARROW), ("avro", types.DataFormat.AVRO)):
        step(f"read_{name}", lambda: read(data_format))
        step(f"read_{name}_selected", lambda: read(data_format, selected_fields=["id", "name"], row_restriction="id > 19990"))
    step("read_many", read_many)
    step("to_dataframe", to_dataframe)
    step("to_arrow", to_arrow)
    step("read_missing_table", lambda: session("nowhere", types.DataFormat.ARROW))
    step("read_missing_stream", read_missing_stream)
    step("append_default", append_default)
    step("append_committed", lambda: append(types.WriteStream.Type.COMMITTED))
    step("append_pending", append_pending)
    step("append_bad_offset", append_bad_offset)
    step("rows_written", rows_written)
    step("delete_dataset", lambda: bq.delete_dataset(DATASET, delete_contents=True))


def create_table():
    sql = f"""CREATE TABLE `{DATASET}.people` AS
        SELECT n AS id, CONCAT('name ', CAST(n AS STRING)) AS name, n * 1.5 AS score, n < 3 AS is_early,
          DATE_ADD(DATE '2026-01-01', INTERVAL MOD(n, 365) DAY) AS day, IF(MOD(n, 7) = 0, NULL, n) AS maybe
        FROM UNNEST(GENERATE_ARRAY(1, {ROWS})) AS n"""
    bq.query(sql).result()
    bq.query(f"CREATE TABLE `{DATASET}.written` (id INT64, name STRING)").result()
    return True


def session(table, data_format, **options):
    return read_client().create_read_session(
        parent=f"projects/{PROJECT}",
        read_session=types.ReadSession(
            table=TABLE.replace("people", table),
            data_format=data_format,
            read_options=types.ReadSession.TableReadOptions(**options),
        ),
        max_stream_count=1,
    )


def read(data_format, **options):
    made = session("people", data_format, **options)
    rows = read_client().read_rows(made.streams[0].name).rows(made)
    plain = sorted(({key: str(value) for key, value in row.items()} for row in rows), key=lambda row: int(row["id"]))
    return [len(plain), plain[0], plain[-1]]


def read_many():
    made = session("people", types.DataFormat.ARROW)
    reader = read_client()
    return [sum(page.row_count for page in reader.read_rows(made.streams[0].name)) for _ in range(5)]


def to_dataframe():
    frame = bq.list_rows(f"{DATASET}.people").to_dataframe(bqstorage_client=read_client())
    return [list(frame.shape), int(frame["id"].sum())]


def to_arrow():
    table = bq.list_rows(f"{DATASET}.people").to_arrow(bqstorage_client=read_client())
    return [table.num_rows, [field.name for field in table.schema]]


def read_missing_stream():
    for _ in read_client().read_rows(f"projects/{PROJECT}/locations/US/sessions/nobodys/streams/0"):
        pass


def row_class():
    file = descriptor_pb2.FileDescriptorProto(name="row.proto", package="scenario")
    message = file.message_type.add(name="Row")
    kinds = descriptor_pb2.FieldDescriptorProto
    message.field.add(name="id", number=1, type=kinds.TYPE_INT64, label=kinds.LABEL_OPTIONAL)
    message.field.add(name="name", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("scenario.Row")), message


ROW, DESCRIPTOR = row_class()


def batch(first, count, offset=None):
    request = types.AppendRowsRequest()
    data = types.AppendRowsRequest.ProtoData()
    data.writer_schema = types.ProtoSchema(proto_descriptor=DESCRIPTOR)
    data.rows = types.ProtoRows(
        serialized_rows=[ROW(id=n, name=f"written {n}").SerializeToString() for n in range(first, first + count)]
    )
    request.proto_rows = data
    if offset is not None:
        request.offset = offset
    return request


def appended(client, name, batches):
    """Sends them on one stream, each when the one before it was acknowledged."""
    acknowledged = queue.Queue()

    def requests():
        for number, request in enumerate(batches):
            if number > 0:
                acknowledged.get(timeout=60)
            request.write_stream = name
            yield request

    offsets = []
    for answer in client.append_rows(requests()):
        acknowledged.put(answer)
        offsets.append(answer.append_result.offset if not answer.error.code else answer.error.message)
    return offsets


def written():
    return TABLE.replace("people", "written")


def append_default():
    return len(appended(write_client(), f"{written()}/streams/_default", [batch(first, 100) for first in (0, 100, 200)]))


def append(kind):
    client = write_client()
    made = client.create_write_stream(parent=written(), write_stream=types.WriteStream(type_=kind))
    offsets = appended(client, made.name, [batch(1000 + at, 10, offset=at) for at in (0, 10, 20)])
    return [offsets, client.get_write_stream(name=made.name).type_.name, client.finalize_write_stream(name=made.name).row_count]


def append_pending():
    client = write_client()
    made = client.create_write_stream(
        parent=written(), write_stream=types.WriteStream(type_=types.WriteStream.Type.PENDING)
    )
    appended(client, made.name, [batch(2000, 50, offset=0)])
    client.finalize_write_stream(name=made.name)
    before = rows_written()
    client.batch_commit_write_streams(
        request=types.BatchCommitWriteStreamsRequest(parent=written(), write_streams=[made.name])
    )
    return [before, rows_written()]


def append_bad_offset():
    client = write_client()
    made = client.create_write_stream(
        parent=written(), write_stream=types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
    )
    return appended(client, made.name, [batch(3000, 10, offset=99)])


def rows_written():
    return [list(row.values()) for row in bq.query(f"SELECT COUNT(*), SUM(id) FROM `{DATASET}.written`").result()]


if __name__ == "__main__":
    main()
