"""Joins what an upstream saw with what the record says: join.py UPSTREAM.jsonl RECORDS.jsonl LONGEST

A line of the first is a request: {"record": the id it carried, "line": verb and path, "body": text}. The second is the output of
`hansard records --json`. Prints what is unrecorded, phantom, or missing from its record, and exits with 1 if anything is or no record names so many tables. It shares no code with
the gateway.
"""

import email
import json
import sys


def documents(body):
    """The JSON of a body: the whole, or the first part of a multipart one."""
    if body.startswith("--"):
        parts = email.message_from_string(f"Content-Type: multipart/related; boundary={body.split(chr(13))[0][2:]}\n\n{body}")
        return [json.loads(parts.get_payload(0).get_payload())]
    try:
        return [json.loads(body)]
    except ValueError:
        return []


def names(value):
    """Every table and every source that a document names."""
    if isinstance(value, dict):
        if "tableId" in value:
            yield f"{value['projectId']}.{value['datasetId']}.{value['tableId']}"
        yield from value.get("sourceUris", [])
        for inner in value.values():
            yield from names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from names(inner)


upstream = [json.loads(line) for line in open(sys.argv[1])]
records = {record["id"]: record for record in map(json.loads, open(sys.argv[2]))}
unrecorded, missing, named = [], [], 0
for seen in upstream:
    record = records.get(seen["record"])
    if record is None:
        unrecorded.append(seen["line"])
        continue
    tables = set(record["statement"].get("tables", []))
    body = record["request"].get("body", "")
    for document in documents(seen["body"]):
        for name in names(document):
            named += 1
            # Sources stand in the request's own text alone.
            if name not in tables and not (name.startswith("gs://") and f'"{name}"' in body):
                missing.append((seen["record"], name[:80]))
sent = {seen["record"] for seen in upstream}
# The gateway's own questions go on while this is read.
went_up = (id for id, record in records.items() if record["kind"] == "exchange" and "forwarded" in record["time"] and record["actor"]["kind"] != "gateway")
phantom = [id for id in went_up if id not in sent]
longest = max((len(record["statement"].get("tables", [])) for record in records.values()), default=0)
print(f"{len(upstream)} requests upstream, {len(unrecorded)} unrecorded, {len(phantom)} phantom, {named} names, {len(missing)} missing, longest {longest}")
for wrong in (unrecorded + phantom + missing)[:10]:
    print("wrong:", wrong)
sys.exit(bool(unrecorded or phantom or missing) or longest < int(sys.argv[3]))
