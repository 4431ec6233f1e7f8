"""The Storage API's clients, for the scenarios that read or write through it.

BIGQUERY_STORAGE names its plain address (host:port); absent under `hansard exec`."""

import os

import grpc
from google.cloud import bigquery_storage_v1 as storage
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

ADDRESS = os.environ.get("BIGQUERY_STORAGE")


def read_client():
    if ADDRESS is None:
        return storage.BigQueryReadClient()
    return storage.BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=grpc.insecure_channel(ADDRESS)))


def write_client():
    if ADDRESS is None:
        return storage.BigQueryWriteClient()
    return storage.BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=grpc.insecure_channel(ADDRESS)))
