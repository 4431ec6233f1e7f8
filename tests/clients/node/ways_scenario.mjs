// @google-cloud/bigquery in a program that names no address and no credential: both are in its environment.
// Straight at the emulator, the address is given; see ../README.md.

import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {bigquery, DATASET, step} from './common.mjs';

const people = bigquery.dataset(DATASET).table('people');
const files = mkdtempSync(join(tmpdir(), 'scenario-'));
const rows = async query => (await bigquery.query(query))[0];

await step('create_dataset', async () => (await bigquery.createDataset(DATASET, {location: 'US'}))[0].id);
await step('create_table', () => rows(`CREATE TABLE ${DATASET}.people (id INT64, name STRING)`));
await step('load', load);
await step('insert_rows', async () => void (await people.insert([{id: 3, name: 'Cy'}])));
await step('query', () => rows(`SELECT name FROM ${DATASET}.people WHERE id < 3 ORDER BY id`));
await step('query_job', async () => {
  const [job] = await bigquery.createQueryJob(`SELECT COUNT(*) AS n FROM ${DATASET}.people`);
  return (await job.getQueryResults())[0];
});
await step('list_rows', async () => (await people.getRows())[0].map(row => row.id).sort());
await step('error_missing_table', async () => (await bigquery.dataset(DATASET).table('nowhere').getMetadata())[0].id);
await step('delete_dataset', async () => void (await bigquery.dataset(DATASET).delete({force: true})));
rmSync(files, {recursive: true});

async function load() {
  const file = join(files, 'people.csv');
  writeFileSync(file, 'id,name\n1,Ada\n2,Bo\n');
  const [job] = await people.load(file, {sourceFormat: 'CSV', skipLeadingRows: 1});
  return job.statistics.load.outputRows;
}
