// @google-cloud/bigquery-storage, doing what its users do; see ../README.md for the environment.
//
// BIGQUERY_STORAGE names the Storage API's plain address (host:port); absent under `hansard exec`.

import {adapt, managedwriter, reader} from '@google-cloud/bigquery-storage';
import {createRequire} from 'node:module';
import {bigquery, DATASET, PROJECT, step} from './common.mjs';

const {JSONWriter, WriterClient} = managedwriter;
const ROWS = 20000;
const written = `projects/${PROJECT}/datasets/${DATASET}/tables/written`;

// The client that the library itself was built on, for a channel without TLS.
function options() {
  if (!process.env.BIGQUERY_STORAGE) return {};
  const {grpc} = createRequire(import.meta.url)('google-gax');
  const [apiEndpoint, port] = process.env.BIGQUERY_STORAGE.split(':');
  return {apiEndpoint, port: Number(port), sslCreds: grpc.credentials.createInsecure()};
}

async function main() {
  await step('create_dataset', async () => (await bigquery.createDataset(DATASET, {location: 'US'}))[0].id);
  await step('create_tables', createTables);
  await reads();
  await writes();
  await step('delete_dataset', async () => void (await bigquery.dataset(DATASET).delete({force: true})));
}

async function createTables() {
  const names = "SELECT n AS id, CONCAT('name ', CAST(n AS STRING)) AS name, n * 1.5 AS score";
  await bigquery.query(`CREATE TABLE ${DATASET}.people AS ${names} FROM UNNEST(GENERATE_ARRAY(1, ${ROWS})) AS n`);
  await bigquery.query(`CREATE TABLE ${DATASET}.written (id INT64, name STRING)`);
}

async function reads() {
  const client = new reader.ReadClient(options());
  await step('read_rows', async () => summed(await rowsOf(client, 'people')));
  await step('read_selected', async () => {
    const rows = await rowsOf(client, 'people', {selectedFields: 'name'});
    return {rows: rows.length, cells: rows[0].f.length, alike: rows.every(row => row.f[0].v.startsWith('name '))};
  });
  await step('read_missing_table', () => rowsOf(client, 'nowhere'));
  client.close();
}

async function rowsOf(client, tableId, options) {
  const table = await client.createTableReader({table: {projectId: PROJECT, datasetId: DATASET, tableId}});
  const [rows] = await table.getRows(options);
  return rows;
}

const summed = rows => ({rows: rows.length, total: rows.reduce((sum, row) => sum + Number(row.f[0].v), 0)});

async function writes() {
  const client = new WriterClient(options());
  await step('append_default', () => appended(client, managedwriter.DefaultStream, 0));
  await step('append_committed', () => appended(client, managedwriter.CommittedStream, 100));
  await step('append_pending', async () => {
    const before = await counted();
    const stream = await appended(client, managedwriter.PendingStream, 200);
    return {before, stream, after: await counted()};
  });
  client.close();
}

async function appended(client, kind, first) {
  const isDefault = kind === managedwriter.DefaultStream;
  const [{schema}] = await bigquery.dataset(DATASET).table('written').getMetadata();
  const protoDescriptor = adapt.convertStorageSchemaToProto2Descriptor(adapt.convertBigQuerySchemaToStorageTableSchema(schema), 'root');
  const stream = isDefault ? {streamId: kind} : {streamType: kind};
  const connection = await client.createStreamConnection({...stream, destinationTable: written});
  const writer = new JSONWriter({connection, protoDescriptor});
  const rows = Array.from({length: 10}, (_, n) => ({id: first + n, name: `written ${first + n}`}));
  const answer = await writer.appendRows(rows).getResult();
  const done = {error: answer.error?.message ?? null};
  if (!isDefault) {
    done.offset = Number(answer.appendResult.offset?.value);
    done.finalized = Number((await connection.finalize()).rowCount);
  }
  if (kind === managedwriter.PendingStream) {
    const commit = await client.batchCommitWriteStream({parent: written, writeStreams: [connection.getStreamId()]});
    done.errors = commit.streamErrors?.length ?? 0;
  }
  writer.close();
  return done;
}

async function counted() {
  const [rows] = await bigquery.query(`SELECT COUNT(*) AS n, SUM(id) AS total FROM ${DATASET}.written`);
  return rows;
}

await main();
