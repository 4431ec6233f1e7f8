# bqemulator with its DuckDB extensions, pinned with hashes by the tests' own file.
FROM python:3.11-slim-bookworm
COPY tests/clients/python/emulator-requirements.txt /requirements.txt
RUN pip install --no-cache-dir --require-hashes -r /requirements.txt \
    && python -c "from duckdb_extensions import import_extension as i; i('spatial'); i('avro')"
CMD ["bqemulator", "start", "--rest-port", "9050", "--grpc-port", "9060", "--project", "sandbox"]
