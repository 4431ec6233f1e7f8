// @google-cloud/bigquery, doing what its users do; see ../README.md for the environment.

import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {BigQueryDate, BigQueryTimestamp} from '@google-cloud/bigquery';
import {bigquery, DATASET, step} from './common.mjs';

const dataset = bigquery.dataset(DATASET);
const files = mkdtempSync(join(tmpdir(), 'scenario-'));

async function rows(query, options = {}) {
  const [found] = await bigquery.query({query, ...options});
  return found;
}

async function viaJob(query, options = {}) {
  const [job] = await bigquery.createQueryJob({query, ...options});
  const [found] = await job.getQueryResults();
  return {rows: found, job};
}

async function affected(query) {
  const {job} = await viaJob(query);
  const [metadata] = await job.getMetadata();
  const {statementType, numDmlAffectedRows} = metadata.statistics.query;
  return {statement: statementType, affected: numDmlAffectedRows ?? null};
}

function file(name, text) {
  const path = join(files, name);
  writeFileSync(path, text);
  return path;
}

const numbers = count => `SELECT n FROM UNNEST(GENERATE_ARRAY(1, ${count})) AS n ORDER BY n`;
const summed = found => ({rows: found.length, total: found.reduce((sum, row) => sum + Number(row.n ?? row.id), 0)});

async function main() {
  await step('create_dataset', async () => (await bigquery.createDataset(DATASET, {location: 'US'}))[0].id);
  await queries();
  await parameters();
  await types();
  await ddlAndDml();
  await writes();
  await reads();
  await metadata();
  await errors();
  await step('delete_dataset', async () => void (await dataset.delete({force: true})));
  await step('dataset_is_gone', async () => (await dataset.exists())[0]);
  rmSync(files, {recursive: true});
}

async function queries() {
  await step('query', () => rows("SELECT 1 AS x, 'a' AS y"));
  await step('query_empty', () => rows('SELECT 1 AS x FROM (SELECT 1) WHERE FALSE'));
  await step('query_job', async () => (await viaJob('SELECT 2 AS x')).rows);
  await step('query_job_labels', jobLabels);
  await step('query_stream', queryStream);
  await step('query_paged', async () => summed(await rows(numbers(5000), {maxResults: 1000})));
  await step('query_job_pages', queryJobPages);
  await step('script', async () => (await viaJob('DECLARE x INT64 DEFAULT 41; SET x = x + 1; SELECT x AS answer;')).rows);
  await step('dry_run', dryRun);
}

async function jobLabels() {
  const [job] = await bigquery.createQueryJob({query: 'SELECT 1 AS x', labels: {team: 'data'}});
  return job.metadata.configuration.labels?.team ?? null;
}

async function queryStream() {
  const found = [];
  for await (const row of bigquery.createQueryStream(numbers(10))) found.push(row.n);
  return found;
}

async function queryJobPages() {
  const [job] = await bigquery.createQueryJob({query: numbers(2500)});
  const pages = [];
  let next = {maxResults: 1000, autoPaginate: false};
  while (next) {
    const [found, following] = await job.getQueryResults(next);
    pages.push(summed(found));
    next = following;
  }
  return pages;
}

async function dryRun() {
  const [job] = await bigquery.createQueryJob({query: 'SELECT 1 AS x', dryRun: true});
  return {state: job.metadata.status.state, bytes: job.metadata.statistics.totalBytesProcessed};
}

async function parameters() {
  await step('params_named', () =>
    rows('SELECT @i AS i, @s AS s, @b AS b, @f AS f', {params: {i: 7, s: 'it\'s “quoted”\n', b: true, f: 0.25}}),
  );
  await step('params_positional', () => rows('SELECT ? + ? AS total', {params: [40, 2]}));
  await step('params_array', () => rows('SELECT n FROM UNNEST(@ns) AS n ORDER BY n', {params: {ns: [3, 1, 2]}}));
  await step('params_struct', () => rows('SELECT @p.name AS name, @p.age AS age', {params: {p: {name: 'Ada', age: 36}}}));
  await step('params_times', () =>
    rows('SELECT @d AS d, @t AS t', {
      params: {d: new BigQueryDate('2024-02-29'), t: new BigQueryTimestamp('2024-02-29T12:00:00.123456Z')},
    }),
  );
  await step('params_null', () => rows('SELECT @s IS NULL AS absent', {params: {s: null}, types: {s: 'STRING'}}));
}

async function types() {
  const queries = {
    int64: 'SELECT 42 AS v',
    int64_large: 'SELECT 9223372036854775807 AS v',
    float64: 'SELECT 0.1 AS v, 1e300 AS w',
    float64_special: "SELECT CAST('NaN' AS FLOAT64) AS v, CAST('-inf' AS FLOAT64) AS w",
    numeric: "SELECT NUMERIC '12345678901234567890.123456789' AS v",
    bool: 'SELECT TRUE AS v',
    string: "SELECT 'naïve 日本語 😀\\n\\t' AS v",
    bytes: "SELECT FROM_HEX('0001ff') AS v",
    date: "SELECT DATE '2024-02-29' AS v",
    datetime: "SELECT DATETIME '2024-02-29 23:59:59.999999' AS v",
    time: "SELECT TIME '23:59:59.000001' AS v",
    timestamp: "SELECT TIMESTAMP '2024-02-29 12:00:00.123456+00' AS v",
    array: 'SELECT [1, 2, 3] AS v',
    struct: "SELECT STRUCT(1 AS a, STRUCT('x' AS c) AS b) AS v",
    array_of_struct: "SELECT ARRAY<STRUCT<a INT64, b STRING>>[(1, 'x'), (2, 'y')] AS v",
    json: 'SELECT JSON \'{"a": [1, 2.5, null]}\' AS v',
    null: 'SELECT NULL AS v, CAST(NULL AS TIMESTAMP) AS w',
  };
  for (const [name, query] of Object.entries(queries)) {
    await step(`type_${name}`, () => rows(query, {wrapIntegers: name === 'int64_large'}));
  }
}

async function ddlAndDml() {
  const people = `\`${DATASET}.people\``;
  await step('ddl_create_table', () => affected(`CREATE TABLE ${people} (id INT64, name STRING)`));
  await step('dml_insert', () => affected(`INSERT INTO ${people} (id, name) VALUES (1, 'Ada'), (2, 'Bo')`));
  await step('dml_update', () => affected(`UPDATE ${people} SET name = 'Bob' WHERE id = 2`));
  await step('dml_delete', () => affected(`DELETE FROM ${people} WHERE id = 1`));
  await step('dml_rows', () => rows(`SELECT * FROM ${people} ORDER BY id`));
  await step('ddl_create_view', () => affected(`CREATE VIEW \`${DATASET}.names\` AS SELECT name FROM ${people}`));
}

async function writes() {
  const schema = 'id:INTEGER, name:STRING';
  await step('create_table', async () => (await dataset.createTable('items', {schema}))[0].metadata.schema.fields);
  await step('insert_all', async () => void (await dataset.table('items').insert([{id: 1, name: 'nail'}, {id: 2, name: 'nut'}])));
  await step('insert_all_partly_bad', () => dataset.table('items').insert([{id: 'not a number'}, {id: 3}], {skipInvalidRows: true}));
  await step('load_csv', () => loaded('from_csv', file('rows.csv', csv(2500)), {sourceFormat: 'CSV', skipLeadingRows: 1, schema: {fields: [{name: 'id', type: 'INTEGER'}, {name: 'name', type: 'STRING'}]}}));
  await step('load_ndjson', () => loaded('from_ndjson', file('rows.json', '{"id":1,"name":"é"}\n{"id":2,"name":"x"}\n'), {sourceFormat: 'NEWLINE_DELIMITED_JSON', autodetect: true}));
  await step('load_stream', loadStream);
  await step('copy_table', async () => (await dataset.table('from_ndjson').copy(dataset.table('copied')))[0].status.state);
}

function csv(count) {
  return 'id,name\n' + Array.from({length: count}, (_, n) => `${n},"row, ${n}"\n`).join('');
}

async function loaded(table, path, options) {
  const [job] = await dataset.table(table).load(path, options);
  return {state: job.status.state, rows: job.statistics.load.outputRows};
}

function loadStream() {
  return new Promise((resolve, reject) => {
    const stream = dataset.table('streamed').createWriteStream({sourceFormat: 'NEWLINE_DELIMITED_JSON', autodetect: true});
    stream.on('error', reject);
    stream.on('complete', job => resolve(job.metadata.statistics.load.outputRows));
    stream.end('{"id":1}\n{"id":2}\n');
  });
}

async function reads() {
  await step('get_rows', async () => (await dataset.table('items').getRows())[0].map(row => row.id).sort());
  await step('get_rows_paged', async () => summed((await dataset.table('from_csv').getRows({maxResults: 1000}))[0]));
  await step('get_rows_pages', getRowsPages);
  await step('get_rows_fields', async () => (await dataset.table('items').getRows({selectedFields: 'id', maxResults: 1}))[0]);
  await step('row_stream', rowStream);
}

async function getRowsPages() {
  const pages = [];
  let next = {maxResults: 1000, autoPaginate: false};
  while (next) {
    const [found, following] = await dataset.table('from_csv').getRows(next);
    pages.push(found.length);
    next = following;
  }
  return pages;
}

async function rowStream() {
  let count = 0;
  for await (const row of dataset.table('from_csv').createReadStream()) count += row.name ? 1 : 0;
  return count;
}

async function metadata() {
  await step('get_datasets', async () => (await bigquery.getDatasets())[0].some(each => each.id === DATASET));
  await step('get_tables', async () => (await dataset.getTables())[0].map(table => `${table.id} ${table.metadata.type}`).sort());
  await step('table_metadata', async () => (await dataset.table('people').getMetadata())[0].schema.fields);
  await step('set_metadata', async () => (await dataset.table('items').setMetadata({description: 'described'}))[0].description);
  await step('exists', async () => [(await dataset.table('items').exists())[0], (await dataset.table('nowhere').exists())[0]]);
  await step('delete_table', async () => void (await dataset.table('copied').delete()));
}

async function errors() {
  await step('error_syntax', async () => (await viaJob('SELEC 1')).rows);
  await step('error_missing_table_in_query', async () => (await viaJob(`SELECT * FROM \`${DATASET}.nowhere\``)).rows);
  await step('error_missing_table', async () => (await dataset.table('nowhere').getMetadata())[0].id);
  await step('error_missing_dataset', async () => (await bigquery.dataset(`${DATASET}_nowhere`).getMetadata())[0].id);
  await step('error_missing_job', async () => (await bigquery.job('scenario-no-such-job').getMetadata())[0].id);
  await step('error_dataset_exists', async () => (await bigquery.createDataset(DATASET))[0].id);
}

await main();
